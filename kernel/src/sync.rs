//! Locks and wait queues.
//!
//! Invariant: nobody sleeps, and nobody touches user memory, with a spin lock held. The kernel
//! runs with interrupts off, and lets them in only where no lock is held, so a lock needs no
//! interrupt-safe twin.
//!
//! No wake-up can be lost: a thread first says that it is about to sleep, then enrolls, then looks
//! at its condition. Whoever makes the condition true afterwards finds it enrolled, and puts its
//! state back to running, which makes the coming switch do nothing:
//!
//! ```text
//!   sleeper                              waker
//!   state = sleeping
//!   enroll in the queue                  make the condition true
//!   look at the condition                take the sleeper out of the queue
//!   switch away if still sleeping        state = running; put it on a run queue if it had left
//! ```
//!
//! Lock order: wait queue, then run queue. A condition may take locks of its own, which therefore
//! must not be held by whoever calls `wake_*` under the same lock and waits; wake after unlocking
//! where that is possible.

pub mod cross;
mod list;
mod own;
mod spinning;

pub use list::{Linked, Links, List};
pub use own::{Completion, Own};
pub use spinning::{Lazy, Mutex, MutexGuard, Once, RwLock, relax};

use crate::errno::{Errno, Result};
use crate::task::{self, Sleep, Thread};
use crate::time::Alarm;
use alloc::vec::Vec;

/// Threads that wait for one condition, longest waiter first.
pub struct WaitQueue {
    list: Mutex<List<Place>>,
}

/// A waiting thread's place in one queue, on its task stack.
struct Place {
    links: Links<Place>,
    thread: *const Thread,
}

impl Linked for Place {
    fn links(&self) -> &Links<Place> {
        &self.links
    }
}

impl Place {
    fn new(thread: &Thread) -> Place {
        Place { links: Links::new(), thread }
    }
}

/// Wakes the first waiter; false if there is none.
fn wake_first(list: &List<Place>) -> bool {
    let Some(place) = list.first() else { return false };
    // SAFETY: a thread cannot end while a place on its stack is in a list, and it takes the lock,
    // which the caller holds, before it leaves its stack.
    let thread = unsafe { &*place.thread };
    list.take_out(place);
    thread.wake(Sleep::ANY);
    true
}

impl Default for WaitQueue {
    fn default() -> Self {
        WaitQueue::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> WaitQueue {
        WaitQueue { list: Mutex::new(List::new()) }
    }

    /// Sleeps until `ready` gives a value. `deadline`: nanoseconds of [`crate::time::now`].
    ///
    /// # Errors
    /// EINTR-like `ERESTARTSYS` when a signal is pending, `ETIMEDOUT` when the deadline passed.
    pub fn wait_until<T>(
        &self,
        deadline: Option<u64>,
        ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        self.wait(Sleep::INTERRUPTIBLE, deadline, ready)
    }

    /// As [`WaitQueue::wait_until`], but only a signal that kills the thread ends the wait.
    ///
    /// # Errors
    /// `ERESTARTSYS` when the thread is being killed.
    pub fn wait_killable<T>(&self, ready: impl FnMut() -> Option<T>) -> Result<T> {
        self.wait(Sleep::KILLABLE, None, ready)
    }

    fn wait<T>(
        &self,
        how: Sleep,
        deadline: Option<u64>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T> {
        if let Some(value) = ready() {
            return Ok(value);
        }
        let place = Place::new(&task::current());
        // SAFETY: `place` stays until `leave` below.
        let enroll = || unsafe { self.enroll(&place) };
        let outcome = sleep_enrolled(how, deadline, enroll, ready);
        // A waker may have chosen this thread although it gives up: the wake-up is the next one's.
        if !self.leave(&place) && outcome.is_err() {
            self.wake_one();
        }
        outcome
    }

    /// # Safety
    /// `place` is not moved before [`WaitQueue::leave`] was called with it.
    unsafe fn enroll(&self, place: &Place) {
        let list = self.list.lock();
        if !list.contains(place) {
            // SAFETY: in no list; the caller keeps it.
            unsafe { list.push(place) };
        }
    }

    /// Takes the place out; whether it was still enrolled.
    fn leave(&self, place: &Place) -> bool {
        let list = self.list.lock();
        let enrolled = list.contains(place);
        if enrolled {
            list.take_out(place);
        }
        enrolled
    }

    /// Wakes every waiter.
    pub fn wake_all(&self) {
        let list = self.list.lock();
        while wake_first(&list) {}
    }

    /// Wakes the longest waiter.
    pub fn wake_one(&self) {
        wake_first(&self.list.lock());
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.list.lock().first().is_none()
    }
}

/// Sleeps until any of `queues` is woken and `ready` gives a value (poll, select, epoll).
///
/// # Errors
/// As [`WaitQueue::wait_until`]; `ENOMEM`.
pub fn wait_on_any<T>(
    queues: &[&WaitQueue],
    deadline: Option<u64>,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    if let Some(value) = ready() {
        return Ok(value);
    }
    let thread = task::current();
    let mut places = Vec::new();
    places.try_reserve_exact(queues.len()).map_err(|_| Errno::ENOMEM)?;
    places.extend(queues.iter().map(|_| Place::new(&thread)));
    let enroll = || {
        for (queue, place) in queues.iter().zip(&places) {
            // SAFETY: `places` is not touched before every place was left below.
            unsafe { queue.enroll(place) };
        }
    };
    let outcome = sleep_enrolled(Sleep::INTERRUPTIBLE, deadline, enroll, ready);
    for (queue, place) in queues.iter().zip(&places) {
        // Another waiter may depend on a wake-up that this thread took but does not use up: which
        // queue gave the value is not known here, so each is passed on.
        if !queue.leave(place) {
            queue.wake_one();
        }
    }
    outcome
}

/// Sleeps until `ready` gives a value, without a queue: whoever makes it true calls
/// [`Thread::wake`]. `ready` runs with the thread marked as sleeping, the last time before it sleeps, and again when it
/// is awake.
///
/// # Errors
/// As [`WaitQueue::wait_until`], as far as `how` allows.
pub fn sleep<T>(how: Sleep, deadline: Option<u64>, ready: impl FnMut() -> Option<T>) -> Result<T> {
    sleep_enrolled(how, deadline, || {}, ready)
}

/// [`sleep`], for those whom others find in a queue: `enroll` puts the thread there if it is not there any more.
fn sleep_enrolled<T>(
    how: Sleep,
    deadline: Option<u64>,
    enroll: impl Fn(),
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    let thread = task::current();
    let mut alarm = None;
    let outcome = loop {
        thread.prepare_to_sleep(how);
        enroll();
        if let Some(value) = ready() {
            break Ok(value);
        }
        if thread.is_interrupted(how) {
            break Err(Errno::ERESTARTSYS);
        }
        if let Some(deadline) = deadline {
            if crate::time::now() >= deadline {
                break Err(Errno::ETIMEDOUT);
            }
            // One that has gone off, on a CPU whose clock is a little ahead, is set anew.
            if alarm.as_ref().is_none_or(|alarm: &Alarm| !alarm.is_set()) {
                alarm = Some(Alarm::wake(deadline, thread.arc()));
            }
        }
        task::schedule();
        // Awake, so without a mark or a place in a queue: what it was woken for is true as a rule.
        if let Some(value) = ready() {
            break Ok(value);
        }
    };
    thread.stay_awake();
    outcome
}
