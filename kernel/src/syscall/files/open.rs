//! open and its kin.

use super::arguments::{WORKING, path, start};
use crate::errno::{Errno, Result};
use crate::fs::{current, names};
use crate::user;
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::{FromBytes, IntoBytes};

/// Flags that mean something; open ignores others, openat2 refuses them.
const KNOWN: u32 = abi::O_ACCMODE
    | abi::O_CREAT
    | abi::O_EXCL
    | abi::O_NOCTTY
    | abi::O_TRUNC
    | abi::O_APPEND
    | abi::O_NONBLOCK
    | abi::O_SYNC
    | abi::FASYNC
    | abi::O_DIRECT
    | abi::O_LARGEFILE
    | abi::O_DIRECTORY
    | abi::O_NOFOLLOW
    | abi::O_NOATIME
    | abi::O_CLOEXEC
    | abi::O_PATH
    | abi::O_TMPFILE;

fn open_at(directory: u64, address: u64, flags: u32, mode: u32) -> Result<usize> {
    let path = path(address)?;
    let start = start(directory, &path)?;
    // 64-bit programs see the flag set on every file.
    let flags = flags & KNOWN | abi::O_LARGEFILE;
    let file = names::open(current::paths(), start.as_ref(), &path, flags, mode)?;
    let fd = current::files().add(file, 0, flags & abi::O_CLOEXEC != 0)?;
    Ok(fd as usize)
}

pub fn open(frame: &mut Frame) -> Result<usize> {
    open_at(WORKING, frame.rdi(), frame.rsi() as u32, frame.rdx() as u32)
}

pub fn openat(frame: &mut Frame) -> Result<usize> {
    open_at(frame.rdi(), frame.rsi(), frame.rdx() as u32, frame.r10() as u32)
}

pub fn creat(frame: &mut Frame) -> Result<usize> {
    let flags = abi::O_CREAT | abi::O_WRONLY | abi::O_TRUNC;
    open_at(WORKING, frame.rdi(), flags, frame.rsi() as u32)
}

/// struct open_how.
#[derive(FromBytes, IntoBytes)]
#[repr(C)]
struct How {
    flags: u64,
    mode: u64,
    resolve: u64,
}

pub fn openat2(frame: &mut Frame) -> Result<usize> {
    let size = frame.r10() as usize;
    if size < size_of::<How>() {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let how: How = user::read(frame.rdx())?;
    for at in size_of::<How>()..size {
        if user::read::<u8>(frame.rdx() + at as u64)? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let creates = how.flags & u64::from(abi::O_CREAT | (abi::O_TMPFILE & !abi::O_DIRECTORY)) != 0;
    if how.flags & !u64::from(KNOWN) != 0
        || how.mode & !0o7777 != 0
        || how.mode != 0 && !creates
        // Walks that are confined somewhere: programs fall back to openat.
        || how.resolve != 0
    {
        return Err(Errno::EINVAL);
    }
    open_at(frame.rdi(), frame.rsi(), how.flags as u32, how.mode as u32)
}
