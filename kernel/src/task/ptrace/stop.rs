//! A tracee stops, its tracer hears of it, and it goes on as the tracer says.
//!
//! Every stop passes the frame of the thread's registers on, as a pointer: that is what the tracer reads
//! and changes them through while the thread is frozen.

use super::{STAY, Tracee, abi, any, mode, option_of, watch};
use crate::errno::Errno;
use crate::signal::{self, Info, bit};
use crate::task::thread::{Sleep, work};
use crate::task::{self, Thread, schedule};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;

/// What there is to know of a stop.
pub(super) struct Stop {
    /// What PTRACE_GETSIGINFO gives; a stop with the group has none under PTRACE_ATTACH.
    pub info: Option<Info>,
    /// What PTRACE_GETEVENTMSG gives.
    pub message: u64,
    /// The thread's registers, on its task stack.
    pub frame: *mut Frame,
}

// SAFETY: the pointer is used by whoever has frozen the thread whose stack it points into.
unsafe impl Send for Stop {}

/// Why a tracee stops.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// For its tracer alone.
    Trapped,
    /// As its group does, or as if it did. `last`: all of the group have stopped with it.
    Stopped { last: bool },
}

impl Why {
    /// CLD_*, for SIGCHLD.
    fn code(self) -> u32 {
        match self {
            Why::Trapped => raw::CLD_TRAPPED,
            Why::Stopped { .. } => raw::CLD_STOPPED,
        }
    }
}

/// Stops the current thread. `code`: what wait tells. Gives the signal to go on with, and the details as the tracer left
/// them. Returns at once, with what it was given, if there is no tracer.
fn stop(
    thread: &Thread,
    frame: *mut Frame,
    code: u32,
    why: Why,
    message: u64,
    info: Option<Info>,
) -> (u32, Option<Info>) {
    let is_last = why == (Why::Stopped { last: true });
    let Some(tracee) = thread.traced() else {
        if is_last {
            signal::tell_parent_of_stop(&thread.process);
        }
        return (code, info);
    };
    if thread.pending_work() & work::KILL != 0 {
        return (code, info);
    }
    {
        let mut stop = tracee.stop.lock();
        *stop = Some(Stop { info, message, frame });
        tracee.resume.store(STAY, Ordering::Relaxed);
    }
    // PTRACE_INTERRUPT asks for any stop; that of a group is still to come after another. The group of a seized one has
    // set TRAP_NOTIFY as well.
    if why == Why::Trapped && tracee.is(mode::SEIZED) {
        tracee.clear(mode::TRAP_STOP);
    }
    thread.prepare_to_sleep(Sleep::TRACED);
    tracee.report.store(code, Ordering::Release);
    tell_tracer(thread, tracee, code, why);
    if is_last && tracee.tracer_process() != thread.process.parent_id() {
        signal::tell_parent_of_stop(&thread.process);
    }
    // A tracer that ended before this slept could not wake it.
    while tracee.resume.load(Ordering::Acquire) == STAY
        && tracee.tracer() != 0
        && thread.pending_work() & work::KILL == 0
    {
        schedule();
        thread.prepare_to_sleep(Sleep::TRACED);
    }
    thread.stay_awake();
    let unheard = tracee.report.swap(0, Ordering::AcqRel) & 0x7f;
    let info = {
        let mut stop = tracee.stop.lock();
        tracee.clear(mode::LISTENING);
        stop.take().and_then(|stop| stop.info)
    };
    signal::recalculate(thread);
    match tracee.resume.load(Ordering::Acquire) {
        // Without a tracer, a signal that it was stopped at, and that nobody asked about, is delivered.
        STAY if tracee.tracer() == 0 => (unheard, info),
        STAY => (0, info),
        signal => (signal, info),
    }
}

/// SIGCHLD for the tracer, unless it does not want it for stops, and waking its waits.
fn tell_tracer(thread: &Thread, tracee: &Tracee, code: u32, why: Why) {
    let Some(tracer) = task::find(tracee.tracer_process()) else { return };
    let status = match why {
        Why::Stopped { .. } => tracee.stop_signal.load(Ordering::Relaxed),
        Why::Trapped => code & 0x7f,
    };
    signal::tell_of_stop(&tracer, &thread.process, thread.tid(), why.code(), status);
}

fn own_info(thread: &Thread, signal: u32, code: u32) -> Info {
    let user = thread.process.credentials.lock().real_user;
    Info::from(signal, code.cast_signed(), thread.tid(), user)
}

/// A stop with SIGTRAP that no signal causes. `code`: SIGTRAP, with an event above it or bit 7 set. Gives
/// the signal to go on with.
pub(crate) fn notify(thread: &Thread, frame: *mut Frame, code: u32, message: u64) -> u32 {
    let info = own_info(thread, raw::SIGTRAP, code);
    stop(thread, frame, code, Why::Trapped, message, Some(info)).0
}

/// A stop for an event, if the tracer asked for that. True if it did.
pub(crate) fn event(thread: &Thread, frame: *mut Frame, event: u32, message: u64) -> bool {
    let Some(tracee) = thread.traced() else { return false };
    if !tracee.has_option(option_of(event)) {
        return false;
    }
    notify(thread, frame, event << 8 | raw::SIGTRAP, message);
    // The call that the event happened in may be watched only since now.
    if tracee.watched(watch::REPORT | watch::STEP) {
        thread.add_work(work::CALL_ENDS);
    }
    true
}

/// The current thread has a new program, which its registers are about to enter, by a call of that
/// `number`. `former`: its identifier before.
pub(in crate::task) fn executed(thread: &Thread, frame: &mut Frame, number: u64, former: u32) {
    let Some(tracee) = thread.traced() else { return };
    // Until the call has ended, its result is not there.
    frame.set_number(number);
    frame.set_rax((Errno::ENOSYS.0 as u64).wrapping_neg());
    let told = event(thread, frame, abi::PTRACE_EVENT_EXEC, former.into());
    if !told && !tracee.is(mode::SEIZED) {
        signal::send_to_thread(thread, own_info(thread, raw::SIGTRAP, raw::SI_USER));
    }
}

/// A signal is about to be delivered: the tracer may change it or take it away. Gives what is left.
pub(crate) fn signal_arrives(thread: &Thread, frame: *mut Frame, info: Info) -> Option<Info> {
    let Some(tracee) = thread.traced() else { return Some(info) };
    if info.number() == raw::SIGKILL {
        return Some(info);
    }
    tracee.set(mode::STOP_MEANT);
    let tracer = tracee.tracer();
    let (signal, told) = stop(thread, frame, info.number(), Why::Trapped, 0, Some(info));
    if signal == 0 || thread.pending_work() & work::KILL != 0 {
        return None;
    }
    let mut info = told.unwrap_or(info);
    if info.number() != signal {
        let user = task::find_thread(tracer)
            .map_or(0, |tracer| tracer.process.credentials.lock().real_user);
        info = Info::from(signal, raw::SI_USER as i32, tracer, user);
    }
    if thread.blocked() & bit(signal) != 0 {
        // The tracer chose one that has to wait.
        let _ = thread.pending.lock().push(info, u64::MAX);
        return None;
    }
    Some(info)
}

/// Stops the thread if its group stops, or its tracer wants it stopped. True if it did.
pub(crate) fn trap_if_due(thread: &Thread, frame: *mut Frame) -> bool {
    let Some(tracee) = thread.traced() else { return false };
    if !tracee.is(mode::TRAP_STOP | mode::TRAP_NOTIFY) || thread.pending_work() & work::KILL != 0 {
        return false;
    }
    let (group, last) = {
        let threads = thread.process.threads.lock();
        let mut shared = thread.process.signals.lock();
        if !is_due(thread) {
            // Its group goes on.
            return false;
        }
        // What is set from now on is another stop.
        tracee.clear(mode::TRAP_STOP | mode::TRAP_NOTIFY);
        (shared.stopped_by(), shared.take_part(thread, threads.len()))
    };
    let why = Why::Stopped { last };
    if tracee.is(mode::SEIZED) {
        let signal = group.unwrap_or(raw::SIGTRAP);
        let code = signal | abi::PTRACE_EVENT_STOP << 8;
        let info = own_info(thread, signal, code);
        stop(thread, frame, code, why, 0, Some(info));
    } else {
        let signal = tracee.stop_signal.load(Ordering::Relaxed);
        stop(thread, frame, signal.max(1), why, 0, None);
    }
    true
}

/// Whether a stopping signal that was taken may still stop the group: no SIGCONT came meanwhile.
pub(crate) fn stop_is_meant(thread: &Thread) -> bool {
    thread.traced().is_none_or(|tracee| tracee.is(mode::STOP_MEANT))
}

/// Whether a group's stop that goes on concerns the thread: a tracee's part in it is over when its
/// tracer lets it go on.
pub(crate) fn takes_part(thread: &Thread) -> bool {
    !thread.is_traced() || is_due(thread)
}

/// Whether a stop for the tracer is due.
pub(crate) fn is_due(thread: &Thread) -> bool {
    thread.traced().is_some_and(|tracee| tracee.is(mode::TRAP_STOP | mode::TRAP_NOTIFY))
}

/// The group of a thread begins to stop by `signal`, or stops already as the thread becomes a tracee, or is let go on as
/// one and takes another such signal. For who has the group's signals locked.
pub(crate) fn group_stops(thread: &Thread, signal: u32) {
    let Some(tracee) = thread.traced() else { return };
    tracee.stop_signal.store(signal, Ordering::Relaxed);
    let bits = if tracee.is(mode::SEIZED) { mode::TRAP_NOTIFY } else { 0 };
    tracee.set(mode::TRAP_STOP | bits);
    listen_again(thread, tracee);
}

/// SIGCONT was sent to a process, whose threads these are. For who has its signals locked.
pub(crate) fn group_goes_on(threads: &[Arc<Thread>]) {
    if !any() {
        return;
    }
    for thread in threads {
        let Some(tracee) = thread.traced() else { continue };
        tracee.clear(mode::STOP_MEANT);
        if tracee.is(mode::SEIZED) {
            tracee.set(mode::TRAP_NOTIFY);
            thread.add_work(work::SIGNAL);
            thread.wake(Sleep::INTERRUPTIBLE);
            listen_again(thread, tracee);
        } else {
            tracee.clear(mode::TRAP_STOP);
        }
    }
}

/// A tracee that listens stops anew, so that its tracer hears what has changed.
pub(super) fn listen_again(thread: &Thread, tracee: &Tracee) {
    // It does not leave this stop, and none that comes later is ended, while the lock is held.
    let _stop = tracee.stop.lock();
    if tracee.is(mode::LISTENING) {
        tracee.resume.store(0, Ordering::SeqCst);
        thread.wake(Sleep::TRACED);
    }
}

/// Undoes [`Thread::freeze`]. What ended the stop meanwhile could not wake the thread.
pub(super) fn thaw(thread: &Thread, tracee: &Tracee) {
    let _stop = tracee.stop.lock();
    thread.thaw();
    if tracee.resume.load(Ordering::SeqCst) != STAY {
        thread.wake(Sleep::TRACED);
    }
}
