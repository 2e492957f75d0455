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
    AddressSpace::new(&isolation().lock(), &mut KernelFrames).map_err(|_| Errno::ENOMEM)
}

/// Gives a pair back.
///
/// # Safety
/// No CPU runs on it or will, and its user half has no tables any more.
pub(super) unsafe fn release(roots: AddressSpace) {
    // SAFETY: the caller's promise.
    unsafe { roots.release(&mut KernelFrames) };
}
