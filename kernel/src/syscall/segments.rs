//! System calls: segments: modify_ldt, and set_thread_area and get_thread_area of INT 80h.

use super::{Call, Calls, for_rax};
use crate::errno::{Errno, Result};
use crate::mm::ldt;
use crate::task::{self, segments};
use crate::user;
use linux_raw_sys::general as raw;
use ringwall::Frame;
use ringwall::core::private::LDT_ENTRIES;
use ringwall::core::segment::Descriptor;
use ringwall::descriptors::THREAD_ENTRY;
use ringwall_rules::segments::{Form, Request};

/// This area's calls.
pub const CALLS: Calls = &[(raw::__NR_modify_ldt, modify_ldt as Call)];

/// struct user_desc in bytes.
const REQUEST_BYTES: u64 = 16;
/// What Linux says a default LDT has, all of it zeros.
const DEFAULT_BYTES: u64 = 128;

/// The outcome is a C int, not a long: an error leaves the upper half of RAX zero.
fn modify_ldt(frame: &mut Frame) -> u64 {
    let [function, pointer, bytes, ..] = frame.arguments();
    let outcome = match function as u32 {
        0 => read(pointer, bytes),
        1 => write(pointer, bytes, Form::Old),
        2 => read_default(pointer, bytes),
        0x11 => write(pointer, bytes, Form::New),
        _ => Err(Errno::ENOSYS),
    };
    for_rax(outcome) & 0xffff_ffff
}

fn read(pointer: u64, bytes: u64) -> Result<usize> {
    let content = task::current().mm().ldt_bytes(bytes.min(ldt::GREATEST as u64) as usize)?;
    user::write_bytes(pointer, &content)?;
    Ok(content.len())
}

fn read_default(pointer: u64, bytes: u64) -> Result<usize> {
    let bytes = bytes.min(DEFAULT_BYTES);
    user::clear(pointer, bytes)?;
    Ok(bytes as usize)
}

fn read_request(pointer: u64) -> Result<Request> {
    Ok(Request::from_words(user::read(pointer)?))
}

fn write(pointer: u64, bytes: u64, form: Form) -> Result<usize> {
    if bytes != REQUEST_BYTES {
        return Err(Errno::EINVAL);
    }
    let request = read_request(pointer)?;
    let entry = request.number as usize;
    if entry >= LDT_ENTRIES {
        return Err(Errno::EINVAL);
    }
    let descriptor = request.for_ldt(form).map_err(|_| Errno::EINVAL)?;
    task::current().mm().set_ldt_entry(entry, descriptor)?;
    Ok(0)
}

/// As an entry number: the kernel chooses.
const ANY: u32 = u32::MAX;

/// set_thread_area.
pub fn set_thread_area(pointer: u64) -> Result<usize> {
    let (number, segment) = wanted(pointer)?;
    let number = match number {
        ANY => {
            let free = segments::of_current().iter().position(|segment| segment.is_empty());
            let number = (THREAD_ENTRY + free.ok_or(Errno::ESRCH)?) as u32;
            user::write(pointer, &number)?;
            number
        }
        number => number,
    };
    segments::set(segments::place(number)?, segment);
    Ok(0)
}

fn wanted(pointer: u64) -> Result<(u32, Descriptor)> {
    let request = read_request(pointer)?;
    Ok((request.number, request.for_thread().map_err(|_| Errno::EINVAL)?))
}

/// What CLONE_SETTLS means by INT 80h: a new thread's own entry, and its place.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn of_new_thread(pointer: u64) -> Result<(usize, Descriptor)> {
    let (number, segment) = wanted(pointer)?;
    Ok((segments::place(number)?, segment))
}

/// get_thread_area.
pub fn get_thread_area(pointer: u64) -> Result<usize> {
    let number: u32 = user::read(pointer)?;
    let segment = segments::of_current()[segments::place(number)?];
    user::write(pointer, &Request::describing(number, segment).words())?;
    Ok(0)
}
