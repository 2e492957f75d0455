//! close, dup, fcntl, ioctl.

use super::{arguments::file, locks};
use crate::errno::{Errno, Result};
use crate::fs::current;
use crate::user;
use linux_raw_sys::{general as abi, ioctl as requests};
use ringwall::Frame;

pub fn close(frame: &mut Frame) -> Result<usize> {
    current::files().close(frame.rdi() as u32)?;
    Ok(0)
}

pub fn close_range(frame: &mut Frame) -> Result<usize> {
    const UNSHARE: u32 = 2;
    const MARK: u32 = 4;
    let (first, last, flags) = (frame.rdi() as u32, frame.rsi() as u32, frame.rdx() as u32);
    if flags & !(UNSHARE | MARK) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        current::unshare_files()?;
    }
    current::files().close_range(first, last, flags & MARK != 0);
    Ok(0)
}

pub fn dup(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    Ok(current::files().add(file, 0, false)? as usize)
}

fn duplicate(old: u64, new: u64, on_exec: bool) -> Result<usize> {
    let new = new as u32;
    let file = file(old)?;
    current::files().replace(new, file, on_exec)?;
    Ok(new as usize)
}

pub fn dup2(frame: &mut Frame) -> Result<usize> {
    if frame.rdi() as u32 == frame.rsi() as u32 {
        file(frame.rdi())?;
        return Ok(frame.rdi() as u32 as usize);
    }
    duplicate(frame.rdi(), frame.rsi(), false)
}

pub fn dup3(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rdx() as u32;
    if flags & !abi::O_CLOEXEC != 0 || frame.rdi() as u32 == frame.rsi() as u32 {
        return Err(Errno::EINVAL);
    }
    duplicate(frame.rdi(), frame.rsi(), flags != 0)
}

pub fn fcntl(frame: &mut Frame) -> Result<usize> {
    let (fd, command, argument) = (frame.rdi() as u32, frame.rsi() as u32, frame.rdx());
    let files = current::files();
    let file = files.get(fd)?;
    let path_only = file.flags() & abi::O_PATH != 0;
    match command {
        abi::F_DUPFD | abi::F_DUPFD_CLOEXEC => {
            if argument >= u64::from(current::descriptor_limit()) {
                return Err(Errno::EINVAL);
            }
            let on_exec = command == abi::F_DUPFD_CLOEXEC;
            Ok(files.add(file, argument as u32, on_exec)? as usize)
        }
        abi::F_GETFD => Ok(usize::from(files.on_exec(fd)?)),
        abi::F_SETFD => {
            files.set_on_exec(fd, argument as u32 & abi::FD_CLOEXEC != 0)?;
            Ok(0)
        }
        abi::F_GETFL => Ok(file.flags() as usize),
        _ if path_only => Err(Errno::EBADF),
        abi::F_SETFL => {
            file.set_flags(argument as u32);
            Ok(0)
        }
        abi::F_GETLK | abi::F_OFD_GETLK => {
            locks::test(&file, argument, command == abi::F_OFD_GETLK)
        }
        abi::F_SETLK | abi::F_OFD_SETLK => {
            locks::set(&file, argument, command == abi::F_OFD_SETLK, false)
        }
        abi::F_SETLKW | abi::F_OFD_SETLKW => {
            locks::set(&file, argument, command == abi::F_OFD_SETLKW, true)
        }
        abi::F_SETPIPE_SZ => {
            file.operations().pipe().ok_or(Errno::EBADF)?.resize(argument as u32 as usize)
        }
        abi::F_GETPIPE_SZ => Ok(file.operations().pipe().ok_or(Errno::EBADF)?.size()),
        abi::F_ADD_SEALS => {
            if !file.modes().1 {
                return Err(Errno::EPERM);
            }
            file.inode().seals(Some(argument as u32))?;
            Ok(0)
        }
        abi::F_GET_SEALS => Ok(file.inode().seals(None)? as usize),
        // Who gets SIGIO: nobody, it is never sent.
        abi::F_GETOWN | abi::F_SETOWN | abi::F_GETSIG | abi::F_SETSIG => Ok(0),
        abi::F_GETLEASE => Ok(abi::F_UNLCK as usize),
        _ => Err(Errno::EINVAL),
    }
}

pub fn ioctl(frame: &mut Frame) -> Result<usize> {
    let (fd, request, argument) = (frame.rdi() as u32, frame.rsi() as u32, frame.rdx());
    let file = file(frame.rdi())?;
    if file.flags() & abi::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    match request {
        requests::FIOCLEX => current::files().set_on_exec(fd, true)?,
        requests::FIONCLEX => current::files().set_on_exec(fd, false)?,
        requests::FIONBIO => {
            let on: u32 = user::read(argument)?;
            let flags = file.flags() & !abi::O_NONBLOCK;
            file.set_flags(if on != 0 { flags | abi::O_NONBLOCK } else { flags });
        }
        requests::FIONREAD if file.inode().kind() == crate::fs::inode::Kind::Regular => {
            let left = file.inode().size().saturating_sub(file.position());
            user::write(argument, &(left.min(i32::MAX as u64) as u32))?;
        }
        _ => return file.operations().control(&file, request, argument),
    }
    Ok(0)
}
