//! Stopping and going on: SIGSTOP and its kin, SIGCONT, and what the parent hears of it.

use super::{Info, send_to_process};
use crate::task::{self, Process, Sleep, Thread, schedule, table, work};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use linux_raw_sys::general as raw;

/// Processes that are being stopped or have stopped.
static STOPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether any process is stopped.
pub fn any_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed) != 0
}

/// Begins to stop the process: every thread stops on its way out to ring 3.
pub(super) fn begin(process: &Process, signal: u32) {
    {
        let mut shared = process.signals.lock();
        if shared.stopped_by.is_some() {
            return;
        }
        shared.stopped_by = Some(signal);
        STOPPED.fetch_add(1, Ordering::Relaxed);
        shared.parked = 0;
        shared.fully_stopped = false;
        shared.continue_report = false;
    }
    for thread in process.threads.lock().iter() {
        thread.add_work(work::SIGNAL);
        thread.wake(Sleep::INTERRUPTIBLE);
    }
}

/// Stops the current thread while its process is being stopped.
pub(super) fn park(thread: &Thread) {
    let process = &thread.process;
    let threads = process.thread_count();
    let last = {
        let mut shared = process.signals.lock();
        if shared.stopped_by.is_none() {
            return;
        }
        shared.parked += 1;
        note_if_complete(&mut shared, threads)
    };
    if last {
        tell_parent(process, raw::CLD_STOPPED);
    }
    loop {
        thread.prepare_to_sleep(Sleep::STOPPED);
        let stopped = process.signals.lock().stopped_by.is_some();
        if !stopped || thread.pending_work() & work::KILL != 0 {
            break;
        }
        schedule();
    }
    thread.stay_awake();
}

/// Whether the last of `threads` threads has stopped just now.
fn note_if_complete(shared: &mut super::Shared, threads: usize) -> bool {
    if shared.fully_stopped || shared.parked < threads {
        return false;
    }
    shared.fully_stopped = true;
    shared.stop_report = shared.stopped_by;
    true
}

/// A thread has ended: the others may all have stopped.
pub(crate) fn thread_ended(process: &Process, left: usize) {
    let last = {
        let mut shared = process.signals.lock();
        left > 0 && shared.stopped_by.is_some() && note_if_complete(&mut shared, left)
    };
    if last {
        tell_parent(process, raw::CLD_STOPPED);
    }
}

/// Lets a stopped process go on.
pub(super) fn go_on(process: &Process) {
    let was_stopped = {
        let mut shared = process.signals.lock();
        let was = shared.fully_stopped;
        if shared.stopped_by.take().is_none() {
            return;
        }
        STOPPED.fetch_sub(1, Ordering::Relaxed);
        shared.parked = 0;
        shared.fully_stopped = false;
        shared.stop_report = None;
        shared.continue_report = was;
        was
    };
    for thread in process.threads.lock().iter() {
        thread.wake(Sleep::STOPPED);
    }
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
    let action = parent.actions.get().map(|actions| actions.get(raw::SIGCHLD));
    let wanted = action
        .is_some_and(|action| action.handler != super::IGNORE && !action.has(raw::SA_NOCLDSTOP));
    if wanted {
        let status = if code == raw::CLD_CONTINUED {
            raw::SIGCONT
        } else {
            process.signals.lock().stopped_by.unwrap_or(raw::SIGSTOP)
        };
        let user = process.credentials.lock().real_user;
        let ticks = process.cpu_time() / crate::task::resources::TICK;
        let info = Info::child(raw::SIGCHLD, code as i32, process.pid, user, status, ticks);
        send_to_process(&parent, info);
    }
    wake_parent(&parent);
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
