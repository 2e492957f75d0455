//! Pipes, eventfd, memfd; no sockets.

use crate::errno::{Errno, Result};
use crate::fs::pipe::Pipe;
use crate::fs::{current, eventfd as event, names};
use crate::user;
use linux_raw_sys::general as abi;
use ringwall::Frame;

fn make_pipe(address: u64, flags: u32) -> Result<usize> {
    if flags & !(abi::O_CLOEXEC | abi::O_NONBLOCK | abi::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    current::admit()?;
    let (read, write) = Pipe::pair(flags & (abi::O_NONBLOCK | abi::O_DIRECT))?;
    let files = current::files();
    let on_exec = flags & abi::O_CLOEXEC != 0;
    let first = files.add(read, 0, on_exec)?;
    let outcome = files.add(write, 0, on_exec).and_then(|second| {
        let written = user::write(address, &[first, second]);
        if written.is_err() {
            let _ = files.close(second);
        }
        written
    });
    if outcome.is_err() {
        let _ = files.close(first);
    }
    outcome.map(|()| 0)
}

pub fn pipe(frame: &mut Frame) -> Result<usize> {
    make_pipe(frame.rdi(), 0)
}

pub fn pipe2(frame: &mut Frame) -> Result<usize> {
    make_pipe(frame.rdi(), frame.rsi() as u32)
}

fn make_event(initial: u64, flags: u32) -> Result<usize> {
    current::admit()?;
    let file = event::create(initial as u32, flags)?;
    Ok(current::files().add(file, 0, flags & abi::EFD_CLOEXEC != 0)? as usize)
}

pub fn eventfd(frame: &mut Frame) -> Result<usize> {
    make_event(frame.rdi(), 0)
}

pub fn eventfd2(frame: &mut Frame) -> Result<usize> {
    make_event(frame.rdi(), frame.rsi() as u32)
}

pub fn memfd_create(frame: &mut Frame) -> Result<usize> {
    /// Longest name.
    const NAME: usize = 249;
    let flags = frame.rsi() as u32;
    let known = abi::MFD_CLOEXEC | abi::MFD_ALLOW_SEALING | abi::MFD_NOEXEC_SEAL | abi::MFD_EXEC;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let name = match user::read_string(frame.rdi(), NAME) {
        Err(Errno::ENAMETOOLONG) => return Err(Errno::EINVAL),
        other => other?,
    };
    let sealable = flags & (abi::MFD_ALLOW_SEALING | abi::MFD_NOEXEC_SEAL) != 0;
    let file = names::memory_file(&name, if sealable { 0 } else { abi::F_SEAL_SEAL })?;
    Ok(current::files().add(file, 0, flags & abi::MFD_CLOEXEC != 0)? as usize)
}

/// There is no network.
pub fn no_family(_frame: &mut Frame) -> Result<usize> {
    Err(Errno::EAFNOSUPPORT)
}
