//! Copying between files without a program's buffer.

use super::arguments::file;
use crate::errno::{Errno, Result};
use crate::fs::File;
use crate::fs::inode::Kind;
use crate::fs::transfer::{MOST_BYTES, Sink, Source};
use crate::task::Breath;
use crate::user;
use alloc::vec::Vec;
use linux_raw_sys::general as abi;
use ringwall::Frame;

/// Bytes moved at once.
const CHUNK: usize = 16 << 10;

/// Moves up to `count` bytes from `from` at `at` to wherever `put` puts them. The position moves
/// by what was taken, so nothing that was read and not written is lost.
fn pump(
    from: &File,
    at: &mut u64,
    count: usize,
    mut put: impl FnMut(&mut Source<'_>, u64) -> Result<usize>,
) -> Result<usize> {
    crate::mm::admit()?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(CHUNK.min(count)).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(CHUNK.min(count), 0);
    let mut done = 0;
    let mut breath = Breath::start();
    while done < count {
        let length = (count - done).min(CHUNK);
        let step =
            from.read_at(*at, &mut Sink::Kernel(&mut buffer[..length])).and_then(
                |read| match read {
                    0 => Ok(0),
                    read => put(&mut Source::Kernel(&buffer[..read]), done as u64),
                },
            );
        match step {
            Ok(0) => break,
            Ok(moved) => {
                *at += moved as u64;
                done += moved;
                if breath.ends_after(moved) {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// Runs `copy` on the offset at `address`, or on the file's position if that is 0. The position is nobody's own
/// meanwhile, as on Linux: two copies between the same files, each the other way round, would wait for each other, and a
/// copy into a pipe for a reader that wants to know the position first.
fn with_offset(
    file: &File,
    address: u64,
    copy: impl FnOnce(&mut u64) -> Result<usize>,
) -> Result<usize> {
    if address == 0 {
        let mut at = file.position();
        let done = copy(&mut at)?;
        file.set_position(at);
        return Ok(done);
    }
    let offset: i64 = user::read(address)?;
    let mut at = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let done = copy(&mut at)?;
    user::write(address, &at)?;
    Ok(done)
}

pub fn sendfile(frame: &mut Frame) -> Result<usize> {
    let (from, to) = (file(frame.rsi())?, file(frame.rdi())?);
    if !from.modes().0 || !to.modes().1 {
        return Err(Errno::EBADF);
    }
    if from.inode().kind() != Kind::Regular || to.appends() {
        return Err(Errno::EINVAL);
    }
    let count = (frame.r10() as usize).min(MOST_BYTES);
    if core::ptr::eq(&*from, &*to) && frame.rdx() == 0 {
        return Err(Errno::EINVAL);
    }
    with_offset(&from, frame.rdx(), |at| pump(&from, at, count, |source, _| to.write(source)))
}

pub fn copy_file_range(frame: &mut Frame) -> Result<usize> {
    let (from, to) = (file(frame.rdi())?, file(frame.rdx())?);
    if frame.r9() as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    for one in [&from, &to] {
        match one.inode().kind() {
            Kind::Regular => {}
            Kind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    if !from.modes().0 || !to.modes().1 || to.flags() & abi::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    let count = (frame.r8() as usize).min(MOST_BYTES);
    if core::ptr::eq(&*from, &*to) && (frame.rsi() == 0 || frame.r10() == 0) {
        return Err(Errno::EINVAL);
    }
    let same = from.inode().identity() == to.inode().identity();
    with_offset(&from, frame.rsi(), |at| {
        with_offset(&to, frame.r10(), |to_at| {
            let start = *to_at;
            let end = count as u64;
            if same && *at < start.saturating_add(end) && start < at.saturating_add(end) {
                return Err(Errno::EINVAL);
            }
            let done = pump(&from, at, count, |source, done| to.write_at(start + done, source))?;
            *to_at = start + done as u64;
            Ok(done)
        })
    })
}
