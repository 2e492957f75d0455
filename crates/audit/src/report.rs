//! The comparison of the two roots of a pair.
//!
//! ```text
//!   kernel root  [ user half, NX ]  [ kernel image, direct map, stacks ... ][ entry area ]
//!   user root    [ user half     ]                                         [ entry area ]
//!                                     kernel-only: no pointer to here        supervisor pages,
//!                                     may stand in the entry area            each reported
//! ```

use std::collections::HashSet;

use crate::leaves::{ADDRESS, Leaf, PRESENT, leaves};
use crate::{Error, PhysicalMemory, USER_ROOT};

/// First address of the kernel half, with four or five levels: what has the sign bit set.
const KERNEL_HALF: u64 = 1 << 63;

/// Eight bytes in a user-visible page that are the address of kernel-only memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Virtual address of the eight bytes, under the user root. Any alignment.
    pub at: u64,
    /// What they say.
    pub value: u64,
}

/// What user mode can see of the kernel, under one CR3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether CR3 holds the user root of a pair. Without isolation there is one root for both:
    /// then everything that the kernel maps is in `pages`, and the other lists are empty.
    pub isolated: bool,
    /// Every supervisor page that the root in CR3 maps, in ascending order.
    pub pages: Vec<Leaf>,
    /// Every pointer to kernel-only memory, or just past it, in the contents of `pages`.
    pub pointers: Vec<Pointer>,
    /// User pages that the kernel root lets the CPU execute: the tripwire for a return to ring 3
    /// without the switch is not armed there.
    pub executable: Vec<Leaf>,
}

impl Report {
    /// Bytes of supervisor memory that user mode's tables map. Memory that is mapped at several
    /// addresses counts once.
    pub fn total(&self) -> u64 {
        self.distinct().iter().map(|page| page.size).sum()
    }

    /// `pages` without further addresses of the same memory: Linux shows each CPU's espfix stack
    /// under 65,536 of them.
    pub fn distinct(&self) -> Vec<Leaf> {
        distinct(&self.pages)
    }
}

/// The first of all pages with the same physical address, for each.
fn distinct(pages: &[Leaf]) -> Vec<Leaf> {
    let mut seen = HashSet::new();
    pages.iter().copied().filter(|page| seen.insert(page.physical)).collect()
}

/// Says what user mode can see when it runs with `cr3`, in a guest with page tables of `levels`
/// levels (4, or 5 with CR4.LA57). The guest must be stopped.
///
/// # Errors
///
/// When the tables or the pages they show are not in the guest's memory: see [`Error`].
pub fn audit(memory: &dyn PhysicalMemory, cr3: u64, levels: u8) -> Result<Report, Error> {
    let visible = leaves(memory, cr3, levels)?;
    let pages: Vec<Leaf> = visible.iter().copied().filter(|page| !page.user).collect();
    if !is_user_root(memory, cr3)? {
        return Ok(Report { pages, ..Report::default() });
    }
    let kernel = leaves(memory, cr3 & !USER_ROOT, levels)?;
    let secret: Vec<Leaf> = kernel.iter().copied().filter(|page| !page.user).collect();
    let kernel_only = |address| holds(&secret, address) && !holds(&visible, address);
    // The address just past a region gives it away too: that is what the top of a stack looks like.
    let is_secret = |address: u64| {
        kernel_only(address) || (kernel_only(address.wrapping_sub(1)) && !holds(&visible, address))
    };

    let mut pointers = Vec::new();
    for page in distinct(&pages) {
        search(memory, &page, &is_secret, &mut pointers)?;
    }
    let executable =
        kernel.into_iter().filter(|page| page.address < KERNEL_HALF && page.executable).collect();
    Ok(Report { isolated: true, pages, pointers, executable })
}

/// Whether `cr3` holds the user root of a pair. Bit 12 alone does not tell: without isolation a root may lie
/// anywhere. Both roots of a pair share the tables of the user half, and something is mapped there.
fn is_user_root(memory: &dyn PhysicalMemory, cr3: u64) -> Result<bool, Error> {
    if cr3 & USER_ROOT == 0 {
        return Ok(false);
    }
    let user = user_half(memory, cr3 & ADDRESS)?;
    let Ok(kernel) = user_half(memory, cr3 & ADDRESS & !USER_ROOT) else { return Ok(false) };
    Ok(user == kernel && user.iter().any(Option::is_some))
}

/// The tables that the user half of a root names.
fn user_half(memory: &dyn PhysicalMemory, root: u64) -> Result<Vec<Option<u64>>, Error> {
    let mut half = [0; 2048];
    if !memory.read(root, &mut half) {
        return Err(Error::Root { address: root });
    }
    let entries = half.chunks_exact(8);
    let entries =
        entries.map(|entry| u64::from_le_bytes(entry.try_into().expect("chunks of eight")));
    Ok(entries.map(|entry| (entry & PRESENT != 0).then_some(entry & ADDRESS)).collect())
}

/// Whether one of `pages`, which ascend, holds `address`.
fn holds(pages: &[Leaf], address: u64) -> bool {
    let after = pages.partition_point(|page| page.address <= address);
    after > 0 && pages[after - 1].contains(address)
}

/// Adds every eight-byte word of `page`, at any alignment, that `is_secret`.
fn search(
    memory: &dyn PhysicalMemory,
    page: &Leaf,
    is_secret: &dyn Fn(u64) -> bool,
    found: &mut Vec<Pointer>,
) -> Result<(), Error> {
    let mut contents = vec![0; page.size as usize];
    if !memory.read(page.physical, &mut contents) {
        return Err(Error::Page { address: page.address });
    }
    for (word, offset) in contents.windows(8).zip(0..) {
        let value = u64::from_le_bytes(word.try_into().expect("windows of eight"));
        if is_secret(value) {
            found.push(Pointer { at: page.address + offset, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{Guest, NX, P, U, W};

    const KERNEL: u64 = Guest::ROOT;
    const USER: u64 = Guest::ROOT | USER_ROOT;
    const PROGRAM: u64 = 0x40_0000;
    const IMAGE: u64 = 0xffff_ffff_8000_0000;
    const ENTRY: u64 = 0xffff_ffff_f000_0000;

    /// A guest that does everything right: one user page, one kernel page, one entry page.
    fn isolated() -> Guest {
        let mut guest = Guest::new();
        guest.map(USER, PROGRAM, 0x8000, P | U);
        let programs = guest.table_of(USER, PROGRAM, 3);
        guest.change(KERNEL, 0, |_| programs | P | W | U | NX);
        guest.map(KERNEL, IMAGE, 0x9000, P | W);
        guest.map(KERNEL, ENTRY, 0xa000, P);
        guest.map(USER, ENTRY, 0xb000, P);
        // Into the entry area itself, to its end, into the program, to nowhere: all harmless.
        guest.write(0xb000, ENTRY + 8);
        guest.write(0xb018, ENTRY + 0x1000);
        guest.write(0xb008, PROGRAM);
        guest.write(0xb010, 0xffff_9999_0000_0000);
        guest
    }

    fn report(guest: &Guest, cr3: u64) -> Report {
        audit(&guest.memory(), cr3, 4).expect("sane tables")
    }

    #[test]
    fn a_sound_guest_shows_its_entry_page_only() {
        let report = report(&isolated(), USER);
        assert!(report.isolated);
        assert_eq!(report.total(), 0x1000);
        assert_eq!(report.pages[0].address, ENTRY);
        assert_eq!(report.pages[0].rights(), "r-x");
        assert_eq!(report.pointers, []);
        assert_eq!(report.executable, []);
    }

    #[test]
    fn a_kernel_pointer_is_found_at_any_alignment() {
        let mut guest = isolated();
        guest.write(0xb803, IMAGE + 0x123);
        let pointers = report(&guest, USER).pointers;
        assert_eq!(pointers, [Pointer { at: ENTRY + 0x803, value: IMAGE + 0x123 }]);
    }

    #[test]
    fn the_top_of_a_kernel_stack_is_found_though_nothing_is_mapped_there() {
        let mut guest = isolated();
        guest.write(0xb100, IMAGE + 0x1000);
        assert_eq!(report(&guest, USER).pointers.len(), 1);
    }

    #[test]
    fn memory_under_two_addresses_counts_once() {
        let mut guest = isolated();
        guest.map(USER, ENTRY + 0x10_0000, 0xb000, P);
        let report = report(&guest, USER);
        assert_eq!((report.pages.len(), report.total()), (2, 0x1000));
    }

    #[test]
    fn a_stack_in_the_user_root_is_found() {
        let mut guest = isolated();
        guest.map(USER, IMAGE, 0x9000, P | W | NX);
        let report = report(&guest, USER);
        assert_eq!(report.total(), 0x2000);
        assert_eq!(report.pages[0].rights(), "rw-");
    }

    #[test]
    fn a_missing_nx_is_found() {
        let mut guest = isolated();
        guest.change(KERNEL, 0, |entry| entry & !NX);
        assert_eq!(report(&guest, USER).executable.len(), 1);
    }

    #[test]
    fn a_root_that_lies_where_a_user_root_may_is_not_taken_for_one() {
        let mut guest = Guest::new();
        guest.map(USER, PROGRAM, 0x8000, P | U);
        guest.map(USER, IMAGE, 0x9000, P | W);
        // What happens to lie below it is data, not tables.
        guest.write(KERNEL, 0x13_0000_0027);
        let report = report(&guest, USER);
        assert!(!report.isolated);
        assert_eq!(report.total(), 0x1000);
    }

    #[test]
    fn without_isolation_everything_shows() {
        let report = report(&isolated(), KERNEL);
        assert!(!report.isolated);
        assert_eq!(report.total(), 0x2000);
        assert_eq!(report.pointers, []);
    }
}
