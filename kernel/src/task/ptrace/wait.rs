//! What wait tells a tracer: stops and ends of its tracees, thread by thread.

use super::relation::{self, Released};
use super::{any, mode};
use crate::task::table::Table;
use crate::task::wait::{Event, Which, describe};
use crate::task::{Process, Thread, resources::Usage};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;

/// What a look at the tracees found.
pub(in crate::task) enum Found {
    /// None that was asked for.
    Nothing,
    /// There are some, about which there is nothing to tell.
    Silent,
    /// An event; and the process that has been collected with it.
    Event(Event, Option<Arc<Process>>, Option<Ended>),
}

/// An end that was told.
pub(in crate::task) struct Ended(Released);

impl Ended {
    /// Does what is to be done without the table's lock.
    pub(in crate::task) fn finish(self) {
        self.0.finish();
    }
}

/// Whether the leader of `child` is traced by a thread of `parent`, which then hears of it by [`look`].
pub(in crate::task) fn is_tracee(table: &Table, child: &Process, parent: &Process) -> bool {
    any()
        && table.thread(child.pid).is_some_and(|leader| {
            leader.traced().is_some_and(|tracee| tracee.tracer_process() == parent.pid)
        })
}

/// Looks at the tracees of `own`'s threads.
pub(in crate::task) fn look(table: &mut Table, own: &Process, which: Which, options: u32) -> Found {
    if !any() {
        return Found::Nothing;
    }
    let mut found = Found::Nothing;
    let mut ended = None;
    for thread in table.tracees(own.pid) {
        let wanted = match which {
            Which::Any => true,
            Which::Process(id) => thread.tid() == id,
            Which::Group(group) => thread.process.group() == group,
        };
        let Some(tracee) = thread.traced().filter(|_| wanted) else { continue };
        found = Found::Silent;
        if tracee.is(mode::ENDED) {
            // A leader's end is told with its process's.
            let delayed = thread.is_leader() && !thread.process.is_zombie();
            if options & raw::WEXITED != 0 && !delayed {
                ended = Some(Arc::clone(thread));
                break;
            }
            continue;
        }
        if tracee.is(mode::LISTENING) {
            continue;
        }
        let code = match options & raw::WNOWAIT {
            0 => tracee.report.swap(0, Ordering::AcqRel),
            _ => tracee.report.load(Ordering::Acquire),
        };
        if code != 0 {
            let status = code << 8 | 0x7f;
            let event = event(thread, status, raw::CLD_TRAPPED as i32, code);
            return Found::Event(event, None, None);
        }
    }
    match ended {
        Some(thread) => tell_end(table, own, &thread, options),
        None => found,
    }
}

fn event(thread: &Thread, status: u32, code: i32, value: u32) -> Event {
    let process = &thread.process;
    Event {
        pid: thread.tid(),
        user: process.credentials.lock().real_user,
        status,
        code,
        value,
        usage: Usage::of_child(process),
    }
}

fn tell_end(table: &mut Table, own: &Process, thread: &Arc<Thread>, options: u32) -> Found {
    let status = thread.tracee.get().map_or(0, |tracee| tracee.status.load(Ordering::Relaxed));
    let (code, value) = describe(status);
    let event = event(thread, status, code, value);
    if options & raw::WNOWAIT != 0 {
        return Found::Event(event, None, None);
    }
    let process = &thread.process;
    let released = relation::release_ended(table, thread);
    let is_child = process.parent_id() == own.pid;
    let collected = (thread.is_leader() && is_child).then(|| {
        own.add_child_usage(process);
        let gone = table.collect(process);
        drop(gone);
        Arc::clone(process)
    });
    Found::Event(event, collected, Some(Ended(released)))
}
