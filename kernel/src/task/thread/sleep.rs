//! How a thread sleeps and is woken: its state word.
//!
//! ```text
//!   awake ── prepare_to_sleep ──► about to sleep ── leave_queue ──► off its stack ──► on a queue again, awake
//!                                       └────── wake: awake ◄───────────┘ wake
//! ```
//!
//! Invariant: who changes the word to awake from "off its stack" puts the thread on a queue, and nobody else does.

use super::{Thread, work};
use crate::task::scheduler;
use core::sync::atomic::{Ordering, fence};

/// How a thread sleeps, or which sleepers a wake-up is for: a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sleep(pub(super) u32);

impl Sleep {
    /// Signals end the sleep.
    pub const INTERRUPTIBLE: Sleep = Sleep(1);
    /// Only being killed ends it.
    pub const KILLABLE: Sleep = Sleep(2);
    /// Nothing but the event ends it.
    pub const UNINTERRUPTIBLE: Sleep = Sleep(4);
    /// Stopped by a signal.
    pub const STOPPED: Sleep = Sleep(8);
    /// Stopped for a tracer.
    pub const TRACED: Sleep = Sleep(16);
    /// Stopped for a tracer that is at work on it: nothing wakes it before that has ended.
    pub(super) const FROZEN: Sleep = Sleep(32);
    /// Every sleep that waits for an event.
    pub const ANY: Sleep = Sleep(7);
    /// Every sleep that a kill ends.
    pub const KILL: Sleep = Sleep(1 | 2 | 8 | 16);
}

/// [`Thread::state`]: 0 while running or waiting for a CPU, else the [`Sleep`] and these.
const AWAKE: u32 = 0;
/// The sleeper has left its run queue; waking it means to put it back.
pub(super) const OFF_QUEUE: u32 = 1 << 8;
const DEAD: u32 = 1 << 9;

impl Thread {
    /// Letter of /proc/PID/stat: R, S, D, T, Z.
    pub fn state_letter(&self) -> char {
        let state = self.state.load(Ordering::Relaxed);
        if state & DEAD != 0 {
            'X'
        } else if state & Sleep::STOPPED.0 != 0 {
            'T'
        } else if state & (Sleep::TRACED.0 | Sleep::FROZEN.0) != 0 {
            't'
        } else if state & Sleep::INTERRUPTIBLE.0 != 0 {
            'S'
        } else if state != AWAKE {
            'D'
        } else {
            'R'
        }
    }

    /// Marks the thread, which is the current one, as about to sleep.
    pub(crate) fn prepare_to_sleep(&self, how: Sleep) {
        // Sequentially consistent: the look at the condition that follows must not come before it.
        self.state.store(how.0, Ordering::SeqCst);
    }

    /// Takes back [`Thread::prepare_to_sleep`].
    pub(crate) fn stay_awake(&self) {
        self.state.store(AWAKE, Ordering::Release);
    }

    /// Wakes the thread if it sleeps in one of the ways of `kinds`. True if it did.
    pub fn wake(&self, kinds: Sleep) -> bool {
        // What the sleeper waits for was made true before this, and is seen by all before its state is looked at.
        fence(Ordering::SeqCst);
        loop {
            let state = self.state.load(Ordering::SeqCst);
            if state & kinds.0 == 0 {
                return false;
            }
            if self.state.compare_exchange(state, AWAKE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                if state & OFF_QUEUE != 0 {
                    scheduler::enqueue(self);
                }
                return true;
            }
        }
    }

    /// Keeps a thread that is stopped for its tracer where it is, off every CPU, until
    /// [`Thread::thaw`]. False if it is not stopped so.
    pub(crate) fn freeze(&self) -> bool {
        loop {
            let state = self.state.load(Ordering::SeqCst);
            if state & Sleep::TRACED.0 == 0 {
                return false;
            }
            let gone = Sleep::TRACED.0 | OFF_QUEUE;
            let frozen = Sleep::FROZEN.0 | OFF_QUEUE;
            // On another CPU it may still be on its way off its stack: it gets the mark when it is off it.
            if self.state.compare_exchange(gone, frozen, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                return true;
            }
            crate::sync::relax();
        }
    }

    /// Undoes [`Thread::freeze`]; a thread that has to end meanwhile wakes up.
    pub(crate) fn thaw(&self) {
        self.state.store(Sleep::TRACED.0 | OFF_QUEUE, Ordering::SeqCst);
        if self.pending_work() & work::KILL != 0 {
            self.wake(Sleep::TRACED);
        }
    }

    /// The thread, which was switched away from, is off its stack: true if it really sleeps, and who wakes it from
    /// now on puts it on a queue; false if it is awake.
    #[inline]
    pub(in crate::task) fn leave_queue(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state != AWAKE
            && self
                .state
                .compare_exchange(state, state | OFF_QUEUE, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    /// Whether it neither sleeps, nor is about to, nor has ended.
    #[inline(always)]
    pub(in crate::task) fn is_awake(&self) -> bool {
        self.state.load(Ordering::Acquire) == AWAKE
    }

    pub(in crate::task) fn set_dead(&self) {
        self.state.store(DEAD, Ordering::Release);
    }

    pub(in crate::task) fn is_dead(&self) -> bool {
        self.state.load(Ordering::Relaxed) & DEAD != 0
    }
}
