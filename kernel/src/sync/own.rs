//! Things that happen once, and things that a process owns.

use super::{Mutex, WaitQueue};
use crate::errno::Result;
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

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

    /// What `look` gives for the value, which stays meanwhile. `None` once the process has ended.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let _guard = self.lock.lock();
        // SAFETY: null or from `Arc::into_raw`, and its count cannot be given up while the lock is held.
        unsafe { self.pointer.load(Ordering::Relaxed).as_ref() }.map(look)
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
