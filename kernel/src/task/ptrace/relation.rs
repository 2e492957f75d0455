//! Who traces whom: how that begins, and how it ends, be it by the end of either side.
//!
//! ```text
//!   a tracee's thread ends     it stays known by its identifier until the tracer was told
//!   its process ends           the tracer is told first; a parent that is another one, afterwards
//!   a tracer's thread ends     its tracees go on untraced, or are killed (PTRACE_O_EXITKILL)
//! ```

use super::{TRACED, Tracee, abi, any, mode, stop, watch};
use crate::errno::{Errno, Result};
use crate::mm::frame;
use crate::signal::{self, Info, bit};
use crate::syscall::across::may_access;
use crate::task::table::Table;
use crate::task::thread::{Sleep, work};
use crate::task::{Process, Thread, current, exit, find, find_thread, table, wait};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;

/// What PTRACE_SETOPTIONS and PTRACE_SEIZE take. There is no seccomp to be suspended.
pub(super) const OPTIONS: u64 = abi::PTRACE_O_MASK as u64 & !(abi::PTRACE_O_SUSPEND_SECCOMP as u64);

fn link(
    table: &mut Table,
    (tracer, process): (u32, u32),
    thread: &Arc<Thread>,
    seized: bool,
    options: u32,
) -> Result<()> {
    let tracee = thread.tracee.call_once(Tracee::new);
    if tracee.tracer() != 0 || tracee.is(mode::ENDED) {
        return Err(Errno::EPERM);
    }
    table.add_tracee(process, thread)?;
    // A stop of its group begins while it is no tracee yet, or afterwards.
    let shared = thread.process.signals.lock();
    tracee.options.store(options, Ordering::Relaxed);
    tracee.mode.store(if seized { mode::SEIZED } else { 0 }, Ordering::Release);
    tracee.tracer_process.store(process, Ordering::Release);
    tracee.tracer.store(tracer, Ordering::Release);
    TRACED.fetch_add(1, Ordering::SeqCst);
    if let Some(signal) = shared.stopped_by() {
        // One that stops with its group, or has stopped, stops for the tracer.
        stop::group_stops(thread, signal);
        thread.add_work(work::SIGNAL);
        thread.wake(Sleep::STOPPED);
    }
    Ok(())
}

/// Ends the relation. What is given back is dropped after unlocking.
fn unlink(table: &mut Table, thread: &Thread) -> Option<Arc<Thread>> {
    let tracee = thread.traced()?;
    let gone = table.remove_tracee(tracee.tracer_process(), thread)?;
    tracee.tracer.store(0, Ordering::Release);
    tracee.clear(mode::TRAP_STOP | mode::TRAP_NOTIFY | mode::LISTENING | mode::SEIZED);
    TRACED.fetch_sub(1, Ordering::Relaxed);
    Some(gone)
}

/// PTRACE_TRACEME. A parent that is ending becomes no tracer, and that is no error, as on Linux.
pub(super) fn trace_me() -> Result<()> {
    let thread = current();
    frame::admit()?;
    let own = thread.arc();
    // Handles that are dropped after unlocking.
    let (parent, maker, _gone);
    let mut table = table::lock();
    parent = table.process(thread.process.parent_id()).cloned().ok_or(Errno::EPERM)?;
    // Its maker, if that still is a thread of its parent.
    maker = table
        .thread(thread.maker.load(Ordering::Relaxed))
        .filter(|maker| maker.process.pid == parent.pid && !maker.ends())
        .cloned()
        .or_else(|| parent.threads.lock().iter().find(|thread| !thread.ends()).cloned());
    let Some(tracer) = &maker else { return Ok(()) };
    link(&mut table, (tracer.tid(), parent.pid), &own, false, 0)?;
    // It looks for tracees after it has said that it ends: one of the two sees the other.
    _gone = if tracer.ends() { unlink(&mut table, &own) } else { None };
    Ok(())
}

/// PTRACE_ATTACH and PTRACE_SEIZE.
pub(super) fn attach(thread: &Arc<Thread>, seized: bool, options: u32) -> Result<()> {
    let caller = current();
    if thread.process.pid == caller.process.pid || !may_access(&caller.process, &thread.process) {
        return Err(Errno::EPERM);
    }
    frame::admit()?;
    {
        let mut table = table::lock();
        let lives = !thread.process.is_zombie()
            && table.thread(thread.tid()).is_some_and(|found| Arc::ptr_eq(found, thread));
        if !lives {
            return Err(Errno::EPERM);
        }
        link(&mut table, (caller.tid(), caller.process.pid), thread, seized, options)?;
    }
    if !seized {
        signal::send_to_thread(thread, Info::kernel(raw::SIGSTOP));
    }
    Ok(())
}

/// PTRACE_INTERRUPT.
pub(super) fn interrupt(thread: &Thread, tracee: &Tracee) -> Result<()> {
    if !tracee.is(mode::SEIZED) {
        return Err(Errno::EIO);
    }
    tracee.set(mode::TRAP_STOP);
    thread.add_work(work::SIGNAL);
    thread.wake(Sleep::INTERRUPTIBLE);
    stop::listen_again(thread, tracee);
    Ok(())
}

/// Lets a frozen thread go on with a signal or 0.
pub(super) fn go_on(thread: &Thread, tracee: &Tracee, signal: u32) {
    tracee.report.store(0, Ordering::Relaxed);
    tracee.resume.store(signal, Ordering::Release);
    thread.thaw();
    thread.wake(Sleep::TRACED);
}

/// Ends the relation to a frozen thread, whose registers are as it is to have them.
pub(super) fn detach(thread: &Thread) {
    let gone = unlink(&mut table::lock(), thread);
    rejoin_group(thread);
    drop(gone);
}

/// A thread that is traced no more stops with its group if that is stopped.
fn rejoin_group(thread: &Thread) {
    if thread.process.signals.lock().stopped_by().is_some() {
        thread.add_work(work::SIGNAL);
    }
}

/// The tracer, mode and options that a new thread has from its maker. `wanted`: the maker's tracer follows
/// it, or CLONE_PTRACE asks for it.
pub(in crate::task) fn tracer_of_new(maker: &Thread, event: u32, flags: u64) -> bool {
    let Some(tracee) = maker.traced() else { return false };
    let untraced = flags & u64::from(raw::CLONE_UNTRACED) != 0;
    flags & u64::from(raw::CLONE_PTRACE) != 0
        || (!untraced && tracee.has_option(super::option_of(event)))
}

/// A new thread gets its maker's tracer, and stops before it does anything.
pub(in crate::task) fn follow(table: &mut Table, maker: &Thread, child: &Arc<Thread>) {
    let Some(tracee) = maker.traced() else { return };
    let seized = tracee.is(mode::SEIZED);
    let tracer = (tracee.tracer(), tracee.tracer_process());
    let options = tracee.options.load(Ordering::Relaxed);
    if link(table, tracer, child, seized, options).is_err() {
        return;
    }
    if seized {
        if let Some(tracee) = child.traced() {
            tracee.set(mode::TRAP_STOP);
        }
    } else {
        child.pending.lock().set |= bit(raw::SIGSTOP);
    }
    child.add_work(work::SIGNAL);
}

/// A thread ends that is not its process's last. Gives its entry in the table, unless it stays there for
/// its tracer. `code`: what it was given to end with.
pub(in crate::task) fn thread_ended(thread: &Thread, code: u32) -> Option<Arc<Thread>> {
    let tracer = {
        let mut table = table::lock();
        let Some(tracee) = thread.traced() else { return table.remove_thread(thread.tid()) };
        tracee.status.store(thread.process.ending().unwrap_or(code << 8), Ordering::Relaxed);
        tracee.set(mode::ENDED);
        // A leader's end is its process's.
        (!thread.is_leader()).then(|| tracee.tracer_process())
    };
    tell_of_end(thread, tracer);
    None
}

fn tell_of_end(thread: &Thread, tracer: Option<u32>) {
    let (Some(tracer), Some(tracee)) = (tracer.and_then(find), thread.tracee.get()) else { return };
    let (code, value) = wait::describe(tracee.status.load(Ordering::Relaxed));
    let process = &thread.process;
    let user = process.credentials.lock().real_user;
    let ticks = process.cpu_time() / crate::task::resources::TICK;
    let info = Info::child(raw::SIGCHLD, code, thread.tid(), user, value, ticks);
    let ignored = tracer
        .actions
        .get()
        .is_some_and(|actions| actions.get(raw::SIGCHLD).handler == signal::IGNORE);
    if !ignored {
        signal::send_to_process(&tracer, info);
    }
    signal::wake_parent(&tracer);
}

/// A process's last thread ends, which is `thread`: makes the process one that has ended, for its parent
/// or, first, for its leader's tracer. Gives the parent to tell now, and what to drop.
pub(in crate::task) fn process_ended(
    process: &Arc<Process>,
    thread: &Thread,
) -> (Option<Arc<Process>>, Option<Arc<Thread>>) {
    let mut table = table::lock();
    let parent = table.process(process.parent_id()).cloned();
    let status = process.ending().unwrap_or(0);
    let is_unwanted = || parent.as_deref().is_some_and(|parent| exit::is_unwanted(process, parent));
    if !any() {
        let gone = table.remove_thread(thread.tid());
        if is_unwanted() {
            withhold_for_ever(process);
        } else {
            table.note_ended(process);
        }
        return (parent, gone);
    }
    // Marks a thread as ended for its tracer, or takes it out; gives that tracer, and what was taken.
    let end = |table: &mut Table, ending: &Arc<Thread>| match ending.traced() {
        Some(tracee) => {
            tracee.status.store(status, Ordering::Relaxed);
            tracee.set(mode::ENDED);
            (Some(tracee.tracer_process()), None)
        }
        None => (None, table.remove_thread(ending.tid())),
    };
    let mut told = Vec::new();
    let leader = table.thread(process.pid).cloned();
    let (tracer, mut gone) = match &leader {
        Some(leader) => end(&mut table, leader),
        None => (None, None),
    };
    // The leader had ended before.
    if !thread.is_leader()
        && let Some(own) = table.thread(thread.tid()).cloned()
    {
        let (tracer, entry) = end(&mut table, &own);
        gone = gone.or(entry);
        if let Some(tracer) = tracer
            && told.try_reserve(1).is_ok()
        {
            told.push((own, tracer));
        }
    }
    let withheld = tracer.is_some_and(|tracer| tracer != process.parent_id());
    if withheld {
        process.withheld.store(true, Ordering::Relaxed);
        process.set_zombie();
        if let (Some(leader), Some(tracer)) = (leader, tracer)
            && told.try_reserve(1).is_ok()
        {
            told.push((leader, tracer));
        }
    } else if tracer.is_none() && is_unwanted() {
        withhold_for_ever(process);
    } else {
        table.note_ended(process);
    }
    drop(table);
    for (ended, tracer) in told {
        tell_of_end(&ended, Some(tracer));
    }
    (parent.filter(|_| !withheld), gone)
}

/// An ended process goes at once: a wait on another CPU must not find it before.
fn withhold_for_ever(process: &Process) {
    process.withheld.store(true, Ordering::Relaxed);
    process.set_zombie();
}

/// Whether the leader of an ended process is traced, so that it cannot go before wait was told.
pub(in crate::task) fn is_kept(process: &Process) -> bool {
    any() && find_thread(process.pid).is_some_and(|leader| leader.is_traced())
}

/// A tracer was told of a thread's end, or is no tracer any more: the thread's entry is free, and a
/// parent from whom its process was withheld gets that. Gives what to do after unlocking.
pub(super) fn release_ended(table: &mut Table, thread: &Arc<Thread>) -> Released {
    let unlinked = unlink(table, thread);
    let entry = table.remove_thread(thread.tid());
    let process = &thread.process;
    let withheld = thread.is_leader() && process.withheld.swap(false, Ordering::Relaxed);
    if withheld {
        table.note_ended(process);
    }
    let heir = withheld.then(|| table.process(process.parent_id()).cloned()).flatten();
    Released { gone: [unlinked, entry], process: Arc::clone(process), heir }
}

/// What [`release_ended`] leaves to be done without the table's lock.
pub(super) struct Released {
    gone: [Option<Arc<Thread>>; 2],
    process: Arc<Process>,
    heir: Option<Arc<Process>>,
}

impl Released {
    /// Does it.
    pub(super) fn finish(self) {
        let Released { gone, process, heir } = self;
        drop(gone);
        if let Some(parent) = heir {
            exit::notify_parent(&process, &parent);
        }
    }
}

/// The current thread ends: whom it traces goes on without it.
pub(in crate::task) fn tracer_ended(tracer: &Thread) {
    tracer.ends.store(true, Ordering::SeqCst);
    if TRACED.load(Ordering::SeqCst) == 0 {
        return;
    }
    let pid = tracer.process.pid;
    loop {
        let mut table = table::lock();
        let own = |thread: &&Arc<Thread>| {
            thread.traced().is_some_and(|tracee| tracee.tracer() == tracer.tid())
        };
        let Some(thread) = table.tracees(pid).iter().find(own).cloned() else { return };
        let Some(tracee) = thread.traced() else { return };
        if tracee.is(mode::ENDED) {
            let released = release_ended(&mut table, &thread);
            drop(table);
            released.finish();
            continue;
        }
        let kill = tracee.has_option(abi::PTRACE_O_EXITKILL);
        let gone = unlink(&mut table, &thread);
        drop(table);
        drop(gone);
        tracee.calls.fetch_and(!(watch::REPORT | watch::EMULATE), Ordering::Relaxed);
        if kill {
            signal::send_to_thread(&thread, Info::kernel(raw::SIGKILL));
        }
        rejoin_group(&thread);
        thread.wake(Sleep::TRACED);
    }
}

/// A thread takes over its process's identifier, because its others have ended (exec).
pub(in crate::task) fn leader_changes(table: &mut Table, thread: &Thread) -> Option<Arc<Thread>> {
    if !any() {
        return None;
    }
    let (own, pid) = (thread.tid(), thread.process.pid);
    for tracee in table.tracees(pid).iter().filter_map(|tracee| tracee.traced()) {
        let _ = tracee.tracer.compare_exchange(own, pid, Ordering::AcqRel, Ordering::Relaxed);
    }
    let old = table.thread(pid).cloned()?;
    // The entry and the relation go; the last reference does after unlocking.
    drop(unlink(table, &old));
    table.remove_thread(pid);
    Some(old)
}
