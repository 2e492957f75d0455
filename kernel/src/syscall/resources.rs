//! System calls: limits, usage, priorities and which CPU.

use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::task::resources::Usage;
use crate::task::{self, Process, Thread};
use crate::user;
use alloc::sync::Arc;
use linux_raw_sys::general as raw;
use ringwall::Frame;
use ringwall_rules::affinity::Cpus;

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_getrlimit, getrlimit),
    (raw::__NR_setrlimit, setrlimit),
    (raw::__NR_prlimit64, prlimit64),
    (raw::__NR_getrusage, getrusage),
    (raw::__NR_getpriority, getpriority),
    (raw::__NR_setpriority, setpriority),
    (raw::__NR_sched_yield, sched_yield),
    (raw::__NR_sched_setaffinity, sched_setaffinity),
    (raw::__NR_sched_getaffinity, sched_getaffinity),
    (raw::__NR_sched_getparam, sched_getparam),
    (raw::__NR_sched_setparam, sched_setparam),
    (raw::__NR_sched_getscheduler, sched_getscheduler),
    (raw::__NR_sched_setscheduler, sched_setscheduler),
    (raw::__NR_sched_get_priority_max, sched_get_priority_max),
    (raw::__NR_sched_get_priority_min, sched_get_priority_min),
    (raw::__NR_sched_rr_get_interval, sched_rr_get_interval),
    (raw::__NR_getcpu, getcpu),
    (raw::__NR_membarrier, membarrier),
];

fn process_of(pid: u64) -> Result<Arc<Process>> {
    match pid as u32 {
        0 => Ok(Arc::clone(&task::current().process)),
        pid => task::find(pid).ok_or(Errno::ESRCH),
    }
}

fn thread_of(tid: u64) -> Result<Arc<Thread>> {
    match tid as i32 {
        0 => Ok(task::current().arc()),
        tid if tid < 0 => Err(Errno::EINVAL),
        tid => task::find_thread(tid.cast_unsigned()).ok_or(Errno::ESRCH),
    }
}

fn exchange_limit(
    process: &Process,
    number: u64,
    new: Option<u64>,
    old: Option<u64>,
) -> Result<usize> {
    if number >= u64::from(raw::RLIM_NLIMITS) {
        return Err(Errno::EINVAL);
    }
    let number = number as u32;
    let wanted: Option<[u64; 2]> = new.map(user::read).transpose()?;
    let privileged = task::current().process.credentials.lock().is_privileged();
    let before = {
        let mut limits = process.limits.lock();
        let before = limits.get(number);
        if let Some([soft, hard]) = wanted {
            limits.set(number, (soft, hard), privileged)?;
        }
        before
    };
    if let Some([soft, _]) = wanted {
        match number {
            raw::RLIMIT_CPU => process.intervals.watch(process),
            raw::RLIMIT_STACK => {
                if let Some(memory) = process.mm.get() {
                    memory.set_stack_limit(soft);
                }
            }
            _ => {}
        }
    }
    if let Some(old) = old {
        user::write(old, &[before.0, before.1])?;
    }
    Ok(0)
}

fn getrlimit(frame: &mut Frame) -> Result<usize> {
    exchange_limit(&task::current().process, frame.rdi() as u32 as u64, None, Some(frame.rsi()))
}

fn setrlimit(frame: &mut Frame) -> Result<usize> {
    exchange_limit(&task::current().process, frame.rdi() as u32 as u64, Some(frame.rsi()), None)
}

fn prlimit64(frame: &mut Frame) -> Result<usize> {
    let [pid, number, new, old, ..] = frame.arguments();
    let given = |address: u64| (address != 0).then_some(address);
    exchange_limit(&*process_of(pid)?, number as u32 as u64, given(new), given(old))
}

fn getrusage(frame: &mut Frame) -> Result<usize> {
    let thread = task::current();
    let usage = match frame.rdi() as i32 {
        0 => Usage::of_process(&thread.process),
        -1 => Usage::of_children(&thread.process),
        1 => Usage::of_thread(&thread),
        _ => return Err(Errno::EINVAL),
    };
    user::write(frame.rsi(), &usage)?;
    Ok(0)
}

/// The processes that getpriority and setpriority are about.
fn priority_targets(which: u64, who: u64) -> Result<alloc::vec::Vec<Arc<Process>>> {
    let own = &task::current().process;
    let targets = match which as u32 {
        raw::PRIO_PROCESS => alloc::vec![process_of(who)?],
        raw::PRIO_PGRP => {
            task::table::members(if who as u32 == 0 { own.group() } else { who as u32 })
        }
        raw::PRIO_USER => {
            let user = match who as u32 {
                0 => own.credentials.lock().real_user,
                user => user,
            };
            let mut all = task::all();
            all.retain(|process| process.credentials.lock().real_user == user);
            all
        }
        _ => return Err(Errno::EINVAL),
    };
    if targets.is_empty() { Err(Errno::ESRCH) } else { Ok(targets) }
}

fn getpriority(frame: &mut Frame) -> Result<usize> {
    let targets = priority_targets(frame.rdi(), frame.rsi())?;
    let nice = targets.iter().map(|process| process.nice()).min().unwrap_or(0);
    // 1 to 40, so that it is never taken for an error.
    Ok((20 - nice) as usize)
}

fn setpriority(frame: &mut Frame) -> Result<usize> {
    let nice = frame.rdx() as i32;
    for process in priority_targets(frame.rdi(), frame.rsi())? {
        process.set_nice(nice);
    }
    Ok(0)
}

fn sched_yield(_frame: &mut Frame) -> Result<usize> {
    super::process::yield_now();
    Ok(0)
}

fn sched_setaffinity(frame: &mut Frame) -> Result<usize> {
    let [tid, length, mask, ..] = frame.arguments();
    let mut set = [0u8; 8];
    let length = (length as u32 as usize).min(set.len());
    user::read_bytes(mask, &mut set[..length])?;
    let thread = thread_of(tid)?;
    if !may_schedule(&thread.process) {
        return Err(Errno::EPERM);
    }
    thread.set_affinity(Cpus::from_mask(&set[..length]))?;
    Ok(0)
}

/// Whether the current process may say where threads of `target` run.
fn may_schedule(target: &Process) -> bool {
    let caller = &task::current().process;
    if caller.pid == target.pid {
        return true;
    }
    let (user, privileged) = {
        let credentials = caller.credentials.lock();
        (credentials.effective_user, credentials.is_privileged())
    };
    let target = target.credentials.lock();
    privileged || user == target.effective_user || user == target.real_user
}

fn sched_getaffinity(frame: &mut Frame) -> Result<usize> {
    let [tid, length, mask, ..] = frame.arguments();
    let length = length as u32;
    if length < 8 || !length.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let cpus = thread_of(tid)?.affinity() & task::cpus::ready();
    user::write(mask, &cpus.0)?;
    Ok(8)
}

fn sched_getparam(frame: &mut Frame) -> Result<usize> {
    thread_of(frame.rdi())?;
    if frame.rsi() == 0 {
        return Err(Errno::EINVAL);
    }
    user::write(frame.rsi(), &0u32)?;
    Ok(0)
}

/// All threads are SCHED_OTHER (0), whose priority is 0.
fn check_policy(policy: u32, priority: u32) -> Result<usize> {
    match policy & !raw::SCHED_RESET_ON_FORK {
        raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE if priority == 0 => Ok(0),
        // Real-time classes are taken and not honoured.
        raw::SCHED_FIFO | raw::SCHED_RR if (1..=99).contains(&priority) => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn sched_setparam(frame: &mut Frame) -> Result<usize> {
    thread_of(frame.rdi())?;
    check_policy(raw::SCHED_NORMAL, user::read(frame.rsi())?)
}

fn sched_getscheduler(frame: &mut Frame) -> Result<usize> {
    thread_of(frame.rdi())?;
    Ok(raw::SCHED_NORMAL as usize)
}

fn sched_setscheduler(frame: &mut Frame) -> Result<usize> {
    thread_of(frame.rdi())?;
    check_policy(frame.rsi() as u32, user::read(frame.rdx())?)
}

fn sched_get_priority_max(frame: &mut Frame) -> Result<usize> {
    priority_bound(frame.rdi() as u32, 99)
}

fn sched_get_priority_min(frame: &mut Frame) -> Result<usize> {
    priority_bound(frame.rdi() as u32, 1)
}

fn priority_bound(policy: u32, real_time: usize) -> Result<usize> {
    match policy {
        raw::SCHED_FIFO | raw::SCHED_RR => Ok(real_time),
        raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE | raw::SCHED_DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn sched_rr_get_interval(frame: &mut Frame) -> Result<usize> {
    thread_of(frame.rdi())?;
    super::time::write_timespec(frame.rsi(), task::scheduler::SLICE)?;
    Ok(0)
}

fn getcpu(frame: &mut Frame) -> Result<usize> {
    let index = crate::arch::cpu::index() as u32;
    if frame.rdi() != 0 {
        user::write(frame.rdi(), &index)?;
    }
    if frame.rsi() != 0 {
        user::write(frame.rsi(), &0u32)?;
    }
    Ok(0)
}

/// No command is offered: programs then use fences of their own.
fn membarrier(frame: &mut Frame) -> Result<usize> {
    if frame.rdi() as u32 == 0 && frame.rsi() as u32 == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}
