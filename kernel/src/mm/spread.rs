//! How far the parts of a new program's memory are moved at random, so that nobody knows where they are.
//!
//! Where a stack lies in its page table decides how many entries a walk looks at: some thousand instructions, more or
//! less, for a thread or a fork. Who counts asks for [`WORD`], as on Linux.

use crate::arch::random;
use core::sync::atomic::{AtomicBool, Ordering};

/// The word on the command line after which every program's memory is in the same place.
pub const WORD: &[u8] = b"norandmaps";

static FIXED: AtomicBool = AtomicBool::new(false);

/// Moves nothing from now on. At boot.
pub fn fix() {
    FIXED.store(true, Ordering::Relaxed);
}

/// A distance: the bits of `mask`, each set or not.
pub(super) fn spread(mask: u64) -> u64 {
    if FIXED.load(Ordering::Relaxed) { 0 } else { random::seed() & mask }
}
