//! Timers: what has to happen at a point in time.
//!
//! Kept in order of deadline. The first deadline is cached in an atomic, so that the timer
//! interrupt of a busy machine without timers does not take the lock.
//!
//! Lock order: the queue's lock is a leaf. What expires is run after it is released.

use crate::sync::Mutex;
use crate::task::{Sleep, Thread};
use alloc::{collections::BTreeMap, sync::Arc};
use core::sync::atomic::{AtomicU64, Ordering};

/// Something that a timer can set off.
pub trait Expire: Send + Sync {
    /// Called once per [`Alarm`], from the timer interrupt, with the time it is.
    fn expire(self: Arc<Self>, now: u64);
}

type Key = (u64, u64);

struct Queue {
    timers: BTreeMap<Key, Arc<dyn Expire>>,
    sequence: u64,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { timers: BTreeMap::new(), sequence: 0 });
static FIRST: AtomicU64 = AtomicU64::new(u64::MAX);

impl Queue {
    fn note_first(&self) {
        let first = self.timers.first_key_value().map_or(u64::MAX, |(key, _)| key.0);
        FIRST.store(first, Ordering::Relaxed);
    }
}

/// A timer that was set. Dropping it takes it back.
pub struct Alarm(Key);

impl Alarm {
    /// Sets off `target` at `deadline`, nanoseconds of [`super::now`].
    pub fn set(deadline: u64, target: Arc<dyn Expire>) -> Alarm {
        let key = {
            let mut queue = QUEUE.lock();
            queue.sequence += 1;
            let key = (deadline, queue.sequence);
            queue.timers.insert(key, target);
            queue.note_first();
            key
        };
        ensure_armed(deadline);
        Alarm(key)
    }

    /// Wakes `thread` at `deadline`, however it sleeps.
    pub fn wake(deadline: u64, thread: Arc<Thread>) -> Alarm {
        Alarm::set(deadline, thread)
    }

    /// When it goes off.
    pub fn deadline(&self) -> u64 {
        self.0.0
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut queue = QUEUE.lock();
        let target = queue.timers.remove(&self.0);
        if target.is_some() {
            queue.note_first();
        }
        drop(queue);
        // The target goes after the lock: it may be the last reference to something that has
        // alarms of its own.
        drop(target);
    }
}

impl Expire for Thread {
    fn expire(self: Arc<Self>, _now: u64) {
        self.wake(Sleep::ANY);
    }
}

/// The earliest deadline, `u64::MAX` if there is none.
#[inline]
pub fn next_deadline() -> u64 {
    FIRST.load(Ordering::Relaxed)
}

/// Sets off everything that is due.
pub fn expire_due(now: u64) {
    while next_deadline() <= now {
        let target = {
            let mut queue = QUEUE.lock();
            let target = match queue.timers.first_entry() {
                Some(first) if first.key().0 <= now => first.remove(),
                _ => {
                    queue.note_first();
                    break;
                }
            };
            queue.note_first();
            target
        };
        target.expire(now);
    }
}

/// Makes sure that this CPU's timer fires no later than `deadline`.
pub fn ensure_armed(deadline: u64) {
    crate::task::scheduler::arm_no_later_than(deadline);
}
