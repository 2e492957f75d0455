//! Waiting for children: what wait4 and waitid see.

use super::process::Process;
use super::resources::Usage;
use super::table;
use super::{current, ptrace, ptrace::wait::Told, thread::Sleep};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;

/// Which children are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// Any.
    Any,
    /// That process.
    Process(u32),
    /// Those of a process group.
    Group(u32),
}

/// What happened to a child.
pub struct Event {
    /// The child's identifier.
    pub pid: u32,
    /// Its real user.
    pub user: u32,
    /// As wait4 reports it.
    pub status: u32,
    /// CLD_*.
    pub code: i32,
    /// Exit status or signal, as waitid reports it.
    pub value: u32,
    /// What it used, children it collected included.
    pub usage: Usage,
}

/// CLD_* code and value of an ended process's wait status.
pub fn describe(status: u32) -> (i32, u32) {
    match status & 0x7f {
        0 => (raw::CLD_EXITED as i32, status >> 8 & 0xff),
        signal if status & 0x80 != 0 => (raw::CLD_DUMPED as i32, signal),
        signal => (raw::CLD_KILLED as i32, signal),
    }
}

/// Waits for an event of a child. `options`: W* bits. `None`: nothing yet, and WNOHANG.
///
/// # Errors
/// `ECHILD` if there is no such child, `ERESTARTSYS`.
pub fn wait(which: Which, options: u32) -> Result<Option<Event>> {
    let process = Arc::clone(&current().process);
    let mut collected = None;
    let outcome = process.child_events.wait_until(None, || {
        let (result, gone) = look(&process, which, options);
        collected = gone;
        match result {
            Ok(None) if options & raw::WNOHANG == 0 => None,
            other => Some(other),
        }
    });
    // The last reference to a child may go here, outside of all locks.
    drop(collected);
    outcome?
}

type Looked = (Result<Option<Event>>, Option<Arc<Process>>);

fn look(parent: &Process, which: Which, options: u32) -> Looked {
    let mut table = table::lock();
    let traced = ptrace::wait::look(&mut table, parent, which, options);
    if let Some(Told { event, collected, ended }) = traced.told {
        drop(table);
        if let Some(ended) = ended {
            ended.finish();
        }
        return (Ok(Some(event)), collected);
    }
    let eligible = |child: &Process| {
        let is_clone = child.exit_signal.load(Ordering::Relaxed) != raw::SIGCHLD;
        let kind = options & raw::__WALL != 0 || is_clone == (options & raw::__WCLONE != 0);
        kind && match which {
            Which::Any => true,
            Which::Process(pid) => child.pid == pid,
            Which::Group(group) => child.group() == group,
        }
    };
    if options & raw::WEXITED != 0 {
        let ended = match which {
            // The common case of one child does not look at the others.
            Which::Process(pid) => table.process(pid).filter(|child| {
                child.parent_id() == parent.pid
                    && child.is_zombie()
                    && !child.withheld.load(Ordering::Relaxed)
                    && eligible(child)
            }),
            _ => table.ended_children(parent.pid).find(|child| eligible(child)),
        };
        if let Some(child) = ended.cloned() {
            let event = ended_event(&child);
            if options & raw::WNOWAIT != 0 {
                return (Ok(Some(event)), None);
            }
            parent.add_child_usage(&child);
            let gone = table.collect(&child);
            drop(table);
            drop(gone);
            return (Ok(Some(event)), Some(child));
        }
    }
    if options & (raw::WSTOPPED | raw::WCONTINUED) != 0 {
        for child in table.children(parent.pid).filter(|child| eligible(child)) {
            let options = match ptrace::wait::is_tracee(&table, child, parent) {
                true => options & !raw::WSTOPPED,
                false => options,
            };
            if let Some(event) = stop_event(child, options) {
                return (Ok(Some(event)), None);
            }
        }
    }
    let exists = match which {
        Which::Any if options & raw::__WALL != 0 => table.has_child(parent.pid),
        Which::Process(pid) => table
            .process(pid)
            .is_some_and(|child| child.parent_id() == parent.pid && eligible(child)),
        _ => table.children(parent.pid).any(|child| eligible(child)),
    };
    (if exists || traced.any { Ok(None) } else { Err(Errno::ECHILD) }, None)
}

fn event(child: &Process, status: u32, code: i32, value: u32) -> Event {
    Event {
        pid: child.pid,
        user: child.credentials.lock().real_user,
        status,
        code,
        value,
        usage: Usage::of_child(child),
    }
}

fn ended_event(child: &Process) -> Event {
    let status = child.ending().unwrap_or(0);
    let (code, value) = describe(status);
    event(child, status, code, value)
}

fn stop_event(child: &Process, options: u32) -> Option<Event> {
    let mut signals = child.signals.lock();
    let keep = options & raw::WNOWAIT != 0;
    if options & raw::WSTOPPED != 0
        && let Some(signal) = signals.stop_report
    {
        if !keep {
            signals.stop_report = None;
        }
        drop(signals);
        return Some(event(child, signal << 8 | 0x7f, raw::CLD_STOPPED as i32, signal));
    }
    if options & raw::WCONTINUED != 0 && signals.continue_report {
        signals.continue_report = keep;
        drop(signals);
        return Some(event(child, 0xffff, raw::CLD_CONTINUED as i32, raw::SIGCONT));
    }
    None
}

/// Sleeps until a signal is delivered (pause, sigsuspend).
pub fn for_signal() -> Errno {
    match crate::sync::sleep(Sleep::INTERRUPTIBLE, None, || None::<()>) {
        Ok(()) => Errno::EINTR,
        Err(_) => Errno::ERESTARTNOHAND,
    }
}
