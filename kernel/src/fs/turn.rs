//! A lock that may be held across a copy to or from user memory.
//!
//! One reader of a pipe at a time, one writer of a file at a time: whoever has the turn may fault
//! and sleep, which a spin lock forbids. Free, taking and giving it up are one atomic each.

use crate::errno::Result;
use crate::sync::WaitQueue;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Who may go now.
pub struct Turn {
    taken: AtomicBool,
    waiters: AtomicU32,
    queue: WaitQueue,
}

/// Holds the turn until dropped.
pub struct Taken<'a>(&'a Turn);

impl Turn {
    /// A free one.
    pub const fn new() -> Turn {
        Turn { taken: AtomicBool::new(false), waiters: AtomicU32::new(0), queue: WaitQueue::new() }
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// `ERESTARTSYS` when a signal came first.
    #[inline]
    pub fn take(&self) -> Result<Taken<'_>> {
        match self.try_take() {
            Some(taken) => Ok(taken),
            None => self.wait(),
        }
    }

    /// Takes the turn if it is free.
    #[inline]
    pub fn try_take(&self) -> Option<Taken<'_>> {
        // Not `then_some`: a `Taken` that is made and dropped would give up another's turn.
        (!self.taken.swap(true, Ordering::Acquire)).then(|| Taken(self))
    }

    /// Whether somebody has it.
    pub fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    #[cold]
    fn wait(&self) -> Result<Taken<'_>> {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let result = self.queue.wait_until(None, || self.try_take());
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        result
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        self.queue.wake_one();
    }
}

impl Default for Turn {
    fn default() -> Turn {
        Turn::new()
    }
}

impl Drop for Taken<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // The exchange orders the release before the look at the waiters; with a plain store a
        // waiter that just counted itself could be missed.
        self.0.taken.swap(false, Ordering::SeqCst);
        if self.0.waiters.load(Ordering::SeqCst) != 0 {
            self.0.wake();
        }
    }
}
