//! Alternate signal stacks (sigaltstack).
//!
//! Invariant: a stack in use is not changed under the handler that runs on it, unless it disarms itself.

use crate::errno::{Errno, Result};
use crate::task::Thread;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// sigaltstack's stack_t.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct StackDescription {
    /// Lowest address.
    pub pointer: u64,
    /// SS_*.
    pub flags: u32,
    padding: u32,
    /// Bytes.
    pub size: u64,
}

/// A thread's sigaltstack. Only the thread itself touches it.
pub struct AlternateStack {
    pointer: AtomicU64,
    size: AtomicU64,
    flags: AtomicU32,
}

impl Default for AlternateStack {
    fn default() -> Self {
        AlternateStack::new()
    }
}

impl AlternateStack {
    /// None.
    pub const fn new() -> AlternateStack {
        AlternateStack {
            pointer: AtomicU64::new(0),
            size: AtomicU64::new(0),
            flags: AtomicU32::new(raw::SS_DISABLE),
        }
    }

    /// Sets it; a size of 0 is none.
    pub fn set(&self, pointer: u64, size: u64, flags: u32) {
        self.pointer.store(pointer, Ordering::Relaxed);
        self.size.store(size, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// None, but the flags stay (exec).
    pub fn forget(&self) {
        self.pointer.store(0, Ordering::Relaxed);
        self.size.store(0, Ordering::Relaxed);
    }

    /// As it was set, flags included.
    pub(super) fn as_set(&self) -> StackDescription {
        StackDescription {
            pointer: self.pointer.load(Ordering::Relaxed),
            flags: self.flags.load(Ordering::Relaxed),
            padding: 0,
            size: self.size.load(Ordering::Relaxed),
        }
    }

    /// Takes `other`'s (a new process keeps its parent's).
    pub fn copy(&self, other: &AlternateStack) {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        self.set(load(&other.pointer), load(&other.size), other.flags.load(Ordering::Relaxed));
    }

    pub(super) fn contains(&self, stack_pointer: u64) -> bool {
        let (start, size) =
            (self.pointer.load(Ordering::Relaxed), self.size.load(Ordering::Relaxed));
        stack_pointer > start && stack_pointer - start <= size
    }

    /// Whether code with this stack pointer runs on it. Never, if it disarms itself: then it may
    /// be used anew.
    pub fn is_in_use(&self, stack_pointer: u64) -> bool {
        self.flags.load(Ordering::Relaxed) & raw::SS_AUTODISARM == 0 && self.contains(stack_pointer)
    }

    /// As programs see it, with this stack pointer.
    pub fn describe(&self, stack_pointer: u64) -> StackDescription {
        let size = self.size.load(Ordering::Relaxed);
        let state = if size == 0 {
            raw::SS_DISABLE
        } else if self.is_in_use(stack_pointer) {
            raw::SS_ONSTACK
        } else {
            0
        };
        let sticky = self.flags.load(Ordering::Relaxed) & raw::SS_AUTODISARM;
        StackDescription {
            pointer: self.pointer.load(Ordering::Relaxed),
            flags: state | sticky,
            padding: 0,
            size,
        }
    }
}

/// Checks and sets an alternate stack for code with this stack pointer (sigaltstack).
///
/// # Errors
/// `EPERM` while it is in use, `EINVAL`, `ENOMEM` if it is too small.
pub fn set(thread: &Thread, stack_pointer: u64, wanted: &StackDescription) -> Result<()> {
    let alternate = &thread.alternate_stack;
    if alternate.is_in_use(stack_pointer) {
        return Err(Errno::EPERM);
    }
    let mode = wanted.flags & !raw::SS_AUTODISARM;
    if mode == raw::SS_DISABLE {
        alternate.set(0, 0, wanted.flags);
        return Ok(());
    }
    if mode != raw::SS_ONSTACK && mode != 0 {
        return Err(Errno::EINVAL);
    }
    let now = alternate.as_set();
    if (wanted.pointer, wanted.size, wanted.flags) == (now.pointer, now.size, now.flags) {
        return Ok(());
    }
    if wanted.size < u64::from(raw::MINSIGSTKSZ) {
        return Err(Errno::ENOMEM);
    }
    alternate.set(wanted.pointer, wanted.size, wanted.flags);
    Ok(())
}
