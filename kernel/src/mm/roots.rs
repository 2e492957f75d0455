//! Root pairs from the isolation library.

use crate::arch::frames::KernelFrames;
use crate::arch::isolation::isolation;
use crate::breaks::Break;
use crate::errno::{Errno, Result};
use crate::sync::Once;
use ringwall::AddressSpace;

static NOWHERE: Once<AddressSpace> = Once::new();

/// Makes the address space of CPUs that have nothing to run and nothing left to rest on. At boot.
pub fn start() {
    NOWHERE.call_once(|| make().expect("no memory for the first page tables"));
}

/// It has no user memory.
pub(super) fn nowhere() -> &'static AddressSpace {
    NOWHERE.get().expect("made at boot")
}

/// A pair of roots with an empty user half.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn make() -> Result<AddressSpace> {
    let roots = AddressSpace::new(&isolation().lock(), &mut KernelFrames);
    let roots = roots.map_err(|_| Errno::ENOMEM)?;
    if Break::TaskStackVisible.is_on() {
        show_task_stacks(&roots);
    }
    if Break::GlobalSplit.is_on() {
        make_text_global(&roots);
    }
    Ok(roots)
}

/// The deliberate break: the task stacks' tables in the user root, which the isolation tests must see.
fn show_task_stacks(roots: &AddressSpace) {
    use super::layout::{direct, stacks};
    use ringwall::core::paging::index;
    let kernel: *mut u64 = direct(roots.kernel_root().start_address().as_u64()).cast();
    let slot = index(4, stacks());
    // SAFETY: the pair is ours alone as yet: 512 entries of the kernel root, then the user root's.
    unsafe { kernel.add(512 + slot).write(kernel.add(slot).read()) };
}

/// The deliberate break: the user view of the entry text is global, and so outlives the switch to the
/// kernel root, where that page goes on. QEMU's TCG drops it all the same, Bochs does not.
fn make_text_global(roots: &AddressSpace) {
    use super::layout::direct;
    use crate::arch::isolation::boot_cpu;
    use ringwall::core::paging::{ADDRESS_MASK, GLOBAL, index};
    use x86_64::registers::control::{Cr4, Cr4Flags};
    let text = boot_cpu().text();
    let mut table = roots.kernel_root().start_address().as_u64() + 4096;
    for level in [4, 3, 2, 1] {
        let table_pointer: *mut u64 = direct(table).cast();
        // SAFETY: a table of the user root's kernel half, which is the same for all of them and has
        // that page.
        let entry = unsafe { &mut *table_pointer.add(index(level, text)) };
        if level == 1 {
            *entry |= GLOBAL;
        }
        table = *entry & ADDRESS_MASK;
    }
    // SAFETY: every CPU with long mode has global pages. That one is wrong here is the point.
    unsafe { Cr4::update(|control| control.insert(Cr4Flags::PAGE_GLOBAL)) };
}

/// Gives a pair back.
///
/// # Safety
/// No CPU runs on it or will, and its user half has no tables any more.
pub(super) unsafe fn release(roots: AddressSpace) {
    // SAFETY: the caller's promise.
    unsafe { roots.release(&mut KernelFrames) };
}
