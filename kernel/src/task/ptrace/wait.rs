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
#[derive(Default)]
pub(in crate::task) struct Found {
    /// There are some that were asked for.
    pub any: bool,
    /// What there is to tell.
    pub told: Option<Told>,
}

/// An event that is told.
pub(in crate::task) struct Told {
    pub event: Event,
    /// The process that has been collected with it.
    pub collected: Option<Arc<Process>>,
    /// If it is an end, what is to be done without the table's lock.
    pub ended: Option<Ended>,
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
    let mut found = Found::default();
    if !any() {
        return found;
    }
    let mut ended = None;
    for thread in table.tracees(own.pid) {
        let wanted = match which {
            Which::Any => true,
            Which::Process(id) => thread.tid() == id,
            Which::Group(group) => thread.process.group() == group,
        };
        let Some(tracee) = thread.traced().filter(|_| wanted) else { continue };
        found.any = true;
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
            found.told = Some(Told { event, collected: None, ended: None });
            return found;
        }
    }
    found.told = ended.map(|thread| tell_end(table, own, &thread, options));
    found
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

fn tell_end(table: &mut Table, own: &Process, thread: &Arc<Thread>, options: u32) -> Told {
    // While its process ends, that is how each of its threads does.
    let own_status = thread.tracee.get().map_or(0, |tracee| tracee.status.load(Ordering::Relaxed));
    let status = thread.process.ending().unwrap_or(own_status);
    let (code, value) = describe(status);
    let event = event(thread, status, code, value);
    if options & raw::WNOWAIT != 0 {
        return Told { event, collected: None, ended: None };
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
    Told { event, collected, ended: Some(Ended(released)) }
}
