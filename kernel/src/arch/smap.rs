//! Lifting SMAP for an access to user memory.
//!
//! Invariant: AC is set only between [`UserAccess::begin`] and its drop, and the entry code clears it
//! for every handler that interrupts such an access.

use core::sync::atomic::{AtomicBool, Ordering};

/// Whether it is on. `user::access` reads it from assembly.
pub(crate) static SMAP: AtomicBool = AtomicBool::new(false);

/// Tells that CR4.SMAP is on: STAC and CLAC exist. Each CPU says so; none comes up that differs from the boot CPU.
pub fn enabled() {
    SMAP.store(true, Ordering::Relaxed);
}

/// While it lives, ring 0 may access user memory.
#[must_use = "access ends when this is dropped"]
pub struct UserAccess(());

impl UserAccess {
    /// Begins.
    #[inline(always)]
    pub fn begin() -> UserAccess {
        if SMAP.load(Ordering::Relaxed) {
            // SAFETY: the CPU has SMAP.
            unsafe { core::arch::asm!("stac", options(nostack)) };
        }
        UserAccess(())
    }
}

impl Drop for UserAccess {
    #[inline(always)]
    fn drop(&mut self) {
        if SMAP.load(Ordering::Relaxed) {
            // SAFETY: the CPU has SMAP.
            unsafe { core::arch::asm!("clac", options(nostack)) };
        }
    }
}
