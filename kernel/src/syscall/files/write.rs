//! write, pwrite64, and syncing, which has nothing to do.

use super::arguments::file;
use crate::errno::{Errno, Result};
use crate::fs::transfer::{MOST_BYTES, Source, check_range};
use ringwall::Frame;

fn source(frame: &Frame) -> Result<Source<'static>> {
    let length = frame.rdx() as usize;
    // A length that is no length reaches out of user memory.
    check_range(frame.rsi(), length)?;
    Ok(Source::User(frame.rsi(), length.min(MOST_BYTES)))
}

pub fn write(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    if !file.modes().1 {
        return Err(Errno::EBADF);
    }
    file.write(&mut source(frame)?)
}

pub fn pwrite(frame: &mut Frame) -> Result<usize> {
    let offset = i64::try_from(frame.r10()).map_err(|_| Errno::EINVAL)?;
    let file = file(frame.rdi())?;
    file.write_at(offset as u64, &mut source(frame)?)
}

pub fn sync_file(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    // What cannot be synced says so: pipes, terminals.
    if file.seekable() { Ok(0) } else { Err(Errno::EINVAL) }
}

pub fn sync(_frame: &mut Frame) -> Result<usize> {
    Ok(0)
}
