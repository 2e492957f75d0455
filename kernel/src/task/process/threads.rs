//! A process's threads: who is there, who comes, who leaves.
//!
//! Invariant: a thread is in the list until it ends. Who has to be the only one (the last thread, an exec) waits for those
//! that have left the list and not yet all the rest.

use super::Process;
use crate::task::{Thread, ptrace, table, work};
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

impl Process {
    /// Its threads.
    pub fn threads(&self) -> Vec<Arc<Thread>> {
        let threads = self.threads.lock();
        table::collected(threads.len(), threads.iter().cloned())
    }

    /// Number of its threads.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Identifiers of its threads, in order.
    pub fn thread_ids(&self) -> Vec<u32> {
        let mut ids = {
            let threads = self.threads.lock();
            table::collected(threads.len(), threads.iter().map(|thread| thread.tid()))
        };
        ids.sort_unstable();
        ids
    }

    /// The thread whose identifier is the process's, unless it has ended.
    pub fn leader(&self) -> Option<Arc<Thread>> {
        let threads = self.threads.lock();
        // It is the first unless threads before it ended: those swap places.
        threads.iter().find(|thread| thread.tid() == self.pid).cloned()
    }

    /// Whether its first thread is traced.
    pub(crate) fn leader_is_traced(&self) -> bool {
        ptrace::any() && self.leader().is_some_and(|leader| leader.is_traced())
    }

    /// The leader, or any thread if it has ended; `None` once all have.
    pub fn some_thread(&self) -> Option<Arc<Thread>> {
        self.leader().or_else(|| self.threads.lock().first().cloned())
    }

    /// Adds a thread, unless the process is ending.
    pub(in crate::task) fn add_thread(&self, thread: &Arc<Thread>) -> crate::errno::Result<()> {
        use crate::errno::Errno;
        let mut threads = self.threads.lock();
        if self.ending().is_some() || self.executing.load(Ordering::Relaxed) {
            // The caller is about to be killed: it never sees this.
            return Err(Errno::EAGAIN);
        }
        threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        thread.slot.store(threads.len(), Ordering::Relaxed);
        threads.push(Arc::clone(thread));
        if self.signals.lock().stopped_by().is_some() {
            // The others were told to stop before this one was there.
            thread.add_work(work::SIGNAL);
        }
        Ok(())
    }

    /// Takes a thread out; gives the number left. Unless that is 0, [`Process::has_left`] follows.
    pub(in crate::task) fn remove_thread(&self, thread: &Thread) -> usize {
        let (gone, left) = {
            let mut threads = self.threads.lock();
            let slot = thread.slot.load(Ordering::Relaxed);
            let gone = threads.swap_remove(slot);
            if let Some(moved) = threads.get(slot) {
                moved.slot.store(slot, Ordering::Relaxed);
            }
            if !threads.is_empty() {
                self.signals.lock().leave(thread);
                self.leaving.fetch_add(1, Ordering::Relaxed);
            }
            (gone, threads.len())
        };
        drop(gone);
        left
    }

    /// A thread that was taken out has no relation to the process any more that others could see.
    pub(in crate::task) fn has_left(&self) {
        self.leaving.fetch_sub(1, Ordering::SeqCst);
        if self.executing.load(Ordering::SeqCst) {
            self.thread_ended.wake_all();
        }
    }

    /// Whether all that were taken out of the list have left for good.
    pub(in crate::task) fn nobody_leaves(&self) -> bool {
        self.leaving.load(Ordering::SeqCst) == 0
    }

    /// Whether one thread is left, and all others have left for good.
    pub(in crate::task) fn is_single(&self) -> bool {
        self.thread_count() == 1 && self.nobody_leaves()
    }

    /// The last thread waits for the others that leave. They do not sleep on their way.
    pub(in crate::task) fn wait_for_leaving(&self) {
        while !self.nobody_leaves() {
            crate::sync::relax();
        }
    }
}
