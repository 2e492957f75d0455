//! Root pairs from the isolation library.

use crate::arch::frames::KernelFrames;
use crate::arch::isolation::isolation;
use crate::errno::{Errno, Result};
use ringwall::AddressSpace;

/// A pair of roots with an empty user half.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn make() -> Result<AddressSpace> {
    let roots = AddressSpace::new(&isolation().lock(), &mut KernelFrames);
    let roots = roots.map_err(|_| Errno::ENOMEM)?;
    #[cfg(feature = "break-task-stack-visible")]
    show_task_stacks(&roots);
    Ok(roots)
}

/// The deliberate break: the task stacks' tables in the user root, which the isolation tests must see.
#[cfg(feature = "break-task-stack-visible")]
fn show_task_stacks(roots: &AddressSpace) {
    use super::layout::{STACKS, direct};
    use ringwall::core::paging::index;
    let kernel: *mut u64 = direct(roots.kernel_root().start_address().as_u64()).cast();
    let slot = index(4, STACKS);
    // SAFETY: the pair is ours alone as yet: 512 entries of the kernel root, then the user root's.
    unsafe { kernel.add(512 + slot).write(kernel.add(slot).read()) };
}

/// Gives a pair back.
///
/// # Safety
/// No CPU runs on it or will, and its user half has no tables any more.
pub(super) unsafe fn release(roots: AddressSpace) {
    // SAFETY: the caller's promise.
    unsafe { roots.release(&mut KernelFrames) };
}
