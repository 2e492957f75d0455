//! Advisory locks: flock on open files, fcntl records on inodes.
//!
//! All locks of the system are in one list, which stays short; a waiter looks again whenever any
//! lock goes.

use super::File;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use crate::sync::WaitQueue;
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Who holds a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// An open file (flock, open-file-description locks), by its address.
    File(usize),
    /// A process (fcntl).
    Process(u32),
}

/// A lock on bytes `start..end` of an inode.
#[derive(Clone, Copy)]
pub struct Lock {
    /// Which file.
    pub inode: (u64, u64),
    /// flock's locks and fcntl's do not see each other.
    pub whole: bool,
    /// Who.
    pub owner: Owner,
    /// Exclusive rather than shared.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

static LOCKS: Mutex<Vec<Lock>> = Mutex::new(Vec::new());
static RELEASED: WaitQueue = WaitQueue::new();
/// Locks there are, so that closing a file costs one look when there is none.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Lock {
    fn overlaps(&self, other: &Lock) -> bool {
        self.inode == other.inode
            && self.whole == other.whole
            && self.start < other.end
            && other.start < self.end
    }

    fn conflicts(&self, other: &Lock) -> bool {
        self.overlaps(other) && self.owner != other.owner && (self.exclusive || other.exclusive)
    }
}

/// The owner that stands for an open file.
pub fn file_owner(file: &Arc<File>) -> Owner {
    Owner::File(Arc::as_ptr(file) as usize)
}

/// A lock that keeps `wanted` from being taken.
pub fn conflicting(wanted: &Lock) -> Option<Lock> {
    LOCKS.lock().iter().find(|held| held.conflicts(wanted)).copied()
}

/// Takes `wanted`, in place of what its owner has there.
///
/// # Errors
/// `EAGAIN` on a conflict unless `wait`, `ERESTARTSYS`, `ENOLCK` without memory.
pub fn acquire(wanted: Lock, wait: bool) -> Result<()> {
    let attempt = || {
        let mut locks = LOCKS.lock();
        if locks.iter().any(|held| held.conflicts(&wanted)) {
            return None;
        }
        Some(carve(&mut locks, &wanted).map(|()| {
            locks.push(wanted);
            count(&locks);
        }))
    };
    let result = match attempt() {
        Some(result) => result,
        None if !wait => Err(Errno::EAGAIN),
        None => RELEASED.wait_until(None, attempt)?,
    };
    // A lock that became shared lets others in.
    settle();
    result
}

/// Gives up what `owner` has on bytes that `range` covers.
///
/// # Errors
/// `ENOLCK` without memory.
pub fn release(range: Lock) -> Result<()> {
    carve(&mut LOCKS.lock(), &range)?;
    settle();
    Ok(())
}

/// Cuts `range` out of its owner's locks, and makes room for one more.
fn carve(locks: &mut Vec<Lock>, range: &Lock) -> Result<()> {
    locks.try_reserve(locks.len().min(64) + 2).map_err(|_| Errno::ENOLCK)?;
    let mut index = 0;
    while index < locks.len() {
        let held = locks[index];
        if held.owner != range.owner || !held.overlaps(range) {
            index += 1;
            continue;
        }
        locks.swap_remove(index);
        if held.start < range.start {
            locks.push(Lock { end: range.start, ..held });
        }
        if held.end > range.end {
            locks.push(Lock { start: range.end, ..held });
        }
    }
    Ok(())
}

/// Notes how many locks there are. Under the list's lock, so that the last one to note is right.
fn count(locks: &[Lock]) {
    COUNT.store(locks.len(), Ordering::Relaxed);
}

fn settle() {
    count(&LOCKS.lock());
    RELEASED.wake_all();
}

fn drop_all(keep: impl Fn(&Lock) -> bool) {
    if COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    LOCKS.lock().retain(keep);
    settle();
}

/// The last handle of an open file is gone: so are its locks.
pub fn forget(file: &File) {
    let address = core::ptr::from_ref(file) as usize;
    drop_all(|lock| lock.owner != Owner::File(address));
}

/// A process closed a descriptor of `inode`: so are all its record locks there.
pub fn closed(inode: (u64, u64), pid: u32) {
    drop_all(|lock| lock.owner != Owner::Process(pid) || lock.inode != inode);
}

/// Whether any lock exists at all.
pub fn any() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// A process has ended: so have its record locks.
pub fn process_ended(pid: u32) {
    drop_all(|lock| lock.owner != Owner::Process(pid));
}
