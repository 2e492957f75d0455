//! Which root is whose partner.
//!
//! ```text
//!   CR3 bit 12      0             1
//!              kernel root   user root        one naturally aligned block of 8 KiB
//!              [ same tables | same tables ]  user half
//!              [ everything  | a little    ]  kernel half
//! ```
//!
//! Bit 12 alone does not tell: without isolation a root may lie anywhere, beside another process's. Both roots of a
//! pair name the same tables in their user halves, and the user root names less, or something else, in its kernel half.
//!
//! A kernel that can switch isolation off while it runs has processes whose ring 3 is on the kernel root on purpose.
//! Then the CPU's gates are none that work under the user root: its IDT is not mapped there.

use crate::USER_ROOT;
use crate::cpu::Cpu;
use crate::document::Caught;
use crate::entry::{ADDRESS, ENTRIES, Entry, decode};
use crate::tables::{TableCache, Tables};

/// The roots that one CPU's user mode and kernel run under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What ring 3 runs under.
    pub user: u64,
    /// What the kernel runs under, if that is known to be another root.
    pub kernel: Option<u64>,
    /// The user root that belongs to `user`, though ring 3 runs under `user`.
    pub unused_user: Option<u64>,
    /// That is so on purpose: the CPU's ways in are not in that root.
    pub switched_off: bool,
    /// How this is known.
    pub caught: Caught,
}

/// The roots of a CPU. `kernel_cr3` names the kernel's root, for kernels whose roots do not lie in pairs; roots that do
/// are found without.
pub fn pair(cache: &TableCache, cpu: &Cpu, kernel_cr3: Option<u64>) -> Pair {
    let root = cpu.root();
    let (lower, upper) = (root & !USER_ROOT, root | USER_ROOT);
    // Of a CPU in the kernel nothing says that its root is one that user mode runs under.
    let other = kernel_cr3.filter(|_| cpu.in_ring_3()).map(|cr3| cr3 & ADDRESS);
    let other = other.filter(|kernel| *kernel != root);
    let paired = are_pair(cache, cpu, lower, upper);
    let caught = match (cpu.in_ring_3(), paired) {
        (true, _) => Caught::Ring3,
        (false, true) => Caught::PairInKernel,
        (false, false) => Caught::RootInKernel,
    };
    let alone = Pair { user: root, kernel: other, unused_user: None, switched_off: false, caught };
    // A source that does not know the table says 0.
    let gates_hidden =
        |idt| idt != 0 && Tables::new(cache, upper, cpu.paging()).translate(idt).is_none();
    match caught {
        _ if !paired => alone,
        _ if root == lower && gates_hidden(cpu.idt.base) => {
            Pair { unused_user: Some(upper), kernel: None, switched_off: true, ..alone }
        }
        Caught::Ring3 if root == lower => Pair { unused_user: Some(upper), ..alone },
        _ => Pair { user: upper, kernel: Some(lower), ..alone },
    }
}

/// Whether user mode could run under a root: something is mapped in its user half.
pub fn has_user_half(cache: &TableCache, root: u64) -> bool {
    cache
        .table(root)
        .is_some_and(|entries| entries[..ENTRIES / 2].iter().any(|entry| entry & 1 == 1))
}

/// Whether `upper` is the user root of the kernel root `lower`.
fn are_pair(cache: &TableCache, cpu: &Cpu, lower: u64, upper: u64) -> bool {
    let paging = cpu.paging();
    let (Some(kernel), Some(user)) = (cache.table(lower), cache.table(upper)) else {
        return false;
    };
    let named = |entry: u64| match decode(entry, paging.levels, &paging) {
        Entry::Table(table) => Some(table),
        _ => None,
    };
    let half = ENTRIES / 2;
    let (mut same, mut different) = (0, 0);
    for (of_kernel, of_user) in kernel[..half].iter().zip(&user[..half]) {
        match (named(*of_kernel), named(*of_user)) {
            (None, None) => {}
            (kernel, user) if kernel == user => same += 1,
            _ => different += 1,
        }
    }
    let tables = |root: &[u64]| root[half..].iter().map(|entry| named(*entry)).collect::<Vec<_>>();
    let count = |tables: &[Option<u64>]| tables.iter().flatten().count();
    let (kernel, user) = (tables(&kernel[..]), tables(&user[..]));
    // A few slots may differ, by mistake of the kernel: that is a finding, and no reason to look elsewhere.
    same > 0 && same >= different && kernel != user && count(&user) <= count(&kernel)
}
