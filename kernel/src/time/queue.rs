//! Timers: what has to happen at a point in time.
//!
//! Each CPU has a queue of those that were set on it, and its own timer fires for them. They are kept in order of
//! deadline. The first deadline is cached in an atomic, so that the timer interrupt of a busy machine
//! without timers does not take the lock.
//!
//! A timer that is taken back on another CPU than its own may have left the queue just before: then it goes off all
//! the same, a little later. So whatever is set off looks whether it still is due.
//!
//! Lock order: a queue's lock is a leaf. What expires is run after it is released.

use crate::arch::cpu;
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

struct Timers {
    timers: BTreeMap<Key, Arc<dyn Expire>>,
    sequence: u64,
}

/// One CPU's timers.
struct Queue {
    timers: Mutex<Timers>,
    /// The earliest deadline, `u64::MAX` if there is none. Changed under the lock.
    first: AtomicU64,
}

static QUEUES: [Queue; cpu::MAXIMUM] = [const {
    Queue {
        timers: Mutex::new(Timers { timers: BTreeMap::new(), sequence: 0 }),
        first: AtomicU64::new(u64::MAX),
    }
}; cpu::MAXIMUM];

impl Queue {
    fn note_first(&self, timers: &Timers) {
        let first = timers.timers.first_key_value().map_or(u64::MAX, |(key, _)| key.0);
        self.first.store(first, Ordering::Relaxed);
    }
}

fn this() -> &'static Queue {
    &QUEUES[cpu::index() % cpu::MAXIMUM]
}

/// A timer that was set. Dropping it takes it back.
pub struct Alarm {
    key: Key,
    /// Whose queue it is in.
    queue: &'static Queue,
}

impl Alarm {
    /// Sets off `target` at `deadline`, nanoseconds of [`super::now`], on this CPU.
    pub fn set(deadline: u64, target: Arc<dyn Expire>) -> Alarm {
        let queue = this();
        let key = {
            let mut timers = queue.timers.lock();
            timers.sequence += 1;
            let key = (deadline, timers.sequence);
            timers.timers.insert(key, target);
            queue.note_first(&timers);
            key
        };
        ensure_armed(deadline);
        Alarm { key, queue }
    }

    /// Wakes `thread` at `deadline`, however it sleeps.
    pub fn wake(deadline: u64, thread: Arc<Thread>) -> Alarm {
        Alarm::set(deadline, thread)
    }

    /// When it goes off.
    pub fn deadline(&self) -> u64 {
        self.key.0
    }

    /// Whether it is yet to go off.
    pub fn is_set(&self) -> bool {
        self.queue.timers.lock().timers.contains_key(&self.key)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut timers = self.queue.timers.lock();
        let target = timers.timers.remove(&self.key);
        if target.is_some() {
            self.queue.note_first(&timers);
        }
        drop(timers);
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

/// The earliest deadline on this CPU, `u64::MAX` if there is none.
#[inline]
pub fn next_deadline() -> u64 {
    this().first.load(Ordering::Relaxed)
}

/// Sets off everything that is due on this CPU.
pub fn expire_due(now: u64) {
    let queue = this();
    while queue.first.load(Ordering::Relaxed) <= now {
        let target = {
            let mut timers = queue.timers.lock();
            let target = match timers.timers.first_entry() {
                Some(first) if first.key().0 <= now => first.remove(),
                _ => break,
            };
            queue.note_first(&timers);
            target
        };
        target.expire(now);
    }
}

/// Makes sure that this CPU's timer fires no later than `deadline`.
pub fn ensure_armed(deadline: u64) {
    crate::task::scheduler::arm_no_later_than(deadline);
}
