//! Another process's memory: a page at a time, through the direct map, with what a tracer may do beyond
//! the program's own rights.

use super::permission::may_access;
use crate::errno::{Errno, Result};
use crate::mm::{Mm, PAGE};
use crate::syscall::{Calls, calls};
use crate::task::find;
use crate::user;
use alloc::vec::Vec;
use linux_raw_sys::general as raw;
use ringwall::Frame;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Calls that reach into other processes.
pub const CALLS: Calls = calls![
    (raw::__NR_process_vm_readv, process_vm_readv),
    (raw::__NR_process_vm_writev, process_vm_writev),
];

/// Reads a word, whatever the program may do with it.
///
/// # Errors
/// `EIO`.
pub(super) fn peek(mm: &Mm, address: u64) -> Result<u64> {
    let mut word = [0; 8];
    let mut done = 0;
    while done < word.len() {
        let at = address.wrapping_add(done as u64);
        let page = mm.foreign_page(at, false, true).map_err(|_| Errno::EIO)?;
        let offset = (at % PAGE) as usize;
        let part = (PAGE as usize - offset).min(word.len() - done);
        page.read(offset, &mut word[done..done + part]);
        done += part;
    }
    Ok(u64::from_le_bytes(word))
}

/// Writes a word, into a copy of what the program may only read.
///
/// # Errors
/// `EIO`.
pub(super) fn poke(mm: &Mm, address: u64, value: u64) -> Result<()> {
    let word = value.to_le_bytes();
    let mut done = 0;
    while done < word.len() {
        let at = address.wrapping_add(done as u64);
        let page = mm.foreign_page(at, true, true).map_err(|_| Errno::EIO)?;
        let offset = (at % PAGE) as usize;
        let part = (PAGE as usize - offset).min(word.len() - done);
        page.write(offset, &word[done..done + part]);
        done += part;
    }
    Ok(())
}

/// Reads at most 15 bytes of code, as many as there are.
pub(super) fn read_code(mm: &Mm, address: u64) -> ([u8; 15], usize) {
    let mut code = [0; 15];
    let mut done = 0;
    while done < code.len() {
        let at = address.wrapping_add(done as u64);
        let Ok(page) = mm.foreign_page(at, false, true) else { break };
        let offset = (at % PAGE) as usize;
        let part = (PAGE as usize - offset).min(code.len() - done);
        page.read(offset, &mut code[done..done + part]);
        done += part;
    }
    (code, done)
}

/// struct iovec.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
struct Segment {
    address: u64,
    length: u64,
}

/// Most segments of a list (UIO_MAXIOV).
const MOST: u64 = 1024;

fn segments(address: u64, count: u64) -> Result<Vec<Segment>> {
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    crate::mm::admit()?;
    let mut list = Vec::new();
    list.try_reserve_exact(count as usize).map_err(|_| Errno::ENOMEM)?;
    list.resize(count as usize, Segment::new_zeroed());
    user::read_bytes(address, list.as_mut_bytes())?;
    if list.iter().any(|segment| segment.length > isize::MAX as u64) {
        return Err(Errno::EINVAL);
    }
    Ok(list)
}

fn process_vm_readv(frame: &mut Frame) -> Result<usize> {
    transfer(frame, false)
}

fn process_vm_writev(frame: &mut Frame) -> Result<usize> {
    transfer(frame, true)
}

fn transfer(frame: &Frame, write: bool) -> Result<usize> {
    let [pid, local, local_count, remote, remote_count, flags] = frame.arguments();
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let local = segments(local, local_count)?;
    if local.iter().any(|segment| !user::is_user_range(segment.address, segment.length)) {
        return Err(Errno::EFAULT);
    }
    let room = local.iter().map(|segment| segment.length as usize).fold(0, usize::saturating_add);
    if room == 0 {
        return Ok(0);
    }
    let remote = segments(remote, remote_count)?;
    let process = find(pid as u32).ok_or(Errno::ESRCH)?;
    if !may_access(&process) {
        return Err(Errno::EPERM);
    }
    let mm = process.mm.get().ok_or(Errno::ESRCH)?;
    let mut local = Local { segments: &local, done: 0 };
    let mut done = 0;
    for segment in remote {
        let mut at = segment.address;
        let mut left = segment.length;
        while left > 0 && done < room {
            let Ok(page) = mm.foreign_page(at, write, false) else { return partly(done) };
            let offset = (at % PAGE) as usize;
            let part = left.min(PAGE - at % PAGE) as usize;
            let (address, part) = local.next(part);
            let moved = match write {
                true => user::read_into_page(address, &page, offset, part),
                false => user::write_from_page(address, &page, offset, part),
            };
            done += moved;
            if moved < part || crate::task::breathe() {
                return partly(done);
            }
            at = at.wrapping_add(part as u64);
            left -= part as u64;
        }
    }
    Ok(done)
}

fn partly(done: usize) -> Result<usize> {
    if done == 0 { Err(Errno::EFAULT) } else { Ok(done) }
}

/// Where in its own segments a transfer is.
struct Local<'a> {
    segments: &'a [Segment],
    done: u64,
}

impl Local<'_> {
    /// The next part, of at most `most` bytes. There is one.
    fn next(&mut self, most: usize) -> (u64, usize) {
        while let Some((segment, rest)) = self.segments.split_first() {
            let left = segment.length - self.done;
            if left > 0 {
                let part = left.min(most as u64);
                let address = segment.address + self.done;
                self.done += part;
                return (address, part as usize);
            }
            (self.segments, self.done) = (rest, 0);
        }
        (0, 0)
    }
}
