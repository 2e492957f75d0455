//! Locks and wait queues.
//!
//! Invariant: nobody sleeps, and nobody touches user memory, with a spin lock held. The kernel
//! runs with interrupts off, so a lock needs no interrupt-safe twin.
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

pub use spin::{LazyLock as Lazy, Mutex, MutexGuard, Once, RwLock};

use crate::errno::{Errno, Result};
use crate::task::{self, Sleep, Thread};
use crate::time::Alarm;
use alloc::{sync::Arc, vec::Vec};
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Threads that wait for one condition, longest waiter first.
pub struct WaitQueue {
    list: Mutex<List>,
}

struct List {
    head: *mut Links,
    tail: *mut Links,
}

// SAFETY: the pointers are to places on the task stacks of threads that cannot leave them before
// they took them out of the list, which the queue's lock guards.
unsafe impl Send for List {}

/// A thread's place in one queue, on its task stack. All fields belong to the queue's lock.
struct Links {
    previous: *mut Links,
    next: *mut Links,
    thread: *const Thread,
    linked: bool,
}

struct Place(UnsafeCell<Links>);

impl Place {
    fn new(thread: &Thread) -> Place {
        Place(UnsafeCell::new(Links {
            previous: ptr::null_mut(),
            next: ptr::null_mut(),
            thread,
            linked: false,
        }))
    }
}

impl List {
    /// # Safety
    /// `place` is not linked and stays where it is until it is taken out.
    unsafe fn push(&mut self, place: *mut Links) {
        // SAFETY: the caller gives a live place, and the list's own places are live by this
        // function's contract; the queue's lock gives exclusive access to all of them.
        unsafe {
            (*place).previous = self.tail;
            (*place).next = ptr::null_mut();
            (*place).linked = true;
            match self.tail.as_mut() {
                Some(tail) => tail.next = place,
                None => self.head = place,
            }
        }
        self.tail = place;
    }

    /// # Safety
    /// `place` is linked in this list.
    unsafe fn take_out(&mut self, place: *mut Links) {
        // SAFETY: as in `push`.
        unsafe {
            let (previous, next) = ((*place).previous, (*place).next);
            match previous.as_mut() {
                Some(previous) => previous.next = next,
                None => self.head = next,
            }
            match next.as_mut() {
                Some(next) => next.previous = previous,
                None => self.tail = previous,
            }
            (*place).linked = false;
        }
    }

    /// Wakes the first waiter; false if there is none.
    fn wake_first(&mut self) -> bool {
        let first = self.head;
        if first.is_null() {
            return false;
        }
        // SAFETY: `first` is linked in this list, so it is live, and so is its thread, which
        // cannot end while a place on its stack is linked.
        let thread = unsafe { &*(*first).thread };
        // SAFETY: it is the head of this list.
        unsafe { self.take_out(first) };
        thread.wake(Sleep::ANY);
        true
    }
}

impl Default for WaitQueue {
    fn default() -> Self {
        WaitQueue::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> WaitQueue {
        WaitQueue { list: Mutex::new(List { head: ptr::null_mut(), tail: ptr::null_mut() }) }
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
        let outcome = sleep(how, deadline, || {
            // SAFETY: `place` stays until `leave` below.
            unsafe { self.enroll(&place) };
            ready()
        });
        // A waker may have chosen this thread although it gives up: the wake-up is the next one's.
        if !self.leave(&place) && outcome.is_err() {
            self.wake_one();
        }
        outcome
    }

    /// # Safety
    /// `place` is not moved before [`WaitQueue::leave`] was called with it.
    unsafe fn enroll(&self, place: &Place) {
        let mut list = self.list.lock();
        // SAFETY: this queue's lock, held here, guards the place's fields.
        let linked = unsafe { (*place.0.get()).linked };
        if !linked {
            // SAFETY: not linked; the caller keeps it.
            unsafe { list.push(place.0.get()) };
        }
    }

    /// Whether the place was still enrolled.
    fn leave(&self, place: &Place) -> bool {
        let mut list = self.list.lock();
        // SAFETY: this queue's lock, held here, guards the place's fields.
        let linked = unsafe { (*place.0.get()).linked };
        if linked {
            // SAFETY: a place is only ever linked in the queue it was enrolled in.
            unsafe { list.take_out(place.0.get()) };
        }
        linked
    }

    /// Wakes every waiter.
    pub fn wake_all(&self) {
        let mut list = self.list.lock();
        while list.wake_first() {}
    }

    /// Wakes the longest waiter.
    pub fn wake_one(&self) {
        self.list.lock().wake_first();
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.list.lock().head.is_null()
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
    let outcome = sleep(Sleep::INTERRUPTIBLE, deadline, || {
        for (queue, place) in queues.iter().zip(&places) {
            // SAFETY: `places` is not touched before every place was left below.
            unsafe { queue.enroll(place) };
        }
        ready()
    });
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
/// [`Thread::wake`]. `ready` runs with the thread already marked as sleeping.
///
/// # Errors
/// As [`WaitQueue::wait_until`], as far as `how` allows.
pub fn sleep<T>(
    how: Sleep,
    deadline: Option<u64>,
    mut ready: impl FnMut() -> Option<T>,
) -> Result<T> {
    let thread = task::current();
    let mut alarm = None;
    let outcome = loop {
        thread.prepare_to_sleep(how);
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
            if alarm.is_none() {
                alarm = Some(Alarm::wake(deadline, thread.arc()));
            }
        }
        task::schedule();
    };
    thread.stay_awake();
    outcome
}

/// Something that happens once and that others wait for.
#[derive(Default)]
pub struct Completion {
    done: AtomicBool,
    waiters: WaitQueue,
}

impl Completion {
    /// One that has not happened.
    pub const fn new() -> Completion {
        Completion { done: AtomicBool::new(false), waiters: WaitQueue::new() }
    }

    /// Says that it has happened.
    pub fn complete(&self) {
        self.done.store(true, Ordering::Release);
        self.waiters.wake_all();
    }

    /// Waits for it.
    ///
    /// # Errors
    /// `ERESTARTSYS` when the thread is being killed.
    pub fn wait(&self) -> Result<()> {
        self.waiters.wait_killable(|| self.done.load(Ordering::Acquire).then_some(()))
    }
}

/// A shared thing that a process owns and replaces only while it has a single thread (or none is
/// left). So its own threads borrow it without a lock, and everybody else counts a reference under
/// one.
pub struct Own<T> {
    lock: Mutex<()>,
    pointer: AtomicPtr<T>,
    /// An `AtomicPtr` may be sent and shared whatever it points to; an `Arc` may not.
    holds: PhantomData<Arc<T>>,
}

impl<T> Own<T> {
    /// Holds `value`.
    pub fn new(value: Option<Arc<T>>) -> Own<T> {
        Own {
            lock: Mutex::new(()),
            pointer: AtomicPtr::new(into_pointer(value)),
            holds: PhantomData,
        }
    }

    /// A reference of one's own. `None` once the process has ended.
    pub fn get(&self) -> Option<Arc<T>> {
        let _guard = self.lock.lock();
        let pointer = self.pointer.load(Ordering::Relaxed);
        if pointer.is_null() {
            return None;
        }
        // SAFETY: `pointer` came from `Arc::into_raw`, and its count cannot be given up while the
        // lock is held.
        unsafe { Arc::increment_strong_count(pointer) };
        // SAFETY: this takes over the count made above.
        Some(unsafe { Arc::from_raw(pointer) })
    }

    /// The value, borrowed without a lock.
    ///
    /// # Safety
    /// The caller runs as a thread of the owning process, or switches to one, and does not hold
    /// the borrow over a `replace`.
    #[inline(always)]
    pub unsafe fn borrow(&self) -> Option<&T> {
        // SAFETY: not replaced during the borrow, as the caller promises.
        unsafe { self.pointer.load(Ordering::Relaxed).as_ref() }
    }

    /// Puts `value` in place and gives what was there.
    pub fn replace(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        let new = into_pointer(value);
        let old = {
            let _guard = self.lock.lock();
            self.pointer.swap(new, Ordering::Relaxed)
        };
        // SAFETY: it came from `Arc::into_raw`, and its count is given up by this alone.
        (!old.is_null()).then(|| unsafe { Arc::from_raw(old) })
    }

    /// Whether nobody else shares the value.
    pub fn is_sole(&self) -> bool {
        self.get().is_none_or(|value| Arc::strong_count(&value) <= 2)
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        self.replace(None);
    }
}

fn into_pointer<T>(value: Option<Arc<T>>) -> *mut T {
    value.map_or(ptr::null_mut(), |value| Arc::into_raw(value).cast_mut())
}
