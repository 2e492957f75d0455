//! Locks and wait queues.
//!
//! Invariant: nobody sleeps, and nobody touches user memory, with a spin lock held. The kernel
//! runs with interrupts off, so a lock needs no interrupt-safe twin.

pub use spin::{Lazy, Mutex, MutexGuard, Once, RwLock};

/// Threads that wait for one condition.
pub struct WaitQueue;

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> WaitQueue {
        WaitQueue
    }

    /// Sleeps until `ready` gives a value. `deadline`: nanoseconds of [`crate::time::now`].
    ///
    /// # Errors
    /// EINTR-like `ERESTARTSYS` when a signal is pending, `ETIMEDOUT` when the deadline passed.
    pub fn wait_until<T>(
        &self,
        _deadline: Option<u64>,
        _ready: impl FnMut() -> Option<T>,
    ) -> crate::errno::Result<T> {
        todo!()
    }

    /// Wakes every waiter.
    pub fn wake_all(&self) {
        todo!()
    }

    /// Wakes the longest waiter.
    pub fn wake_one(&self) {
        todo!()
    }
}

/// Sleeps until any of `queues` is woken and `ready` gives a value (poll, select, epoll).
///
/// # Errors
/// As [`WaitQueue::wait_until`].
pub fn wait_on_any<T>(
    _queues: &[&WaitQueue],
    _deadline: Option<u64>,
    _ready: impl FnMut() -> Option<T>,
) -> crate::errno::Result<T> {
    todo!()
}
