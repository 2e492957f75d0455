//! System calls: timers that send signals.

use super::time::{MICROSECOND, Pair};
use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::task;
use crate::time::SECOND;
use crate::time::interval::Setting;
use crate::time::posix::Notify;
use crate::{signal, time, user};
use linux_raw_sys::general as raw;
use ringwall::Frame;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_alarm, alarm),
    (raw::__NR_getitimer, getitimer),
    (raw::__NR_setitimer, setitimer),
    (raw::__NR_timer_create, timer_create),
    (raw::__NR_timer_settime, timer_settime),
    (raw::__NR_timer_gettime, timer_gettime),
    (raw::__NR_timer_getoverrun, timer_getoverrun),
    (raw::__NR_timer_delete, timer_delete),
];

/// struct itimerval or itimerspec: period, time left.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct PairOfPairs {
    period: Pair,
    left: Pair,
}

fn alarm(frame: &mut Frame) -> Result<usize> {
    let process = &task::current().process;
    let left = u64::from(frame.rdi() as u32) * SECOND;
    let old = process.intervals.set_real(process, Setting { left, period: 0 }).left;
    // Rounded, but a running alarm is never 0.
    let seconds = (old + SECOND / 2) / SECOND;
    Ok(if old != 0 { seconds.max(1) as usize } else { 0 })
}

fn write_setting(address: u64, setting: Setting) -> Result<()> {
    let period = Pair::timeval(setting.period);
    let mut left = Pair::timeval(setting.left);
    if setting.left != 0 && left.seconds == 0 && left.fraction == 0 {
        // Less than a microsecond left is not "off".
        left.fraction = 1;
    }
    user::write(address, &PairOfPairs { period, left })
}

fn getitimer(frame: &mut Frame) -> Result<usize> {
    let process = &task::current().process;
    let setting = match frame.rdi() as u32 {
        raw::ITIMER_REAL => process.intervals.real(),
        raw::ITIMER_VIRTUAL => process.intervals.cpu(0, process),
        raw::ITIMER_PROF => process.intervals.cpu(1, process),
        _ => return Err(Errno::EINVAL),
    };
    write_setting(frame.rsi(), setting)?;
    Ok(0)
}

fn setitimer(frame: &mut Frame) -> Result<usize> {
    let [which, new, old, ..] = frame.arguments();
    let setting = match new {
        0 => Setting::default(),
        address => {
            let pairs: PairOfPairs = user::read(address)?;
            let left = pairs.left.nanoseconds(MICROSECOND)?;
            Setting { left, period: pairs.period.nanoseconds(MICROSECOND)? }
        }
    };
    let process = &task::current().process;
    let before = match which as u32 {
        raw::ITIMER_REAL => process.intervals.set_real(process, setting),
        raw::ITIMER_VIRTUAL => process.intervals.set_cpu(0, process, setting),
        raw::ITIMER_PROF => process.intervals.set_cpu(1, process, setting),
        _ => return Err(Errno::EINVAL),
    };
    if old != 0 {
        write_setting(old, before)?;
    }
    Ok(0)
}

/// struct sigevent, as far as it matters.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SignalEvent {
    value: u64,
    signal: u32,
    notify: u32,
    thread: u32,
    padding: u32,
}

fn timer_create(frame: &mut Frame) -> Result<usize> {
    let [clock, event, id, ..] = frame.arguments();
    let realtime = match clock as u32 {
        raw::CLOCK_REALTIME | raw::CLOCK_TAI => true,
        raw::CLOCK_MONOTONIC | raw::CLOCK_BOOTTIME => false,
        _ => return Err(Errno::EINVAL),
    };
    let process = &task::current().process;
    let (notify, value) = match event {
        0 => (Notify::Process(raw::SIGALRM), None),
        address => {
            let event: SignalEvent = user::read(address)?;
            let valid = (1..=signal::LAST).contains(&event.signal);
            let notify = match event.notify {
                raw::SIGEV_NONE => Notify::Nobody,
                raw::SIGEV_SIGNAL if valid => Notify::Process(event.signal),
                4 if valid => {
                    let thread = task::find_thread(event.thread).ok_or(Errno::EINVAL)?;
                    if thread.process.pid != process.pid {
                        return Err(Errno::EINVAL);
                    }
                    Notify::Thread(event.thread, event.signal)
                }
                _ => return Err(Errno::EINVAL),
            };
            (notify, Some(event.value))
        }
    };
    crate::mm::admit()?;
    let number = process.timers.create(process, realtime, notify, value)?;
    if let Err(error) = user::write(id, &number) {
        process.timers.delete(number)?;
        return Err(error);
    }
    Ok(0)
}

fn write_timer(address: u64, setting: Setting) -> Result<()> {
    let (period, left) = (Pair::timespec(setting.period), Pair::timespec(setting.left));
    user::write(address, &PairOfPairs { period, left })
}

fn timer_settime(frame: &mut Frame) -> Result<usize> {
    let [number, flags, new, old, ..] = frame.arguments();
    let timer = task::current().process.timers.get(number as u32)?;
    let pairs: PairOfPairs = user::read(new)?;
    let (left, period) = (pairs.left.nanoseconds(1)?, pairs.period.nanoseconds(1)?);
    let before = timer.setting();
    let absolute = flags as u32 & raw::TIMER_ABSTIME != 0;
    let deadline = match left {
        0 => None,
        left if absolute && timer.realtime => Some(time::from_realtime(left)),
        left if absolute => Some(left),
        left => Some(time::now().saturating_add(left)),
    };
    timer.set(deadline, period);
    if old != 0 {
        write_timer(old, before)?;
    }
    Ok(0)
}

fn timer_gettime(frame: &mut Frame) -> Result<usize> {
    let timer = task::current().process.timers.get(frame.rdi() as u32)?;
    write_timer(frame.rsi(), timer.setting())?;
    Ok(0)
}

fn timer_getoverrun(frame: &mut Frame) -> Result<usize> {
    Ok(task::current().process.timers.get(frame.rdi() as u32)?.overrun() as usize)
}

fn timer_delete(frame: &mut Frame) -> Result<usize> {
    task::current().process.timers.delete(frame.rdi() as u32)?;
    Ok(0)
}
