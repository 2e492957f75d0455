//! Changing modes, owners, times and sizes.

use super::arguments::{Target, Timespec, WORKING, file, target};
use crate::errno::{Errno, Result};
use crate::fs::hold::Hold;
use crate::fs::inode::{Change, Kind};
use crate::fs::{current, permission};
use crate::{time, user};
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::FromBytes;

fn change_mode(target: &Target, mode: u32) -> Result<usize> {
    target.check_writable()?;
    permission::check_owner(&*target.inode)?;
    let mode = Some(mode & 0o7777);
    target.inode.change(&Change { mode, ..Change::default() })?;
    Ok(0)
}

pub fn chmod(frame: &mut Frame) -> Result<usize> {
    change_mode(&target(WORKING, frame.rdi(), 0)?, frame.rsi() as u32)
}

pub fn fchmod(frame: &mut Frame) -> Result<usize> {
    change_mode(&described(frame.rdi())?, frame.rsi() as u32)
}

pub fn fchmodat(frame: &mut Frame) -> Result<usize> {
    change_mode(&target(frame.rdi(), frame.rsi(), 0)?, frame.rdx() as u32)
}

/// What an open file, not merely a path's descriptor, is about.
fn described(fd: u64) -> Result<Target> {
    let file = file(fd)?;
    if file.flags() & abi::O_PATH != 0 { Err(Errno::EBADF) } else { Ok(Target::of(&file)) }
}

fn change_owner(target: &Target, user: u64, group: u64) -> Result<usize> {
    let given = |value: u64| (value as u32 != u32::MAX).then_some(value as u32);
    let (user, group) = (given(user), given(group));
    target.check_writable()?;
    if user.is_some() || group.is_some_and(|group| !permission::in_group(group)) {
        permission::check_superuser()?;
    } else {
        permission::check_owner(&*target.inode)?;
    }
    target.inode.change(&Change { user, group, ..Change::default() })?;
    Ok(0)
}

pub fn chown(frame: &mut Frame) -> Result<usize> {
    change_owner(&target(WORKING, frame.rdi(), 0)?, frame.rsi(), frame.rdx())
}

pub fn lchown(frame: &mut Frame) -> Result<usize> {
    let target = target(WORKING, frame.rdi(), abi::AT_SYMLINK_NOFOLLOW)?;
    change_owner(&target, frame.rsi(), frame.rdx())
}

pub fn fchown(frame: &mut Frame) -> Result<usize> {
    change_owner(&described(frame.rdi())?, frame.rsi(), frame.rdx())
}

pub fn fchownat(frame: &mut Frame) -> Result<usize> {
    let flags = frame.r8() as u32;
    if flags & !(abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    change_owner(&target(frame.rdi(), frame.rsi(), flags)?, frame.rdx(), frame.r10())
}

/// A time to set: `None` leaves it.
type Times = [Option<u64>; 2];

/// Sets times; `now` if both are the present, which needs only write permission.
fn change_times(target: &Target, times: Times, now: bool) -> Result<usize> {
    target.check_writable()?;
    if permission::check_owner(&*target.inode).is_err() {
        if !now {
            return Err(Errno::EPERM);
        }
        permission::check(&*target.inode, permission::WRITE)?;
    }
    let [accessed, modified] = times;
    target.inode.change(&Change { accessed, modified, ..Change::default() })?;
    Ok(0)
}

fn present() -> Times {
    [Some(time::realtime()); 2]
}

pub fn utimensat(frame: &mut Frame) -> Result<usize> {
    const NOW: i64 = (1 << 30) - 1;
    const OMIT: i64 = (1 << 30) - 2;
    let flags = frame.r10() as u32;
    let given: Option<[Timespec; 2]> =
        if frame.rdx() == 0 { None } else { Some(user::read(frame.rdx())?) };
    if given.is_some_and(|given| given.iter().all(|time| time.nanoseconds == OMIT)) {
        return Ok(0);
    }
    if flags & !(abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    // Without a path it is the descriptor itself (futimens).
    let target = match (frame.rsi(), flags) {
        (0, 0) if frame.rdi() as i32 != abi::AT_FDCWD => described(frame.rdi())?,
        (0, _) if frame.rdi() as i32 != abi::AT_FDCWD => return Err(Errno::EINVAL),
        _ => target(frame.rdi(), frame.rsi(), flags)?,
    };
    let mut times = present();
    for (time, given) in times.iter_mut().zip(given.into_iter().flatten()) {
        match given.nanoseconds {
            NOW => {}
            OMIT => *time = None,
            nanoseconds if !(0..1_000_000_000).contains(&nanoseconds) => {
                return Err(Errno::EINVAL);
            }
            // Before 1970 is 1970 here.
            _ => *time = Some(given.to_nanoseconds().unwrap_or(0)),
        }
    }
    let now = given.is_none_or(|given| given.iter().all(|time| time.nanoseconds == NOW));
    change_times(&target, times, now)
}

/// Seconds and microseconds.
#[derive(Clone, Copy, FromBytes)]
#[repr(C)]
struct Timeval {
    seconds: i64,
    microseconds: i64,
}

fn read_timevals(address: u64) -> Result<(Times, bool)> {
    if address == 0 {
        return Ok((present(), true));
    }
    let given: [Timeval; 2] = user::read(address)?;
    let mut times = [None; 2];
    for (time, given) in times.iter_mut().zip(given) {
        if !(0..1_000_000).contains(&given.microseconds) {
            return Err(Errno::EINVAL);
        }
        let seconds = given.seconds.max(0) as u64;
        let nanoseconds = given.microseconds as u64 * 1000;
        *time = Some(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds));
    }
    Ok((times, false))
}

pub fn utimes(frame: &mut Frame) -> Result<usize> {
    let (times, now) = read_timevals(frame.rsi())?;
    change_times(&target(WORKING, frame.rdi(), 0)?, times, now)
}

pub fn futimesat(frame: &mut Frame) -> Result<usize> {
    let (times, now) = read_timevals(frame.rdx())?;
    let target = if frame.rsi() == 0 && frame.rdi() as i32 != abi::AT_FDCWD {
        described(frame.rdi())?
    } else {
        target(frame.rdi(), frame.rsi(), 0)?
    };
    change_times(&target, times, now)
}

pub fn utime(frame: &mut Frame) -> Result<usize> {
    let (mut times, mut now) = (present(), true);
    if frame.rsi() != 0 {
        let given: [i64; 2] = user::read(frame.rsi())?;
        times = given.map(|time| Some((time.max(0) as u64).saturating_mul(1_000_000_000)));
        now = false;
    }
    change_times(&target(WORKING, frame.rdi(), 0)?, times, now)
}

pub fn umask(frame: &mut Frame) -> Result<usize> {
    Ok(current::paths().set_umask(frame.rdi() as u32) as usize)
}

pub fn truncate(frame: &mut Frame) -> Result<usize> {
    let size = i64::try_from(frame.rsi()).map_err(|_| Errno::EINVAL)?;
    let target = target(WORKING, frame.rdi(), 0)?;
    match target.inode.kind() {
        Kind::Regular => {}
        Kind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    target.check_writable()?;
    permission::check(&*target.inode, permission::WRITE)?;
    let _hold = Hold::writing(&target.inode)?;
    target.inode.truncate(size as u64)?;
    Ok(0)
}

pub fn ftruncate(frame: &mut Frame) -> Result<usize> {
    let size = i64::try_from(frame.rsi()).map_err(|_| Errno::EINVAL)?;
    let file = file(frame.rdi())?;
    if file.flags() & abi::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    if file.inode().kind() != Kind::Regular || !file.modes().1 {
        return Err(Errno::EINVAL);
    }
    file.inode().truncate(size as u64)?;
    Ok(0)
}

pub fn fallocate(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    let (mode, offset, length) = (frame.rsi() as u32, frame.rdx() as i64, frame.r10() as i64);
    if offset < 0 || length <= 0 {
        return Err(Errno::EINVAL);
    }
    if !file.modes().1 {
        return Err(Errno::EBADF);
    }
    match file.inode().kind() {
        Kind::Regular => {}
        Kind::Fifo => return Err(Errno::ESPIPE),
        Kind::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::ENODEV),
    }
    file.inode().allocate(mode, offset as u64, length as u64)?;
    Ok(0)
}

pub fn no_extended(_frame: &mut Frame) -> Result<usize> {
    Err(Errno::EOPNOTSUPP)
}
