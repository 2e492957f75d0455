//! System calls: copies between the memories of two processes.

use super::files::{Segment, list, segments};
use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::mm::{Access, Mm, PAGE};
use crate::task::{self, Breath, Process, table};
use crate::user;
use linux_raw_sys::general as raw;
use ringwall::Frame;

/// Bytes copied at a time; what is written passes through the stack.
const AT_ONCE: usize = 1024;

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_process_vm_readv, process_vm_readv),
    (raw::__NR_process_vm_writev, process_vm_writev),
];

fn process_vm_readv(frame: &mut Frame) -> Result<usize> {
    transfer(frame, Access::Read)
}

fn process_vm_writev(frame: &mut Frame) -> Result<usize> {
    transfer(frame, Access::Write)
}

/// Copies until one side ends or cannot be accessed; what was copied until then counts.
fn transfer(frame: &Frame, access: Access) -> Result<usize> {
    let [pid, own, own_count, other, other_count, flags] = frame.arguments();
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let own = segments(own, own_count)?;
    if own.iter().all(|segment| segment.length == 0) {
        return Ok(0);
    }
    let other = list(other, other_count)?;
    let thread = table::find_thread(pid as u32).ok_or(Errno::ESRCH)?;
    if !may_access(&task::current().process, &thread.process) {
        return Err(Errno::EPERM);
    }
    let memory = thread.process.mm.get().ok_or(Errno::ESRCH)?;
    let mut own = Cursor::new(&own);
    let mut other = Cursor::new(&other);
    let mut done = 0;
    let mut breath = Breath::start();
    while let (Some((to, room)), Some((from, left))) = (own.next(), other.next()) {
        let in_page = PAGE - from % PAGE;
        let part = (room.min(left).min(in_page) as usize).min(AT_ONCE);
        match copy(&memory, from, to, part, access) {
            Ok(moved) if moved == part => done += moved,
            Ok(0) | Err(_) if done == 0 => return Err(Errno::EFAULT),
            Ok(moved) => return Ok(done + moved),
            Err(_) => break,
        }
        own.advance(part as u64);
        other.advance(part as u64);
        if breath.ends_after(part) {
            break;
        }
    }
    Ok(done)
}

/// Copies up to the end of one page of the other memory, at most [`AT_ONCE`]; gives the number of bytes.
fn copy(memory: &Mm, other: u64, own: u64, length: usize, access: Access) -> Result<usize> {
    if access == Access::Write {
        let mut bytes = [0; AT_ONCE];
        let read = user::read_some(own, &mut bytes[..length]);
        memory.write_for_other(other, &bytes[..read], false).map_err(|_| Errno::EFAULT)?;
        return Ok(read);
    }
    let page = memory.page_for_other(other, false).map_err(|_| Errno::EFAULT)?;
    Ok(user::write_from_page(own, &page, (other % PAGE) as usize, length))
}

/// Linux's rule for looking into another process (PTRACE_MODE_ATTACH_REALCREDS): the same user in every
/// way, and nothing in it that its user must not see; or root.
pub fn may_access(own: &Process, other: &Process) -> bool {
    if core::ptr::eq(own, other) {
        return true;
    }
    let credentials = own.credentials.lock().clone();
    if credentials.is_privileged() {
        return true;
    }
    let theirs = other.credentials.lock().clone();
    let (user, group) = (credentials.real_user, credentials.real_group);
    let users = [theirs.real_user, theirs.effective_user, theirs.saved_user];
    let groups = [theirs.real_group, theirs.effective_group, theirs.saved_group];
    users.iter().all(|other| *other == user)
        && groups.iter().all(|other| *other == group)
        && other.dumpable() == 1
}

/// A place in a list of segments.
struct Cursor<'a> {
    segments: &'a [Segment],
    done: u64,
}

impl<'a> Cursor<'a> {
    fn new(segments: &'a [Segment]) -> Cursor<'a> {
        Cursor { segments, done: 0 }
    }

    /// Address and length of what is left of the present segment; none at the end.
    fn next(&mut self) -> Option<(u64, u64)> {
        while let [first, rest @ ..] = self.segments {
            if self.done < first.length {
                return Some((first.address.wrapping_add(self.done), first.length - self.done));
            }
            (self.segments, self.done) = (rest, 0);
        }
        None
    }

    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
    }
}
