//! Reads and writes of several buffers.

use super::arguments::file;
use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::fs::segments::{Segment, Segments};
use crate::fs::transfer::{MOST_BYTES, Sink, Source, check_range};
use crate::user;
use alloc::vec::Vec;
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::{FromZeros, IntoBytes};

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

fn total(segments: &[Segment]) -> usize {
    segments.iter().map(|segment| segment.length as usize).sum()
}

/// One read of the file, however many segments: nobody reads a part of it in between.
fn read(file: &File, segments: &[Segment], at: Option<u64>) -> Result<usize> {
    let total = total(segments);
    if !file.modes().0 {
        return Err(Errno::EBADF);
    }
    if total == 0 {
        return Ok(0);
    }
    let mut segments = Segments::new(segments);
    let mut sink = Sink::Segments(&mut segments, total);
    match at {
        Some(at) => file.read_at(at, &mut sink),
        None => file.read(&mut sink),
    }
}

/// One write of the file, as [`read`] is one read.
fn write(file: &File, segments: &[Segment], at: Option<u64>) -> Result<usize> {
    let total = total(segments);
    if !file.modes().1 {
        return Err(Errno::EBADF);
    }
    if total == 0 {
        return Ok(0);
    }
    let mut segments = Segments::new(segments);
    let mut source = Source::Segments(&mut segments, total);
    match at {
        Some(at) => file.write_at(at, &mut source),
        None => file.write(&mut source),
    }
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
