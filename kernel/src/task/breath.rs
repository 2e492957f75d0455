//! What keeps a long call from having its CPU alone.
//!
//! The kernel runs with interrupts off. A CPU that copies gigabytes for a program hears of nothing meanwhile: not of its
//! timer, not of a kill, not of a flush that another CPU waits for, which [`cross`](crate::sync::cross) does not do for
//! ever.
//!
//! ```text
//!   a loop over what a program has chosen    no lock held: Breath, was_killed()  interrupts, other threads, kills
//!                                            a lock held: cross::serve()         what other CPUs wait for, no more
//! ```
//!
//! Who copies a gigabyte a second breathes every quarter of a millisecond, and in an emulator every few.

use super::{breathe, current, work};
use crate::arch::cpu;

/// Bytes of addresses whose pages are made present between two breaths.
pub const BREATH: u64 = 2 << 20;
/// Bytes copied between two breaths.
const COPIED: u64 = 256 << 10;

/// Lets others have the CPU; whether the thread is being killed, so that its call has to end. With no lock held.
pub fn was_killed() -> bool {
    breathe();
    current().pending_work() & work::KILL != 0
}

/// When a call that moves bytes breathes.
pub struct Breath {
    left: u64,
}

impl Breath {
    /// The first one is due after 256 KiB.
    pub const fn start() -> Breath {
        Breath { left: COPIED }
    }

    /// The call has moved `bytes` more, and holds no lock. Gives whether it has to end: the thread is being killed.
    #[inline]
    pub fn ends_after(&mut self, bytes: usize) -> bool {
        match self.left.checked_sub(bytes as u64) {
            Some(left @ 1..) => {
                self.left = left;
                false
            }
            _ => self.take(),
        }
    }

    #[cold]
    #[inline(never)]
    fn take(&mut self) -> bool {
        self.left = COPIED;
        // The boot unpacks files before there is a thread.
        !cpu::current_thread().is_null() && was_killed()
    }
}
