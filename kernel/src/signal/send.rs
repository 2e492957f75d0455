//! Sending: from the sender to the pending set, and waking whom it is for.
//!
//! A thread's mask is written by the thread alone. It looks at what is pending after it has
//! written it, and senders look at the mask after they have made a signal pending: one of the two
//! sees the other.

use super::{DUMPS, Info, STOPS, UNSTOPPABLE, bit, stop};
use crate::errno::{Errno, Result};
use crate::task::{self, Process, Sleep, Thread, exit, work};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;

/// Whether the current process may send `signal` to `target`.
pub fn may_signal(target: &Process, signal: u32) -> bool {
    let sender = &task::current().process;
    if sender.pid == target.pid {
        return true;
    }
    let (effective, real) = {
        let credentials = sender.credentials.lock();
        (credentials.effective_user, credentials.real_user)
    };
    if effective == 0 || (signal == raw::SIGCONT && sender.session() == target.session()) {
        return true;
    }
    let target = target.credentials.lock();
    [target.real_user, target.saved_user].iter().any(|user| *user == effective || *user == real)
}

/// Sends to a process: any of its threads that does not block the signal gets it.
pub fn send_to_process(process: &Process, info: Info) {
    let _ = try_send(process, None, info);
}

/// Sends to one thread.
pub fn send_to_thread(thread: &Thread, info: Info) {
    let _ = try_send(&thread.process, Some(thread), info);
}

/// Runs `each`, which sends `signal`, for all processes, or for those of a group.
///
/// With the table of processes locked: what one of them forks meanwhile is among them, or its maker begins anew when it has
/// looked after the signal. SIGCONT alone looks into the table itself, and neither kills nor stops anybody.
pub fn for_each_of(signal: u32, group: Option<u32>, mut each: impl FnMut(&Process)) {
    match group {
        _ if signal != raw::SIGCONT => task::table::for_each(group, |process| {
            if signal != 0 {
                process.note_group_signal();
            }
            each(process);
        }),
        Some(group) => task::table::members(group).iter().for_each(|process| each(process)),
        None => task::all().iter().for_each(|process| each(process)),
    }
}

/// Sends, and says if a real-time signal's queue is full.
///
/// # Errors
/// `EAGAIN`.
pub fn try_send(process: &Process, thread: Option<&Thread>, info: Info) -> Result<()> {
    let signal = info.number();
    if process.is_zombie() {
        return Ok(());
    }
    let limit = process.limits.lock().get(raw::RLIMIT_SIGPENDING).0;
    // SIGCONT and the stopping signals undo each other the moment they are sent, blocked or not.
    if signal == raw::SIGCONT {
        forget(process, STOPS);
        stop::go_on(process);
    } else if bit(signal) & STOPS != 0 {
        forget(process, bit(raw::SIGCONT));
    }
    if is_ignored(process, thread, signal) {
        return Ok(());
    }
    if signal == raw::SIGKILL {
        exit::kill_process(process, signal);
        return Ok(());
    }
    match thread {
        Some(thread) => {
            thread.pending.lock().push(info, limit)?;
            if thread.wants(signal) {
                notify(process, thread, signal);
            }
        }
        None => {
            process.signals.lock().pending.push(info, limit)?;
            if let Some(thread) = choose(process, signal) {
                notify(process, &thread, signal);
            }
        }
    }
    Ok(())
}

/// Whether a signal does nothing and need not be kept. A blocked one is kept: its action may
/// change before it is unblocked. So is one that a thread waits for.
fn is_ignored(process: &Process, thread: Option<&Thread>, signal: u32) -> bool {
    let Some(actions) = process.actions.get() else { return true };
    let kept = match thread {
        Some(thread) => thread.keeps(signal),
        None => process.some_thread().is_some_and(|thread| thread.keeps(signal)),
    };
    let traced = match thread {
        Some(thread) => thread.is_traced(),
        None => process.leader_is_traced(),
    };
    // A tracer hears of ignored signals too.
    if kept || (traced && signal != raw::SIGKILL) {
        return false;
    }
    // Process 1 gets no signal that it has no handler for, not even SIGKILL.
    let immune = process.is_init() && actions.caught() & bit(signal) == 0;
    immune || (bit(signal) & UNSTOPPABLE == 0 && actions.without_effect() & bit(signal) != 0)
}

/// The thread that takes a signal for its process: the leader if it wants it. If none does, the
/// signal waits for one to unblock it or to go on.
fn choose(process: &Process, signal: u32) -> Option<alloc::sync::Arc<Thread>> {
    let threads = process.threads.lock();
    let wants = |thread: &&alloc::sync::Arc<Thread>| thread.wants(signal);
    threads.first().filter(wants).or_else(|| threads.iter().find(wants)).cloned()
}

/// Tells a thread that it has a signal. One whose default is to kill without a core kills at once,
/// so that it also ends a sleep that other signals do not.
fn notify(process: &Process, thread: &Thread, signal: u32) {
    let kills = bit(signal) & (super::IGNORED_BY_DEFAULT | STOPS | DUMPS) == 0;
    // A stopped process dies when it is let go on.
    if kills
        && !thread.keeps(signal)
        && !thread.is_traced()
        && !process.signals.lock().is_stopped()
        && process
            .actions
            .get()
            .is_some_and(|actions| actions.get(signal).handler == super::DEFAULT)
    {
        exit::kill_process(process, signal);
        return;
    }
    thread.add_work(work::SIGNAL);
    thread.wake(Sleep::INTERRUPTIBLE);
}

/// Forgets pending signals of a process and all of its threads.
fn forget(process: &Process, signals: u64) {
    process.signals.lock().pending.discard(signals);
    for thread in process.threads.lock().iter() {
        thread.pending.lock().discard(signals);
    }
}

/// Forgets pending signals that a change of their action made meaningless.
pub fn discard_ignored(process: &Process, signal: u32) {
    if process.actions.get().is_some_and(|actions| actions.without_effect() & bit(signal) != 0) {
        forget(process, bit(signal));
    }
}

/// Sets the current thread's mask.
pub fn set_blocked(thread: &Thread, set: u64) {
    let newly = exchange_blocked(thread, set);
    recalculate(thread);
    give_away(thread, newly);
}

/// Adds signals to the current thread's mask, when it is about to return to ring 3: if its signal bit was
/// set for one of these, it finds out by itself.
pub(super) fn block(thread: &Thread, signals: u64) {
    let newly = exchange_blocked(thread, thread.blocked() | signals);
    give_away(thread, newly);
}

/// Gives what is blocked now and was not.
fn exchange_blocked(thread: &Thread, set: u64) -> u64 {
    let set = set & !UNSTOPPABLE;
    set & !thread.blocked.swap(set, Ordering::AcqRel)
}

fn give_away(thread: &Thread, newly: u64) {
    // A signal that this thread was told to take for its process, and now does not want, is
    // another's.
    let process = &thread.process;
    if newly != 0 && process.thread_count() > 1 {
        retarget(process, newly);
    }
}

/// Finds other threads for signals that are pending for the process.
pub fn retarget(process: &Process, signals: u64) {
    let mut left = process.signals.lock().pending.set & signals;
    while left != 0 {
        let signal = left.trailing_zeros() + 1;
        left &= left - 1;
        if let Some(thread) = choose(process, signal) {
            thread.add_work(work::SIGNAL);
            thread.wake(Sleep::INTERRUPTIBLE);
        }
    }
}

/// Sets or clears the current thread's signal bit according to what is pending.
pub(crate) fn recalculate(thread: &Thread) {
    // Cleared first: a signal that arrives meanwhile sets it again.
    thread.clear_work(work::SIGNAL);
    let (shared, stopping) = {
        let shared = thread.process.signals.lock();
        (shared.pending.set, shared.stopped_by.is_some())
    };
    let pending = shared | thread.pending.lock().set;
    if (stopping && task::ptrace::takes_part(thread))
        || task::ptrace::is_due(thread)
        || pending & !thread.blocked() != 0
    {
        thread.add_work(work::SIGNAL);
    }
}

/// Checks a signal number from a program; 0 only asks whether sending is possible.
///
/// # Errors
/// `EINVAL`.
pub fn check_number(signal: u64) -> Result<u32> {
    match signal as u32 {
        signal if signal <= super::LAST => Ok(signal),
        _ => Err(Errno::EINVAL),
    }
}
