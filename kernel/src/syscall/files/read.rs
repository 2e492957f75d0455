//! read, pread64, lseek.

use super::arguments::file;
use crate::errno::{Errno, Result};
use crate::fs::inode::Kind;
use crate::fs::transfer::{MOST_BYTES, Sink, check_range};
use linux_raw_sys::general as abi;
use ringwall::Frame;

fn sink(frame: &Frame) -> Result<Sink<'static>> {
    let length = frame.rdx() as usize;
    // A length that is no length reaches out of user memory.
    check_range(frame.rsi(), length)?;
    Ok(Sink::User(frame.rsi(), length.min(MOST_BYTES)))
}

pub fn read(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    if !file.modes().0 {
        return Err(Errno::EBADF);
    }
    file.read(&mut sink(frame)?)
}

pub fn pread(frame: &mut Frame) -> Result<usize> {
    let offset = i64::try_from(frame.r10()).map_err(|_| Errno::EINVAL)?;
    let file = file(frame.rdi())?;
    file.read_at(offset as u64, &mut sink(frame)?)
}

pub fn lseek(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    let offset = frame.rsi() as i64;
    let operations = file.operations();
    if file.flags() & abi::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if operations.devours_seeks() {
        return Ok(0);
    }
    if !operations.seekable() {
        return Err(Errno::ESPIPE);
    }
    let inode = file.inode();
    file.with_position(|at| {
        let size = inode.size() as i64;
        let new = match frame.rdx() as u32 {
            abi::SEEK_SET => Some(offset),
            abi::SEEK_CUR => (*at as i64).checked_add(offset),
            abi::SEEK_END if inode.kind() == Kind::Directory => return Err(Errno::EINVAL),
            abi::SEEK_END => size.checked_add(offset),
            whence @ (abi::SEEK_DATA | abi::SEEK_HOLE) => {
                let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                Some(inode.seek(from, whence == abi::SEEK_HOLE)? as i64)
            }
            _ => return Err(Errno::EINVAL),
        };
        let new = new.ok_or(Errno::EOVERFLOW)?;
        *at = u64::try_from(new).map_err(|_| Errno::EINVAL)?;
        Ok(*at as usize)
    })
}

/// Advice about coming reads, which memory does not need.
pub fn advise(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    if file.operations().pipe().is_some() { Err(Errno::ESPIPE) } else { Ok(0) }
}
