//! Reads and writes of several buffers.

use super::arguments::file;
use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::fs::transfer::{MOST_BYTES, Sink, Source, check_range};
use crate::user;
use alloc::vec::Vec;
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// struct iovec.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Segment {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub length: u64,
}

/// Most segments of a call (UIO_MAXIOV).
const MOST: usize = 1024;

/// The segments at `address`, which may say anything.
///
/// # Errors
/// `EINVAL`, `EFAULT`, `ENOMEM`.
pub fn list(address: u64, count: u64) -> Result<Vec<Segment>> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    if count > MOST {
        return Err(Errno::EINVAL);
    }
    // A list is kept while the call sleeps.
    crate::mm::admit()?;
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    list.resize(count, Segment::new_zeroed());
    user::read_bytes(address, list.as_mut_bytes())?;
    if list.iter().any(|segment| segment.length > isize::MAX as u64) {
        return Err(Errno::EINVAL);
    }
    Ok(list)
}

/// As [`list`], of user memory, and no more of it than a call moves.
///
/// # Errors
/// As [`list`].
pub fn segments(address: u64, count: u64) -> Result<Vec<Segment>> {
    let mut list = list(address, count)?;
    let mut total = 0;
    for segment in &mut list {
        segment.length = segment.length.min((MOST_BYTES - total) as u64);
        check_range(segment.address, segment.length as usize)?;
        total += segment.length as usize;
    }
    Ok(list)
}

/// Moves segment after segment until one is not filled.
fn each(
    segments: &[Segment],
    mut one: impl FnMut(&Segment, usize) -> Result<Option<usize>>,
) -> Result<usize> {
    let mut done = 0;
    for segment in segments {
        if segment.length == 0 {
            continue;
        }
        match one(segment, done) {
            Ok(Some(moved)) => {
                done += moved;
                if moved < segment.length as usize {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

fn read(file: &File, segments: &[Segment], at: Option<u64>) -> Result<usize> {
    if !file.modes().0 {
        return Err(Errno::EBADF);
    }
    let stream = !file.seekable();
    each(segments, |segment, done| {
        // One read never waits after it has got something.
        if stream && done > 0 && file.poll() & abi::POLLIN == 0 {
            return Ok(None);
        }
        let mut sink = Sink::User(segment.address, segment.length as usize);
        match at {
            Some(at) => file.read_at(at.saturating_add(done as u64), &mut sink),
            None => file.read(&mut sink),
        }
        .map(Some)
    })
}

fn write(file: &File, segments: &[Segment], at: Option<u64>) -> Result<usize> {
    if !file.modes().1 {
        return Err(Errno::EBADF);
    }
    each(segments, |segment, done| {
        let mut source = Source::User(segment.address, segment.length as usize);
        match at {
            Some(at) => file.write_at(at.saturating_add(done as u64), &mut source),
            None => file.write(&mut source),
        }
        .map(Some)
    })
}

fn offset(frame: &Frame) -> Result<u64> {
    i64::try_from(frame.r10()).map(|offset| offset as u64).map_err(|_| Errno::EINVAL)
}

/// The offset of the calls with flags: -1 is the file's own position.
fn optional_offset(frame: &Frame) -> Result<Option<u64>> {
    let harmless = abi::RWF_HIPRI | abi::RWF_DSYNC | abi::RWF_SYNC;
    if frame.r9() as u32 & !harmless != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if frame.r10() == u64::MAX { Ok(None) } else { offset(frame).map(Some) }
}

pub fn readv(frame: &mut Frame) -> Result<usize> {
    read(&*file(frame.rdi())?, &segments(frame.rsi(), frame.rdx())?, None)
}

pub fn preadv(frame: &mut Frame) -> Result<usize> {
    let at = Some(offset(frame)?);
    read(&*file(frame.rdi())?, &segments(frame.rsi(), frame.rdx())?, at)
}

pub fn preadv2(frame: &mut Frame) -> Result<usize> {
    let at = optional_offset(frame)?;
    read(&*file(frame.rdi())?, &segments(frame.rsi(), frame.rdx())?, at)
}

pub fn writev(frame: &mut Frame) -> Result<usize> {
    write(&*file(frame.rdi())?, &segments(frame.rsi(), frame.rdx())?, None)
}

pub fn pwritev(frame: &mut Frame) -> Result<usize> {
    let at = Some(offset(frame)?);
    write(&*file(frame.rdi())?, &segments(frame.rsi(), frame.rdx())?, at)
}

pub fn pwritev2(frame: &mut Frame) -> Result<usize> {
    let at = optional_offset(frame)?;
    write(&*file(frame.rdi())?, &segments(frame.rsi(), frame.rdx())?, at)
}
