//! System calls: signals.

use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::signal::alternate::{self, StackDescription};
use crate::signal::frame;
use crate::signal::{self, Action, Info, UNSTOPPABLE, bit};
use crate::task::wait::for_signal;
use crate::task::{self, Sleep, Thread, work};
use crate::{sync, time, user};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_rt_sigaction, rt_sigaction),
    (raw::__NR_rt_sigprocmask, rt_sigprocmask),
    (raw::__NR_rt_sigpending, rt_sigpending),
    (raw::__NR_rt_sigsuspend, rt_sigsuspend),
    (raw::__NR_rt_sigtimedwait, rt_sigtimedwait),
    (raw::__NR_rt_sigqueueinfo, rt_sigqueueinfo),
    (raw::__NR_rt_tgsigqueueinfo, rt_tgsigqueueinfo),
    (raw::__NR_rt_sigreturn, rt_sigreturn),
    (raw::__NR_restart_syscall, restart_syscall),
    (raw::__NR_sigaltstack, sigaltstack),
    (raw::__NR_kill, kill),
    (raw::__NR_tkill, tkill),
    (raw::__NR_tgkill, tgkill),
    (raw::__NR_pause, pause),
];

/// Size of a signal set, which calls are given.
const SET_BYTES: u64 = 8;

fn check_size(size: u64) -> Result<()> {
    if size == SET_BYTES { Ok(()) } else { Err(Errno::EINVAL) }
}

fn rt_sigaction(frame: &mut Frame) -> Result<usize> {
    let [number, new, old, size, ..] = frame.arguments();
    check_size(size)?;
    let number = number as u32;
    let wanted: Option<Action> = if new == 0 { None } else { Some(user::read(new)?) };
    if !(1..=signal::LAST).contains(&number) || (new != 0 && bit(number) & UNSTOPPABLE != 0) {
        return Err(Errno::EINVAL);
    }
    let process = &task::current().process;
    let actions = process.actions.get().ok_or(Errno::ESRCH)?;
    let before = match wanted {
        None => actions.get(number),
        Some(mut action) => {
            action.mask &= !UNSTOPPABLE;
            let known = raw::SA_NOCLDSTOP
                | raw::SA_NOCLDWAIT
                | raw::SA_SIGINFO
                | raw::SA_RESTORER
                | raw::SA_ONSTACK
                | raw::SA_RESTART
                | raw::SA_NODEFER
                | raw::SA_RESETHAND
                | raw::SA_EXPOSE_TAGBITS;
            action.flags &= u64::from(known);
            let before = actions.set(number, action)?;
            signal::discard_ignored(process, number);
            before
        }
    };
    if old != 0 {
        user::write(old, &before)?;
    }
    Ok(0)
}

fn rt_sigprocmask(frame: &mut Frame) -> Result<usize> {
    let [how, new, old, size, ..] = frame.arguments();
    check_size(size)?;
    let thread = task::current();
    let before = thread.blocked();
    if new != 0 {
        let set: u64 = user::read(new)?;
        let after = match how as u32 {
            raw::SIG_BLOCK => before | set,
            raw::SIG_UNBLOCK => before & !set,
            raw::SIG_SETMASK => set,
            _ => return Err(Errno::EINVAL),
        };
        signal::set_blocked(&thread, after);
    }
    if old != 0 {
        user::write(old, &before)?;
    }
    Ok(0)
}

fn rt_sigpending(frame: &mut Frame) -> Result<usize> {
    if frame.rsi() > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let thread = task::current();
    let shared = thread.process.signals.lock().pending.set;
    let pending = (shared | thread.pending.lock().set) & thread.blocked();
    user::write(frame.rdi(), &pending)?;
    Ok(0)
}

/// Replaces the mask until the call has ended: the way out brings the old one back, or puts it
/// into the handler's frame.
pub fn replace_mask(thread: &Thread, set: u64) {
    thread.saved_mask.store(thread.blocked(), Ordering::Relaxed);
    thread.add_work(work::RESTORE_MASK);
    signal::set_blocked(thread, set);
}

fn rt_sigsuspend(frame: &mut Frame) -> Result<usize> {
    check_size(frame.rsi())?;
    let set: u64 = user::read(frame.rdi())?;
    replace_mask(&task::current(), set);
    Err(for_signal())
}

fn rt_sigtimedwait(frame: &mut Frame) -> Result<usize> {
    let [set, info, timeout, size, ..] = frame.arguments();
    check_size(size)?;
    let wanted: u64 = user::read::<u64>(set)? & !UNSTOPPABLE;
    let deadline = match timeout {
        0 => None,
        timeout => Some(time::now().saturating_add(super::time::read_timespec(timeout)?)),
    };
    let thread = task::current();
    let take = || {
        let mut shared = thread.process.signals.lock();
        let own = thread.pending.lock().take(wanted);
        own.or_else(|| shared.pending.take(wanted))
    };
    let taken = match take() {
        Some(info) => info,
        None => {
            // While it waits, the wanted signals are unblocked for their senders, who wake it.
            let mask = thread.blocked();
            thread.awaited.store(mask & wanted, Ordering::Release);
            signal::set_blocked(&thread, mask & !wanted);
            let mut taken = None;
            let outcome = sync::sleep(Sleep::INTERRUPTIBLE, deadline, || {
                taken = take();
                taken.map(|_| ())
            });
            taken = taken.or_else(take);
            signal::set_blocked(&thread, mask);
            let pending = thread.pending.lock();
            thread.awaited.store(0, Ordering::Release);
            drop(pending);
            match (taken, outcome) {
                (Some(info), _) => info,
                (None, Err(Errno::ETIMEDOUT)) => return Err(Errno::EAGAIN),
                (None, _) => return Err(Errno::EINTR),
            }
        }
    };
    // The signal may have set the work bit before it was taken.
    signal::set_blocked(&thread, thread.blocked());
    if info != 0 {
        write_info(info, &taken)?;
    }
    Ok(taken.number() as usize)
}

fn write_info(address: u64, info: &Info) -> Result<()> {
    user::write(address, info)?;
    let rest = address.checked_add(size_of::<Info>() as u64).ok_or(Errno::EFAULT)?;
    user::write(rest, &[0u64; 10])
}

/// Reads a siginfo that a program sends. It cannot pretend to be the kernel or kill, unless to
/// itself.
fn read_info(address: u64, number: u64, target: u32) -> Result<Info> {
    let mut info: Info = user::read(address)?;
    info.signal = signal::check_number(number)?.cast_signed();
    let own = task::current().process.pid == target;
    if (info.code >= 0 || info.code == raw::SI_TKILL) && !own {
        return Err(Errno::EPERM);
    }
    Ok(info)
}

fn rt_sigqueueinfo(frame: &mut Frame) -> Result<usize> {
    let [pid, number, info, ..] = frame.arguments();
    let info = read_info(info, number, pid as u32)?;
    let process = task::find(pid as u32).ok_or(Errno::ESRCH)?;
    send(&process, None, info)
}

fn rt_tgsigqueueinfo(frame: &mut Frame) -> Result<usize> {
    let [pid, tid, number, info, ..] = frame.arguments();
    if pid as i32 <= 0 || tid as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = read_info(info, number, pid as u32)?;
    let thread = thread_of(pid as u32, tid as u32)?;
    send(&thread.process, Some(&thread), info)
}

fn thread_of(pid: u32, tid: u32) -> Result<alloc::sync::Arc<Thread>> {
    task::find_thread(tid).filter(|thread| thread.process.pid == pid).ok_or(Errno::ESRCH)
}

/// Sends after the checks that every call makes. Signal 0 makes the checks only.
fn send(process: &task::Process, thread: Option<&Thread>, info: Info) -> Result<usize> {
    if !signal::may_signal(process, info.number()) {
        return Err(Errno::EPERM);
    }
    if info.number() != 0 {
        signal::try_send(process, thread, info)?;
    }
    Ok(0)
}

fn kill(frame: &mut Frame) -> Result<usize> {
    let number = signal::check_number(frame.rsi())?;
    let info = Info::from_current(number, raw::SI_USER as i32);
    let own = &task::current().process;
    let group = match frame.rdi() as i32 {
        0 => own.group(),
        -1 => return send_to_several(None, |other| other.pid != own.pid && !other.is_init(), info),
        i32::MIN => return Err(Errno::ESRCH),
        group if group < 0 => group.unsigned_abs(),
        pid => {
            let process = task::find(pid.unsigned_abs()).ok_or(Errno::ESRCH)?;
            return send(&process, None, info);
        }
    };
    send_to_several(Some(group), |_| true, info)
}

/// Sends to those of a group, or of all processes, that are `wanted`. Succeeds if one sending did.
fn send_to_several(
    group: Option<u32>,
    wanted: impl Fn(&task::Process) -> bool,
    info: Info,
) -> Result<usize> {
    let mut outcome = Err(Errno::ESRCH);
    signal::for_each_of(info.number(), group, |target| {
        if wanted(target) {
            let sent = send(target, None, info);
            if outcome.is_err() {
                outcome = sent;
            }
        }
    });
    outcome
}

fn tkill(frame: &mut Frame) -> Result<usize> {
    let tid = frame.rdi() as i32;
    if tid <= 0 {
        return Err(Errno::EINVAL);
    }
    let number = signal::check_number(frame.rsi())?;
    let thread = task::find_thread(tid.unsigned_abs()).ok_or(Errno::ESRCH)?;
    send(&thread.process, Some(&thread), Info::from_current(number, raw::SI_TKILL))
}

fn tgkill(frame: &mut Frame) -> Result<usize> {
    let [pid, tid, number, ..] = frame.arguments();
    if pid as i32 <= 0 || tid as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    let number = signal::check_number(number)?;
    let thread = thread_of(pid as u32, tid as u32)?;
    send(&thread.process, Some(&thread), Info::from_current(number, raw::SI_TKILL))
}

fn pause(_frame: &mut Frame) -> Result<usize> {
    Err(for_signal())
}

fn rt_sigreturn(frame: &mut Frame) -> Result<usize> {
    let thread = task::current();
    if frame::pop(&thread, frame).is_err() {
        frame.set_rax(0);
        signal::force(frame, Info::kernel(raw::SIGSEGV));
    }
    // What is in RAX now is what has to be there.
    Ok(frame.rax() as usize)
}

fn restart_syscall(_frame: &mut Frame) -> Result<usize> {
    let restart = *task::current().restart.lock();
    match restart {
        Some(restart) => (restart.call)(&restart.arguments),
        None => Err(Errno::EINTR),
    }
}

fn sigaltstack(frame: &mut Frame) -> Result<usize> {
    let (new, old) = (frame.rdi(), frame.rsi());
    let thread = task::current();
    let before = thread.alternate_stack.describe(frame.rsp());
    if new != 0 {
        let wanted: StackDescription = user::read(new)?;
        alternate::set(&thread, frame.rsp(), &wanted)?;
    }
    if old != 0 {
        user::write(old, &before)?;
    }
    Ok(0)
}
