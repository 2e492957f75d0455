//! Process groups and sessions, as setpgid, setsid and the terminal see them.

use super::{Table, lock};
use crate::errno::{Errno, Result};
use crate::task::{Process, current};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// Whether no member of a group has a parent in the same session but another group, who could let
/// it go on after a stop: what a terminal asks before it stops a group.
pub fn group_is_orphaned(group: u32) -> bool {
    let table = lock();
    is_orphaned(&table, group, None)
}

/// As [`group_is_orphaned`], as if `ignored` had ended.
pub(in crate::task) fn is_orphaned(table: &Table, group: u32, ignored: Option<&Process>) -> bool {
    table.group(group).all(|member| {
        if ignored.is_some_and(|ignored| ignored.pid == member.pid) || member.is_zombie() {
            return true;
        }
        let Some(parent) = table.process(member.parent_id()) else { return true };
        parent.pid == 1 || parent.group() == group || parent.session() != member.session()
    })
}

/// setpgid: moves `pid` (0: the caller) to `group` (0: one of its own).
///
/// # Errors
/// `ESRCH`, `EPERM`, `EACCES`, `EINVAL`.
pub fn set_group(pid: i32, group: i32) -> Result<()> {
    if group < 0 {
        return Err(Errno::EINVAL);
    }
    let caller = Arc::clone(&current().process);
    let mut table = lock();
    let process = match pid {
        0 => Arc::clone(&caller),
        pid => Arc::clone(table.process(pid.cast_unsigned()).ok_or(Errno::ESRCH)?),
    };
    if process.pid != caller.pid {
        if process.parent_id() != caller.pid {
            return Err(Errno::ESRCH);
        }
        if process.session() != caller.session() {
            return Err(Errno::EPERM);
        }
        if process.has_executed.load(Ordering::Relaxed) {
            return Err(Errno::EACCES);
        }
    }
    if process.session() == process.pid {
        return Err(Errno::EPERM);
    }
    let group = if group == 0 { process.pid } else { group.cast_unsigned() };
    if group != process.pid && table.session_of_group(group) != Some(process.session()) {
        return Err(Errno::EPERM);
    }
    table.reserve_member(group)?;
    table.set_group(&process, group);
    Ok(())
}

/// setsid: the process leaves its group and session for new ones of its own.
///
/// # Errors
/// `EPERM` if it leads a session, or there is a group of its name.
pub fn set_session(process: &Process) -> Result<()> {
    let mut table = lock();
    if process.session() == process.pid || table.group(process.pid).next().is_some() {
        return Err(Errno::EPERM);
    }
    table.set_session(process);
    Ok(())
}
