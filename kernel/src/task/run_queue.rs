//! A CPU's run queue: threads that are awake and wait for it, first come, first served.
//!
//! Invariant: what is in a queue is alive, awake, in no other queue, and off its stack; so whoever takes it out may
//! switch to it at once, on any CPU that it may run on.

use super::thread::Thread;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::Relaxed;

/// The queue. Threads are linked through [`Thread::link`].
pub(super) struct RunQueue {
    head: *mut Thread,
    tail: *mut Thread,
}

// SAFETY: the pointers are to threads that the scheduler holds a reference to (see `thread`).
unsafe impl Send for RunQueue {}

impl RunQueue {
    /// An empty one.
    pub(super) const fn new() -> RunQueue {
        RunQueue { head: ptr::null_mut(), tail: ptr::null_mut() }
    }

    fn at(pointer: *mut Thread) -> Option<&'static Thread> {
        // SAFETY: queued threads are alive: the scheduler's reference goes only after the switch away from a dead
        // thread, and dead threads are never queued.
        NonNull::new(pointer).map(|thread| unsafe { thread.as_ref() })
    }

    /// Puts a thread at the end.
    #[inline]
    pub(super) fn push(&mut self, thread: &Thread) {
        let pointer = ptr::from_ref(thread).cast_mut();
        thread.link.store(ptr::null_mut(), Relaxed);
        match RunQueue::at(self.tail) {
            Some(tail) => tail.link.store(pointer, Relaxed),
            None => self.head = pointer,
        }
        self.tail = pointer;
    }

    /// Takes the first out.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<&'static Thread> {
        let thread = RunQueue::at(self.head)?;
        self.head = thread.link.load(Relaxed);
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        Some(thread)
    }

    /// Takes out the first that is `wanted`.
    pub(super) fn take(&mut self, wanted: impl Fn(&Thread) -> bool) -> Option<&'static Thread> {
        let mut before: Option<&Thread> = None;
        let mut thread = RunQueue::at(self.head)?;
        while !wanted(thread) {
            before = Some(thread);
            thread = RunQueue::at(thread.link.load(Relaxed))?;
        }
        let after = thread.link.load(Relaxed);
        match before {
            Some(before) => before.link.store(after, Relaxed),
            None => self.head = after,
        }
        if after.is_null() {
            self.tail = before.map_or(ptr::null_mut(), |before| ptr::from_ref(before).cast_mut());
        }
        Some(thread)
    }
}
