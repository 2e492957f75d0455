//! System calls: clocks, and sleeping by them.

use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::task::thread::Restart;
use crate::task::{self, Sleep};
use crate::time::SECOND;
use crate::{sync, time, user};
use linux_raw_sys::general as raw;
use ringwall::Frame;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_clock_gettime, clock_gettime),
    (raw::__NR_clock_getres, clock_getres),
    (raw::__NR_clock_settime, clock_settime),
    (raw::__NR_clock_nanosleep, clock_nanosleep),
    (raw::__NR_nanosleep, nanosleep),
    (raw::__NR_gettimeofday, gettimeofday),
    (raw::__NR_settimeofday, settimeofday),
    (raw::__NR_time, time_call),
    (raw::__NR_times, times),
];

/// struct timespec or timeval: seconds, and nano- or microseconds.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Pair {
    pub(super) seconds: i64,
    pub(super) fraction: i64,
}

/// In nanoseconds.
pub(super) const MICROSECOND: i64 = 1000;

impl Pair {
    /// A timespec.
    pub fn timespec(nanoseconds: u64) -> Pair {
        let fraction = (nanoseconds % SECOND).cast_signed();
        Pair { seconds: (nanoseconds / SECOND).cast_signed(), fraction }
    }

    /// A timeval.
    pub fn timeval(nanoseconds: u64) -> Pair {
        let Pair { seconds, fraction } = Pair::timespec(nanoseconds);
        Pair { seconds, fraction: fraction / MICROSECOND }
    }

    /// Nanoseconds, at most 2^64 - 1. `unit`: nanoseconds in the fraction's unit.
    pub(super) fn nanoseconds(self, unit: i64) -> Result<u64> {
        let limit = SECOND.cast_signed() / unit;
        if self.seconds < 0 || !(0..limit).contains(&self.fraction) {
            return Err(Errno::EINVAL);
        }
        let whole = self.seconds.cast_unsigned().saturating_mul(SECOND);
        Ok(whole.saturating_add((self.fraction * unit).cast_unsigned()))
    }
}

/// Reads a timespec as nanoseconds, at most 2^64 - 1.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn read_timespec(address: u64) -> Result<u64> {
    user::read::<Pair>(address)?.nanoseconds(1)
}

/// Reads a timeval as nanoseconds, at most 2^64 - 1.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn read_timeval(address: u64) -> Result<u64> {
    user::read::<Pair>(address)?.nanoseconds(MICROSECOND)
}

/// Writes nanoseconds as a timespec.
///
/// # Errors
/// `EFAULT`.
pub fn write_timespec(address: u64, nanoseconds: u64) -> Result<()> {
    user::write(address, &Pair::timespec(nanoseconds))
}

/// A clock's time now.
fn read_clock(clock: u32) -> Result<u64> {
    Ok(match clock {
        raw::CLOCK_REALTIME
        | raw::CLOCK_REALTIME_COARSE
        | raw::CLOCK_REALTIME_ALARM
        | raw::CLOCK_TAI => time::realtime(),
        raw::CLOCK_MONOTONIC
        | raw::CLOCK_MONOTONIC_RAW
        | raw::CLOCK_MONOTONIC_COARSE
        | raw::CLOCK_BOOTTIME
        | raw::CLOCK_BOOTTIME_ALARM => time::now(),
        raw::CLOCK_PROCESS_CPUTIME_ID => task::current().process.cpu_time(),
        raw::CLOCK_THREAD_CPUTIME_ID => task::current().cpu_time(),
        other => return read_cpu_clock(other.cast_signed()),
    })
}

/// Clocks of other processes and threads: the complement of the identifier, shifted by three; bit
/// 2 for a thread.
fn read_cpu_clock(clock: i32) -> Result<u64> {
    const THREAD: i32 = 4;
    if clock >= 0 || clock & 3 == 3 {
        return Err(Errno::EINVAL);
    }
    let id = (!(clock >> 3)).cast_unsigned();
    if clock & THREAD != 0 {
        if id == 0 {
            return Ok(task::current().cpu_time());
        }
        return Ok(task::find_thread(id).ok_or(Errno::EINVAL)?.cpu_time());
    }
    if id == 0 {
        return Ok(task::current().process.cpu_time());
    }
    Ok(task::find(id).ok_or(Errno::EINVAL)?.cpu_time())
}

fn clock_gettime(frame: &mut Frame) -> Result<usize> {
    let now = read_clock(frame.rdi() as u32)?;
    write_timespec(frame.rsi(), now)?;
    Ok(0)
}

fn clock_getres(frame: &mut Frame) -> Result<usize> {
    let clock = frame.rdi() as u32;
    read_clock(clock)?;
    let coarse = matches!(clock, raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE);
    if frame.rsi() != 0 {
        // Linux's coarse clocks move with its tick, 250 times a second in most builds.
        write_timespec(frame.rsi(), if coarse { 4_000_000 } else { 1 })?;
    }
    Ok(0)
}

fn set_day(nanoseconds: u64) -> Result<usize> {
    if !task::current().process.credentials.lock().is_privileged() {
        return Err(Errno::EPERM);
    }
    time::set_realtime(nanoseconds);
    Ok(0)
}

fn clock_settime(frame: &mut Frame) -> Result<usize> {
    let clock = frame.rdi() as u32;
    let nanoseconds = read_timespec(frame.rsi());
    if clock != raw::CLOCK_REALTIME {
        return Err(Errno::EINVAL);
    }
    set_day(nanoseconds?)
}

fn gettimeofday(frame: &mut Frame) -> Result<usize> {
    if frame.rdi() != 0 {
        user::write(frame.rdi(), &Pair::timeval(time::realtime()))?;
    }
    if frame.rsi() != 0 {
        // The kernel's time zone: minutes west of Greenwich, summer time. Never set here.
        user::write(frame.rsi(), &[0u32; 2])?;
    }
    Ok(0)
}

fn settimeofday(frame: &mut Frame) -> Result<usize> {
    match frame.rdi() {
        0 => Ok(0),
        address => set_day(read_timeval(address)?),
    }
}

fn time_call(frame: &mut Frame) -> Result<usize> {
    let seconds = time::realtime() / SECOND;
    if frame.rdi() != 0 {
        user::write(frame.rdi(), &seconds)?;
    }
    Ok(seconds as usize)
}

fn times(frame: &mut Frame) -> Result<usize> {
    let ticks = |nanoseconds: u64| nanoseconds / task::resources::TICK;
    if frame.rdi() != 0 {
        let process = &task::current().process;
        let (own, children) = (ticks(process.cpu_time()), ticks(process.children_time()));
        user::write(frame.rdi(), &[own, 0, children, 0])?;
    }
    Ok(ticks(time::now()) as usize)
}

/// Sleeps to `deadline`. `remaining`: where to write what is left if a handler interrupts it; 0
/// for nowhere.
fn sleep_until(deadline: u64, remaining: u64) -> Result<usize> {
    match sync::sleep(Sleep::INTERRUPTIBLE, Some(deadline), || None::<()>) {
        Err(Errno::ETIMEDOUT) | Ok(()) => Ok(0),
        Err(_) => {
            if remaining != 0 {
                write_timespec(remaining, deadline.saturating_sub(time::now()))?;
            }
            let arguments = [deadline, remaining, 0, 0, 0, 0];
            *task::current().restart.lock() = Some(Restart { call: sleep_again, arguments });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
    }
}

fn sleep_again(arguments: &[u64; 6]) -> Result<usize> {
    sleep_until(arguments[0], arguments[1])
}

fn nanosleep(frame: &mut Frame) -> Result<usize> {
    let length = read_timespec(frame.rdi())?;
    sleep_until(time::now().saturating_add(length), frame.rsi())
}

fn clock_nanosleep(frame: &mut Frame) -> Result<usize> {
    let [clock, flags, request, remaining, ..] = frame.arguments();
    let clock = clock as u32;
    match clock {
        raw::CLOCK_REALTIME
        | raw::CLOCK_MONOTONIC
        | raw::CLOCK_BOOTTIME
        | raw::CLOCK_TAI
        | raw::CLOCK_PROCESS_CPUTIME_ID => {}
        raw::CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EINVAL),
        raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_REALTIME_COARSE | raw::CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        _ => return Err(Errno::EINVAL),
    }
    let length = read_timespec(request)?;
    if flags as u32 & raw::TIMER_ABSTIME == 0 {
        return sleep_until(time::now().saturating_add(length), remaining);
    }
    let deadline = match clock {
        raw::CLOCK_REALTIME | raw::CLOCK_TAI => time::from_realtime(length),
        _ => length,
    };
    match sync::sleep(Sleep::INTERRUPTIBLE, Some(deadline), || None::<()>) {
        Err(Errno::ETIMEDOUT) | Ok(()) => Ok(0),
        Err(_) => Err(Errno::ERESTARTNOHAND),
    }
}
