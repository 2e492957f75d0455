//! flock and fcntl's record locks.

use super::arguments::file;
use crate::errno::{Errno, Result};
use crate::fs::lock::{self, Lock, Owner};
use crate::fs::{File, current};
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// struct flock.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Record {
    kind: i16,
    whence: i16,
    padding: u32,
    start: i64,
    length: i64,
    pid: i32,
    padding2: u32,
}

pub fn flock(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    let operation = frame.rsi() as u32;
    let mut wanted = Lock {
        inode: file.inode().identity(),
        whole: true,
        owner: lock::file_owner(&file),
        exclusive: false,
        start: 0,
        end: u64::MAX,
    };
    match operation & !abi::LOCK_NB {
        abi::LOCK_UN => lock::release(wanted)?,
        kind @ (abi::LOCK_SH | abi::LOCK_EX) => {
            wanted.exclusive = kind == abi::LOCK_EX;
            lock::acquire(wanted, operation & abi::LOCK_NB == 0)?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// The bytes that `record` means.
fn range(file: &Arc<File>, record: &Record, by_file: bool) -> Result<Lock> {
    if by_file && record.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let base = match record.whence as u32 {
        abi::SEEK_SET => 0,
        abi::SEEK_CUR => file.position() as i64,
        abi::SEEK_END => file.inode().size() as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(record.start).ok_or(Errno::EOVERFLOW)?;
    let (start, end) = match record.length {
        0 => (start, i64::MAX),
        length if length > 0 => (start, start.checked_add(length).ok_or(Errno::EOVERFLOW)?),
        length => (start.checked_add(length).ok_or(Errno::EINVAL)?, start),
    };
    Ok(Lock {
        inode: file.inode().identity(),
        whole: false,
        owner: if by_file { lock::file_owner(file) } else { Owner::Process(current::pid()) },
        exclusive: i32::from(record.kind) == abi::F_WRLCK as i32,
        start: u64::try_from(start).map_err(|_| Errno::EINVAL)?,
        end: end as u64,
    })
}

/// F_GETLK.
pub fn test(file: &Arc<File>, address: u64, by_file: bool) -> Result<usize> {
    let mut record: Record = user::read(address)?;
    if !matches!(record.kind as u32, abi::F_RDLCK | abi::F_WRLCK) {
        return Err(Errno::EINVAL);
    }
    let wanted = range(file, &record, by_file)?;
    match lock::conflicting(&wanted) {
        None => record.kind = abi::F_UNLCK as i16,
        Some(held) => {
            record.kind = (if held.exclusive { abi::F_WRLCK } else { abi::F_RDLCK }) as i16;
            record.whence = abi::SEEK_SET as i16;
            record.start = held.start as i64;
            let to_end = held.end == i64::MAX as u64;
            record.length = if to_end { 0 } else { (held.end - held.start) as i64 };
            record.pid = match held.owner {
                Owner::Process(pid) => pid as i32,
                Owner::File(_) => -1,
            };
        }
    }
    user::write(address, &record)?;
    Ok(0)
}

/// F_SETLK and F_SETLKW.
pub fn set(file: &Arc<File>, address: u64, by_file: bool, wait: bool) -> Result<usize> {
    let record: Record = user::read(address)?;
    let wanted = range(file, &record, by_file)?;
    let (read, write) = file.modes();
    match record.kind as u32 {
        abi::F_UNLCK => lock::release(wanted)?,
        abi::F_RDLCK if !read => return Err(Errno::EBADF),
        abi::F_WRLCK if !write => return Err(Errno::EBADF),
        abi::F_RDLCK | abi::F_WRLCK => lock::acquire(wanted, wait)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
