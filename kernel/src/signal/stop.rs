//! Stopping and going on: SIGSTOP and its kin, SIGCONT, and what the parent hears of it.
//!
//! Stops are numbered, and each thread keeps the number of the one that it was counted in: a thread that comes out of
//! one stop only when the next has begun is counted in that too, and none is counted twice.
//!
//! Invariant: whether a group stops, who of it is counted, and what its tracees are to do about it change together, with
//! the list of threads and the signals locked.

use super::{Info, Shared, send_to_process};
use crate::task::{self, Process, Sleep, Thread, ptrace, schedule, table, work};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use linux_raw_sys::general as raw;

/// Processes that are being stopped or have stopped.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether any process is stopped.
pub fn any_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed) != 0
}

/// Begins to stop the process: every thread stops on its way out to ring 3. `continues`: as it was when `signal` was
/// taken.
pub(super) fn begin(process: &Process, signal: u32, continues: u32) {
    let threads = process.threads.lock();
    let mut shared = process.signals.lock();
    // One that is ending has been let go on, for good.
    if shared.continues != continues || process.ending().is_some() {
        return;
    }
    if shared.stopped_by.is_some() {
        // A tracee that was let go on has been stopped anew.
        ptrace::group_stops(&task::current(), signal);
        return;
    }
    shared.stopped_by = Some(signal);
    STOPPED.fetch_add(1, Ordering::Relaxed);
    shared.stops = shared.stops.wrapping_add(1).max(1);
    shared.parked = 0;
    shared.fully_stopped = false;
    shared.continue_report = false;
    for thread in threads.iter() {
        ptrace::group_stops(thread, signal);
        thread.add_work(work::SIGNAL);
        thread.wake(Sleep::INTERRUPTIBLE);
    }
}

impl Shared {
    /// Counts `thread`, one of `threads`, among the stopped ones of its group, if that stops. True if it was the last.
    pub(crate) fn take_part(&mut self, thread: &Thread, threads: usize) -> bool {
        if self.stopped_by.is_none() {
            return false;
        }
        if thread.counted_in.swap(self.stops, Ordering::Relaxed) != self.stops {
            self.parked += 1;
        }
        self.note_if_complete(threads)
    }

    /// Whether `thread` is counted among the stopped ones of its group, which stops.
    fn counts(&self, thread: &Thread) -> bool {
        self.stopped_by.is_some() && thread.counted_in.load(Ordering::Relaxed) == self.stops
    }

    /// `thread` leaves its process. Goes with its removal from the list of threads.
    pub(crate) fn leave(&mut self, thread: &Thread) {
        if self.counts(thread) {
            self.parked = self.parked.saturating_sub(1);
        }
    }

    /// Whether the last of `threads` threads has stopped just now.
    fn note_if_complete(&mut self, threads: usize) -> bool {
        if self.fully_stopped || self.parked < threads {
            return false;
        }
        self.fully_stopped = true;
        self.stop_report = self.stopped_by;
        true
    }
}

/// Stops the current thread while its process is being stopped.
pub(super) fn park(thread: &Thread) {
    let process = &thread.process;
    let is_last = {
        let threads = process.threads.lock();
        process.signals.lock().take_part(thread, threads.len())
    };
    if is_last {
        tell_parent(process, raw::CLD_STOPPED);
    }
    loop {
        thread.prepare_to_sleep(Sleep::STOPPED);
        // In a stop that has begun since, it is to be counted first.
        let stopped = process.signals.lock().counts(thread);
        // A tracer that came meanwhile wants it stopped its own way.
        if !stopped || thread.is_traced() || thread.pending_work() & work::KILL != 0 {
            break;
        }
        schedule();
    }
    thread.stay_awake();
}

/// A thread has ended: the others may all have stopped.
pub(crate) fn thread_ended(process: &Process) {
    let last = {
        let threads = process.threads.lock();
        let mut shared = process.signals.lock();
        !threads.is_empty() && shared.stopped_by.is_some() && shared.note_if_complete(threads.len())
    };
    if last {
        tell_parent(process, raw::CLD_STOPPED);
    }
}

/// SIGCONT was sent: lets a stopped process go on.
pub(super) fn go_on(process: &Process) {
    let was_stopped = {
        let threads = process.threads.lock();
        let mut shared = process.signals.lock();
        shared.continues = shared.continues.wrapping_add(1);
        ptrace::group_goes_on(&threads);
        let was = shared.fully_stopped;
        if shared.stopped_by.take().is_none() {
            return;
        }
        STOPPED.fetch_sub(1, Ordering::Relaxed);
        shared.parked = 0;
        shared.fully_stopped = false;
        shared.stop_report = None;
        shared.continue_report = was;
        for thread in threads.iter() {
            thread.wake(Sleep::STOPPED);
        }
        was
    };
    if was_stopped {
        tell_parent(process, raw::CLD_CONTINUED);
    }
}

/// Lets a stopped process go on without a word to anybody: it is being killed.
pub(crate) fn release(process: &Process) {
    let mut shared = process.signals.lock();
    if shared.stopped_by.take().is_some() {
        STOPPED.fetch_sub(1, Ordering::Relaxed);
    }
    shared.fully_stopped = false;
    shared.stop_report = None;
}

/// SIGCHLD for a stop or its end, unless the parent does not want it, and waking its waits.
fn tell_parent(process: &Process, code: u32) {
    let Some(parent) = task::find(process.parent_id()) else { return };
    let status = if code == raw::CLD_CONTINUED {
        raw::SIGCONT
    } else {
        process.signals.lock().stopped_by.unwrap_or(raw::SIGSTOP)
    };
    tell_of_stop(&parent, process, process.pid, code, status);
}

/// The same for the parent of a process whose last thread has stopped for a tracer.
pub(crate) fn tell_parent_of_stop(process: &Process) {
    tell_parent(process, raw::CLD_STOPPED);
}

/// Tells `parent`, or a tracer's process, of a stop of `process`'s thread `tid`, or of its end.
pub(crate) fn tell_of_stop(
    parent: &Arc<Process>,
    process: &Process,
    tid: u32,
    code: u32,
    status: u32,
) {
    let action = parent.actions.get().map(|actions| actions.get(raw::SIGCHLD));
    let wanted = action
        .is_some_and(|action| action.handler != super::IGNORE && !action.has(raw::SA_NOCLDSTOP));
    if wanted {
        let user = process.credentials.lock().real_user;
        let ticks = process.cpu_time() / crate::task::resources::TICK;
        let info = Info::child(raw::SIGCHLD, code as i32, tid, user, status, ticks);
        send_to_process(parent, info);
    }
    wake_parent(parent);
}

/// Wakes the threads of `parent` that wait for a child.
pub fn wake_parent(parent: &Arc<Process>) {
    parent.child_events.wake_all();
}

/// Whether a stopping signal from the terminal has to be ignored, because nobody could let the
/// process go on.
pub(super) fn is_unattended(process: &Process) -> bool {
    table::group_is_orphaned(process.group())
}
