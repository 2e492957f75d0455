//! How threads and processes end.
//!
//! ```text
//!   exit          this thread ends                     end_thread
//!   exit_group    decide the status, kill the others   end_process
//!   killed        another decided; KILL work           end_thread, on the way out to ring 3
//!
//!   the last thread: close files, give up memory, children go to a reaper, become a zombie, tell
//!   the parent, switch away for ever. The next thread on this CPU frees stack and memory.
//! ```
//!
//! A thread that is not the last first leaves its process's list, then its other relations. Who has to be the only
//! one (the last thread, an exec) waits until those that have left the list have left all the rest too.

use super::process::Process;
use super::thread::{Sleep, Thread, work};
use super::{current, ptrace, robust, scheduler, table, wait};
use crate::signal::{self, Info};
use alloc::collections::BTreeMap;
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use linux_raw_sys::ptrace::PTRACE_EVENT_EXIT;

/// Ends the current thread as exit does. `code`: what exit was given, 0 to 255.
pub fn end_thread(code: u32) -> ! {
    let thread = current();
    let process = Arc::clone(&thread.process);
    if thread.is_traced() {
        // Whoever kills it now kills it again, and wakes it up.
        thread.clear_work(work::KILL);
        let status = process.ending().unwrap_or(code << 8);
        ptrace::event(&thread, thread.frame_pointer(), PTRACE_EVENT_EXIT, status.into());
    }
    ptrace::tracer_ended(&thread);
    leave_memory(&thread);
    if thread.is_leader() {
        process.leader_code.store(code << 8, Ordering::Relaxed);
    }
    let left = process.remove_thread(&thread);
    if left == 0 {
        process.wait_for_leaving();
        // Whoever collects it counts what it has used.
        scheduler::account(&thread, crate::time::now());
        if thread.is_leader() {
            process.decide_ending(code << 8);
        }
        // The leader ended first: the process's status is the leader's.
        process.decide_ending(process.leader_code.load(Ordering::Relaxed));
        end_whole(&process);
    } else {
        let pending = process.signals.lock().pending.set;
        if pending != 0 {
            signal::retarget(&process, pending & !thread.blocked());
        }
        signal::thread_ended(&process);
        let gone = ptrace::thread_ended(&thread, code);
        drop(gone);
        process.has_left();
    }
    drop(process);
    thread.set_dead();
    scheduler::schedule();
    unreachable!("nobody switches to a dead thread")
}

/// What a thread does to its memory when it leaves it, by ending or by exec: robust futexes, the
/// word that pthread_join waits for.
pub(super) fn leave_memory(thread: &Thread) {
    robust::walk(thread);
    let clear = thread.clear_child_tid.swap(0, Ordering::Relaxed);
    if clear != 0 {
        // A bad address is the program's own affair.
        if crate::user::write(clear, &0u32).is_ok() {
            super::futex::wake_address(clear, 1);
        }
    }
}

/// Ends the current process as exit_group does. `status`: as wait reports it.
pub fn end_process(status: u32) -> ! {
    let process = &current().process;
    if process.decide_ending(status) {
        kill_threads(process);
    }
    end_thread(status >> 8 & 0xff)
}

/// Ends the current process by `signal`; `dump`: the status bit of a core dump.
pub fn end_by_signal(signal: u32, dump: u32) -> ! {
    end_process(signal | dump)
}

/// Kills another process, or the current one on its way out.
pub fn kill_process(process: &Process, signal: u32) {
    // Also wakes threads of a process that is ending already but sleeps on its way.
    process.decide_ending(signal);
    kill_threads(process);
}

/// Memory is short: kills the process that has most of it, or lets one that is being killed get on
/// with it. False if that is the current one, which has to end at once.
///
/// Process 1 goes last: without it the machine ends.
pub fn relieve_memory() -> bool {
    let current = current();
    let mut victim: Option<(usize, Arc<Process>)> = None;
    {
        let table = table::lock();
        for process in table.processes() {
            // No handle: it might be the last one that is dropped here, with the table locked.
            let Some(pages) = process.mm.look(|mm| mm.sizes().1) else { continue };
            let pages = if process.is_init() { 0 } else { pages };
            if process.ending().is_some() && process.pid != current.process.pid {
                // What it has comes back soon.
                victim = Some((pages, Arc::clone(process)));
                break;
            }
            if victim.as_ref().is_none_or(|(most, _)| pages > *most) {
                victim = Some((pages, Arc::clone(process)));
            }
        }
    }
    let Some((pages, victim)) = victim else { return false };
    if victim.ending().is_none() {
        let name = victim.name();
        crate::println!(
            "ringwall: out of memory: process {} ({name}), {} KiB, is killed",
            victim.pid,
            pages * 4
        );
        if victim.pid != current.process.pid {
            kill_process(&victim, raw::SIGKILL);
        }
    }
    current.add_work(work::RESCHEDULE);
    victim.pid != current.process.pid
}

fn kill_threads(process: &Process) {
    signal::release(process);
    for thread in process.threads.lock().iter() {
        thread.add_work(work::KILL);
        thread.wake(Sleep::KILL);
    }
}

/// Kills every thread of the current process but the current one, and waits for their ends (exec).
pub(super) fn kill_other_threads(thread: &Thread) -> crate::errno::Result<()> {
    let process = &thread.process;
    {
        let threads = process.threads.lock();
        if threads.len() == 1 && process.nobody_leaves() {
            return Ok(());
        }
        if process.ending().is_some() || process.executing.swap(true, Ordering::AcqRel) {
            // Another thread was first; this one is being killed.
            return Err(crate::errno::Errno::EAGAIN);
        }
        for other in threads.iter().filter(|other| other.tid() != thread.tid()) {
            other.add_work(work::KILL);
            other.wake(Sleep::KILL);
        }
    }
    signal::release(process);
    let waited = process.thread_ended.wait_killable(|| process.is_single().then_some(()));
    process.executing.store(false, Ordering::Release);
    waited
}

/// The current process's last thread is ending.
fn end_whole(process: &Arc<Process>) {
    if process.is_init() {
        end_machine(process.ending().unwrap_or(0));
    }
    process.intervals.cancel();
    process.timers.clear();
    drop(process.files.replace(None));
    drop(process.paths.replace(None));
    crate::fs::process_ended(process.pid, process.session());
    if let Some(completion) = process.released.lock().take() {
        completion.complete();
    }
    process.note_memory();
    // The last handle: this CPU, and those that idle on it, leave the page tables.
    drop(process.mm.replace(None));

    let thread = current();
    let (children, hung_up, reaper) = {
        let mut table = table::lock();
        let reaper = find_reaper(&table, process);
        let children = table.reparent(process.pid, reaper);
        let hung_up = groups_to_hang_up(&table, process, &children);
        (children, hung_up, reaper)
    };
    for child in children.into_values() {
        let Some(child) = super::find(child).filter(|child| child.parent_id() == reaper) else {
            continue;
        };
        let death_signal = child.death_signal.load(Ordering::Relaxed);
        if death_signal != 0 {
            signal::send_to_process(&child, Info::kernel(death_signal));
        }
        if child.is_zombie()
            && !child.withheld.load(Ordering::Relaxed)
            && let Some(reaper) = super::find(reaper)
        {
            notify_parent(&child, &reaper);
        }
    }
    for group in hung_up {
        let _ = super::signal_group(group, raw::SIGHUP);
        let _ = super::signal_group(group, raw::SIGCONT);
    }
    if process.pid == process.session() {
        crate::fs::terminal::leader_ended(process.pid);
    }

    let (parent, gone) = ptrace::process_ended(process, &thread);
    drop(gone);
    if let Some(parent) = parent {
        notify_parent(process, &parent);
    }
}

/// Who adopts the children: the nearest ancestor that asked for it, else process 1.
fn find_reaper(table: &table::Table, process: &Process) -> u32 {
    let mut id = process.parent_id();
    while let Some(ancestor) = table.process(id) {
        if ancestor.is_subreaper.load(Ordering::Relaxed) && !ancestor.is_zombie() {
            return id;
        }
        id = ancestor.parent_id();
    }
    1
}

/// Groups with stopped members that nobody can let go on once `process` has ended and its children
/// are others'.
fn groups_to_hang_up(
    table: &table::Table,
    process: &Process,
    children: &BTreeMap<u64, u32>,
) -> Vec<u32> {
    let mut groups = Vec::new();
    let mut consider = |group: u32, ignored: Option<&Process>| {
        if groups.contains(&group) {
            return;
        }
        let stopped = table
            .group(group)
            .any(|member| member.pid != process.pid && member.signals.lock().is_stopped());
        if stopped && table::is_orphaned(table, group, ignored) {
            groups.push(group);
        }
    };
    // Only stopped processes matter, and there hardly ever are any.
    if signal::any_stopped() {
        // Its own group, if its parent was the one outside of the group who could have done it.
        let parent = table.process(process.parent_id());
        if parent.is_some_and(|parent| {
            parent.group() != process.group() && parent.session() == process.session()
        }) {
            consider(process.group(), Some(process));
        }
        for child in children.values().filter_map(|child| table.process(*child)) {
            if child.group() != process.group() && child.session() == process.session() {
                consider(child.group(), None);
            }
        }
    }
    groups
}

/// Whether `parent` does not want to collect `process`, its child.
pub(super) fn is_unwanted(process: &Process, parent: &Process) -> bool {
    let action = parent.actions.get().map(|actions| actions.get(raw::SIGCHLD));
    process.exit_signal.load(Ordering::Relaxed) == raw::SIGCHLD
        && action
            .is_some_and(|action| action.handler == signal::IGNORE || action.has(raw::SA_NOCLDWAIT))
}

/// Tells `parent` that `process`, its child, has ended; collects it at once if the parent does not
/// want to.
pub(super) fn notify_parent(process: &Arc<Process>, parent: &Arc<Process>) {
    let exit_signal = process.exit_signal.load(Ordering::Relaxed);
    let action = parent.actions.get().map(|actions| actions.get(raw::SIGCHLD));
    let ignored = action.is_some_and(|action| action.handler == signal::IGNORE);
    let unwanted = process.withheld.load(Ordering::Relaxed) || is_unwanted(process, parent);
    // A tracer collects whether it wants to or not. Before the signal: a wait that this ends finds no child any more.
    if unwanted && !ptrace::is_kept(process) {
        let gone = table::lock().collect(process);
        drop(gone);
    }
    if exit_signal != 0 && !(exit_signal == raw::SIGCHLD && ignored) {
        let status = process.ending().unwrap_or(0);
        let (code, value) = wait::describe(status);
        let user = process.credentials.lock().real_user;
        let ticks = process.cpu_time() / super::resources::TICK;
        let info = Info::child(exit_signal, code, process.pid, user, value, ticks);
        signal::send_to_process(parent, info);
    }
    signal::wake_parent(parent);
}

/// Process 1 has ended: there is nothing left to run.
fn end_machine(status: u32) -> ! {
    match status & 0x7f {
        0 => {
            crate::println!("process 1 ended with exit status {}: powering off", status >> 8 & 0xff)
        }
        signal => crate::println!("process 1 was killed by signal {signal}: powering off"),
    }
    crate::arch::cpu::power_off(false)
}
