//! Futexes: sleeping until a word of the program's memory has changed.
//!
//! A waiter looks at the word with its bucket locked, and enrolls only if the value is the one that it waits for: whoever
//! changes the word and then wakes finds it enrolled, or it sees the change; and a wake never goes to one that does not
//! wait. With a lock held a page cannot be brought in, so if it has to be, that is done in between.
//!
//! Buckets hold waiters of all futexes that hash alike, in order of arrival. A waiter's place is
//! on its own task stack; it belongs to the lock of the bucket it is in, whose index it holds, and
//! only requeueing moves it.
//!
//! Lock order: buckets by index, then run queues.

use super::{current, thread::Sleep, thread::Thread};
use crate::errno::{Errno, Result};
use crate::sync::{self, Linked, Links, List};
use crate::sync::{Mutex, MutexGuard};
use crate::user;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use ringwall_rules::futex as rules;

const BUCKETS: usize = 256;

/// What makes a futex the same one for different threads: memory and address, or, in shared
/// memory, the page's identity and the offset in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    shared: bool,
    /// The number of the shared object, or of the memory. Never an address of the kernel's: a wake takes longer where others
    /// wait in the bucket, so which addresses share one can be seen by anybody (`programs/collisions.c`).
    object: u64,
    offset: u64,
}

impl Key {
    /// The key of `address` in the current process. `private`: the program promises that no other
    /// process uses it.
    ///
    /// # Errors
    /// `EINVAL` if it is not aligned, `EFAULT` if it is not in user memory or not mapped.
    pub fn of(address: u64, private: bool) -> Result<Key> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if address >= crate::mm::layout::USER_END {
            return Err(Errno::EFAULT);
        }
        let memory = current().mm();
        if !private && let Some((object, offset)) = memory.shared_identity(address)? {
            return Ok(Key { shared: true, object, offset });
        }
        Ok(Key { shared: false, object: memory.number(), offset: address })
    }

    fn bucket(&self) -> usize {
        let mixed = (self.object ^ self.offset.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 56) as usize % BUCKETS
    }
}

struct Waiter {
    links: Links<Waiter>,
    key: Cell<Key>,
    mask: u32,
    thread: *const Thread,
    /// The bucket it is in.
    bucket: AtomicUsize,
    /// Somebody woke it: it is in no bucket.
    woken: AtomicBool,
}

impl Linked for Waiter {
    fn links(&self) -> &Links<Waiter> {
        &self.links
    }
}

type Bucket = List<Waiter>;

static TABLE: [Mutex<Bucket>; BUCKETS] = [const { Mutex::new(List::new()) }; BUCKETS];

/// The first waiter from `from` on that waits for `key` with a bit of `mask`.
fn find<'a>(
    bucket: &'a Bucket,
    mut from: Option<&'a Waiter>,
    key: Key,
    mask: u32,
) -> Option<&'a Waiter> {
    while let Some(waiter) = from {
        if waiter.key.get() == key && waiter.mask & mask != 0 {
            return from;
        }
        from = bucket.after(waiter);
    }
    None
}

/// Wakes up to `count` waiters of a locked bucket.
fn wake_in(bucket: &Bucket, key: Key, count: u32, mask: u32) -> usize {
    let mut woken = 0;
    let mut at = bucket.first();
    while woken < count as usize
        && let Some(waiter) = find(bucket, at, key, mask)
    {
        at = bucket.after(waiter);
        bucket.take_out(waiter);
        // SAFETY: the waiter takes the bucket's lock, which is held here, before it leaves its
        // stack; so its thread is alive.
        let thread = unsafe { &*waiter.thread };
        waiter.woken.store(true, Ordering::Release);
        thread.wake(Sleep::ANY);
        woken += 1;
    }
    woken
}

/// Sleeps until woken if the word at `address` is `expected`. `mask`: which wake-ups count.
///
/// # Errors
/// `EAGAIN` if the word differs, `ETIMEDOUT`, `ERESTARTSYS`, `EFAULT`, `EINVAL`.
pub fn wait(
    address: u64,
    private: bool,
    expected: u32,
    mask: u32,
    deadline: Option<u64>,
) -> Result<usize> {
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(address, private)?;
    let thread = current();
    let waiter = Waiter {
        links: Links::new(),
        key: Cell::new(key),
        mask,
        thread: &raw const *thread,
        bucket: AtomicUsize::new(key.bucket()),
        woken: AtomicBool::new(false),
    };
    let bucket = lock_if(address, expected, || TABLE[key.bucket()].lock())?;
    // SAFETY: `leave` below takes it out before this function returns.
    unsafe { bucket.push(&waiter) };
    drop(bucket);
    let outcome = sync::sleep(Sleep::INTERRUPTIBLE, deadline, || {
        waiter.woken.load(Ordering::Acquire).then_some(())
    });
    if leave(&waiter) {
        // A wake-up that was meant for this thread counts, whatever came after it.
        return Ok(0);
    }
    outcome.map(|()| 0)
}

/// Locks, and gives what `lock` gives, if the word at `address` is `expected` while that is held.
///
/// # Errors
/// `EAGAIN` if the word differs, `EFAULT`, `EINVAL`.
fn lock_if<T>(address: u64, expected: u32, lock: impl Fn() -> T) -> Result<T> {
    loop {
        let locked = lock();
        match user::look_u32(address)? {
            Some(word) if word == expected => return Ok(locked),
            Some(_) => return Err(Errno::EAGAIN),
            None => {
                drop(locked);
                user::read_u32(address)?;
            }
        }
    }
}

/// Takes a waiter out of its bucket; true if it was woken.
fn leave(waiter: &Waiter) -> bool {
    loop {
        let index = waiter.bucket.load(Ordering::Acquire);
        let bucket = TABLE[index].lock();
        if waiter.bucket.load(Ordering::Acquire) != index {
            // It was requeued meanwhile.
            continue;
        }
        if waiter.woken.load(Ordering::Acquire) {
            return true;
        }
        bucket.take_out(waiter);
        return false;
    }
}

/// Wakes up to `count` waiters whose mask has a bit of `mask`; gives their number.
///
/// # Errors
/// `EINVAL`, `EFAULT`.
pub fn wake(address: u64, private: bool, count: u32, mask: u32) -> Result<usize> {
    if mask == 0 {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(address, private)?;
    Ok(wake_in(&TABLE[key.bucket()].lock(), key, count, mask))
}

/// Wakes up to `count` waiters at an address, as a program's own FUTEX_WAKE would.
pub(super) fn wake_address(address: u64, count: u32) {
    let _ = wake(address, false, count, u32::MAX);
}

type Guard = MutexGuard<'static, Bucket>;

/// Locks two buckets in order of their indices; `None` for the second if they are the same.
fn lock_both(one: usize, other: usize) -> (Guard, Option<Guard>) {
    match one.cmp(&other) {
        core::cmp::Ordering::Equal => (TABLE[one].lock(), None),
        core::cmp::Ordering::Less => {
            let first = TABLE[one].lock();
            (first, Some(TABLE[other].lock()))
        }
        core::cmp::Ordering::Greater => {
            let second = TABLE[other].lock();
            (TABLE[one].lock(), Some(second))
        }
    }
}

/// Wakes up to `wake` waiters of `from` and moves up to `move_` more to `to`. `expected`: what the
/// word at `from` has to be.
///
/// # Errors
/// `EAGAIN` if the word differs, `EINVAL`, `EFAULT`.
pub fn requeue(
    from: u64,
    to: u64,
    private: bool,
    wake: u32,
    move_: u32,
    expected: Option<u32>,
) -> Result<usize> {
    let source = Key::of(from, private)?;
    let target = Key::of(to, private)?;
    let lock = || lock_both(source.bucket(), target.bucket());
    let (first, second) = match expected {
        Some(expected) => lock_if(from, expected, lock)?,
        None => lock(),
    };
    let woken = wake_in(&first, source, wake, u32::MAX);
    let mut moved = 0;
    let mut at = first.first();
    while moved < move_ as usize
        && source != target
        && let Some(waiter) = find(&first, at, source, u32::MAX)
    {
        at = first.after(waiter);
        waiter.key.set(target);
        if let Some(second) = &second {
            first.take_out(waiter);
            // SAFETY: taken out above; its thread leaves its stack only after it has taken it out
            // of the bucket whose index it holds.
            unsafe { second.push(waiter) };
            waiter.bucket.store(target.bucket(), Ordering::Release);
        }
        moved += 1;
    }
    Ok(woken + moved)
}

/// Changes the word at `second` as `operation` says, wakes waiters of `first`, and of `second` if
/// its old value compares as `operation` says (FUTEX_WAKE_OP).
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOSYS` for an unknown operation.
pub fn wake_operation(
    first: u64,
    second: u64,
    private: bool,
    wake_first: u32,
    wake_second: u32,
    operation: u32,
) -> Result<usize> {
    let first_key = Key::of(first, private)?;
    let second_key = Key::of(second, private)?;
    let mut old = user::read_u32(second)?;
    loop {
        let new = rules::operate(operation, old).ok_or(Errno::ENOSYS)?;
        match user::compare_exchange(second, old, new)? {
            seen if seen == old => break,
            seen => old = seen,
        }
    }
    let also_second = rules::compare(operation, old).ok_or(Errno::ENOSYS)?;
    let mut woken = wake_in(&TABLE[first_key.bucket()].lock(), first_key, wake_first, u32::MAX);
    if also_second {
        woken += wake_in(&TABLE[second_key.bucket()].lock(), second_key, wake_second, u32::MAX);
    }
    Ok(woken)
}
