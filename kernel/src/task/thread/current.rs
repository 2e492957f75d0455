//! The running thread.

use super::Thread;
use alloc::sync::Arc;
use core::marker::PhantomData;
use core::ops::Deref;

/// The running thread, borrowed: it cannot end while its own code runs. Not to be sent elsewhere.
#[derive(Clone, Copy)]
pub struct CurrentThread(&'static Thread, PhantomData<*const ()>);

impl CurrentThread {
    /// # Safety
    /// `thread` is the thread that executes this.
    #[inline(always)]
    pub(in crate::task) unsafe fn new(thread: &'static Thread) -> CurrentThread {
        CurrentThread(thread, PhantomData)
    }

    /// A counted reference.
    pub fn arc(&self) -> Arc<Thread> {
        // SAFETY: every thread lives in an `Arc` whose count the scheduler holds while it runs.
        unsafe { Arc::increment_strong_count(self.0) };
        // SAFETY: this takes over the count made above.
        unsafe { Arc::from_raw(self.0) }
    }

    /// The process's memory, borrowed. Must not be held over exec.
    ///
    /// # Panics
    /// For the idle thread, which has none.
    #[inline(always)]
    pub fn mm(&self) -> &'static crate::mm::Mm {
        // SAFETY: this runs as a thread of the process, and only exec and exit, which do not come
        // back to the borrower, replace its memory.
        unsafe { self.0.process.mm.borrow() }.expect("the thread has memory")
    }

    /// The process's descriptors, borrowed. Must not be held over exec or unshare.
    ///
    /// # Panics
    /// For the idle thread, which has none.
    #[inline(always)]
    pub fn files(&self) -> &'static crate::fs::FileTable {
        // SAFETY: as in `mm`.
        unsafe { self.0.process.files.borrow() }.expect("the thread has files")
    }

    /// The process's root, working directory and umask, borrowed.
    ///
    /// # Panics
    /// For the idle thread, which has none.
    #[inline(always)]
    pub fn paths(&self) -> &'static crate::fs::Paths {
        // SAFETY: as in `mm`.
        unsafe { self.0.process.paths.borrow() }.expect("the thread has paths")
    }
}

impl Deref for CurrentThread {
    type Target = Thread;
    #[inline(always)]
    fn deref(&self) -> &Thread {
        self.0
    }
}
