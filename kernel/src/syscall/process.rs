//! System calls: processes and threads, from clone to wait.

use super::{Calls, calls, segments};
use crate::errno::{Errno, Result};
use crate::task::create::{self, Wanted};
use crate::task::wait::{self, Which};
use crate::task::{self, exec, exit, futex, robust, work};
use crate::{signal, time, user};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_clone, clone),
    (raw::__NR_clone3, clone3),
    (raw::__NR_fork, fork),
    (raw::__NR_vfork, vfork),
    (raw::__NR_execve, execve),
    (raw::__NR_execveat, execveat),
    (raw::__NR_exit, exit),
    (raw::__NR_exit_group, exit_group),
    (raw::__NR_wait4, wait4),
    (raw::__NR_waitid, waitid),
    (raw::__NR_set_tid_address, set_tid_address),
    (raw::__NR_set_robust_list, set_robust_list),
    (raw::__NR_get_robust_list, get_robust_list),
    (raw::__NR_futex, futex_call),
    (raw::__NR_unshare, unshare),
];

/// Longest path, NUL included.
const PATH_BYTES: usize = 4096;

fn clone(frame: &mut Frame) -> Result<usize> {
    let [flags, stack, parent_tid, child_tid, tls, _] = frame.arguments();
    let exit_signal = (flags & 0xff) as u32;
    // The upper half of the register is not looked at: clone3's flags are not clone's.
    let flags = flags & 0xffff_ff00;
    let wanted = Wanted { flags, stack, parent_tid, child_tid, tls, segment: None, exit_signal };
    Ok(create::clone(frame, &wanted)? as usize)
}

/// clone of INT 80h, where CLONE_SETTLS brings a segment.
pub(super) fn clone_legacy(frame: &mut Frame) -> Result<usize> {
    let low = |register: u64| register & 0xffff_ffff;
    let flags = low(frame.rbx());
    let tls = flags & u64::from(raw::CLONE_SETTLS) != 0;
    let segment = if tls { Some(segments::of_new_thread(low(frame.rsi()))?) } else { None };
    let wanted = Wanted {
        flags: flags & 0xffff_ff00,
        stack: low(frame.rcx()),
        parent_tid: low(frame.rdx()),
        child_tid: low(frame.rdi()),
        tls: 0,
        segment,
        exit_signal: (flags & 0xff) as u32,
    };
    Ok(create::clone(frame, &wanted)? as usize)
}

/// struct clone_args, version 2.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

fn clone3(frame: &mut Frame) -> Result<usize> {
    let (address, size) = (frame.rdi(), frame.rsi() as usize);
    if size < raw::CLONE_ARGS_SIZE_VER0 as usize {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut arguments = CloneArguments::default();
    let known = size.min(size_of::<CloneArguments>());
    user::read_bytes(address, &mut arguments.as_mut_bytes()[..known])?;
    // A longer structure is one with wishes that this kernel does not know: they must be absent.
    for offset in (known..size).step_by(8) {
        let mut word = [0; 8];
        let length = (size - offset).min(8);
        user::read_bytes(address.wrapping_add(offset as u64), &mut word[..length])?;
        if word != [0; 8] {
            return Err(Errno::E2BIG);
        }
    }
    if arguments.set_tid_size != 0
        || arguments.exit_signal > u64::from(signal::LAST)
        || arguments.flags & 0xff & !u64::from(raw::CLONE_NEWTIME) != 0
        || (arguments.flags & u64::from(raw::CLONE_THREAD | raw::CLONE_PARENT) != 0
            && arguments.exit_signal != 0)
        || (arguments.stack == 0) != (arguments.stack_size == 0)
    {
        return Err(Errno::EINVAL);
    }
    let wanted = Wanted {
        flags: arguments.flags,
        stack: arguments.stack.wrapping_add(arguments.stack_size),
        parent_tid: arguments.parent_tid,
        child_tid: arguments.child_tid,
        tls: arguments.tls,
        segment: None,
        exit_signal: arguments.exit_signal as u32,
    };
    Ok(create::clone(frame, &wanted)? as usize)
}

/// fork, for INT 80h too.
pub(super) fn fork(frame: &mut Frame) -> Result<usize> {
    let wanted = Wanted { exit_signal: raw::SIGCHLD, ..Wanted::default() };
    Ok(create::clone(frame, &wanted)? as usize)
}

/// vfork, for INT 80h too.
pub(super) fn vfork(frame: &mut Frame) -> Result<usize> {
    let flags = u64::from(raw::CLONE_VFORK | raw::CLONE_VM);
    let wanted = Wanted { flags, exit_signal: raw::SIGCHLD, ..Wanted::default() };
    Ok(create::clone(frame, &wanted)? as usize)
}

fn execve(frame: &mut Frame) -> Result<usize> {
    let path = user::read_string(frame.rdi(), PATH_BYTES - 1)?;
    exec::execute(frame, &path, None, frame.rsi(), frame.rdx())?;
    Ok(0)
}

fn execveat(frame: &mut Frame) -> Result<usize> {
    let [directory, path, arguments, environment, flags, _] = frame.arguments();
    let flags = flags as u32;
    if flags & !(raw::AT_EMPTY_PATH | raw::AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = user::read_string(path, PATH_BYTES - 1)?;
    let directory = directory as u32;
    if path.first() == Some(&b'/') || directory.cast_signed() == raw::AT_FDCWD {
        exec::execute(frame, &path, None, arguments, environment)?;
        return Ok(0);
    }
    if path.is_empty() && flags & raw::AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    let file = task::current().files().get(directory)?;
    let mut name = file.path();
    if path.is_empty() {
        // The open file itself.
        let image = file.for_execution()?;
        exec::execute(frame, &name, Some(image), arguments, environment)?;
    } else {
        drop(file);
        name.push(b'/');
        name.extend_from_slice(&path);
        exec::execute(frame, &name, None, arguments, environment)?;
    }
    Ok(0)
}

fn exit(frame: &mut Frame) -> Result<usize> {
    exit::end_thread((frame.rdi() & 0xff) as u32)
}

fn exit_group(frame: &mut Frame) -> Result<usize> {
    exit::end_process(((frame.rdi() & 0xff) as u32) << 8)
}

fn wait4(frame: &mut Frame) -> Result<usize> {
    let [pid, status, options, usage, ..] = frame.arguments();
    let known = raw::WNOHANG
        | raw::WUNTRACED
        | raw::WCONTINUED
        | raw::__WALL
        | raw::__WCLONE
        | raw::__WNOTHREAD;
    let options = options as u32;
    if options & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match pid as i32 {
        -1 => Which::Any,
        0 => Which::Group(task::current().process.group()),
        i32::MIN => return Err(Errno::ESRCH),
        group if group < 0 => Which::Group(group.unsigned_abs()),
        pid => Which::Process(pid.unsigned_abs()),
    };
    let Some(event) = wait::wait(which, options | raw::WEXITED)? else { return Ok(0) };
    if status != 0 {
        user::write(status, &event.status)?;
    }
    if usage != 0 {
        user::write(usage, &event.usage)?;
    }
    Ok(event.pid as usize)
}

fn waitid(frame: &mut Frame) -> Result<usize> {
    let [kind, id, info, options, usage, _] = frame.arguments();
    let options = options as u32;
    let known = raw::WNOHANG
        | raw::WNOWAIT
        | raw::WEXITED
        | raw::WSTOPPED
        | raw::WCONTINUED
        | raw::__WALL
        | raw::__WCLONE
        | raw::__WNOTHREAD;
    if options & !known != 0 || options & (raw::WEXITED | raw::WSTOPPED | raw::WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let id = id as i32;
    let which = match kind as u32 {
        0 => Which::Any,
        raw::P_PID if id > 0 => Which::Process(id.unsigned_abs()),
        raw::P_PGID if id > 0 => Which::Group(id.unsigned_abs()),
        raw::P_PGID if id == 0 => Which::Group(task::current().process.group()),
        _ => return Err(Errno::EINVAL),
    };
    let event = wait::wait(which, options)?;
    if info != 0 {
        // Without an event, signal and pid are 0: that is how the caller knows.
        let content = event.as_ref().map_or_else(signal::Info::default, |event| {
            let (pid, user) = (event.pid, event.user);
            signal::Info::child(raw::SIGCHLD, event.code, pid, user, event.value, 0)
        });
        user::write_bytes(info, &content.as_bytes()[..28])?;
    }
    if let Some(event) = event
        && usage != 0
    {
        user::write(usage, &event.usage)?;
    }
    Ok(0)
}

fn set_tid_address(frame: &mut Frame) -> Result<usize> {
    let thread = task::current();
    thread.clear_child_tid.store(frame.rdi(), Ordering::Relaxed);
    Ok(thread.tid() as usize)
}

fn set_robust_list(frame: &mut Frame) -> Result<usize> {
    if frame.rsi() as usize != robust::HEAD_BYTES {
        return Err(Errno::EINVAL);
    }
    task::current().robust_list.store(frame.rdi(), Ordering::Relaxed);
    Ok(0)
}

fn get_robust_list(frame: &mut Frame) -> Result<usize> {
    let [tid, head, length, ..] = frame.arguments();
    let list = match tid as u32 {
        0 => task::current().robust_list.load(Ordering::Relaxed),
        tid => {
            let thread = task::find_thread(tid).ok_or(Errno::ESRCH)?;
            thread.robust_list.load(Ordering::Relaxed)
        }
    };
    user::write(length, &(robust::HEAD_BYTES as u64))?;
    user::write(head, &list)?;
    Ok(0)
}

fn futex_call(frame: &mut Frame) -> Result<usize> {
    let [address, operation, value, fourth, second, third] = frame.arguments();
    let operation = operation as u32;
    let private = operation & raw::FUTEX_PRIVATE_FLAG != 0;
    let realtime = operation & raw::FUTEX_CLOCK_REALTIME != 0;
    let value = value as u32;
    let command = operation & raw::FUTEX_CMD_MASK.cast_unsigned();
    let waits = matches!(command, raw::FUTEX_WAIT | raw::FUTEX_WAIT_BITSET);
    if realtime && !waits {
        return Err(Errno::ENOSYS);
    }
    match command {
        raw::FUTEX_WAIT => {
            let deadline = match fourth {
                0 => None,
                timeout => Some(time::now().saturating_add(super::time::read_timespec(timeout)?)),
            };
            // A relative wait that is interrupted goes on to the same end.
            let outcome = futex::wait(address, private, value, u32::MAX, deadline);
            match (outcome, deadline) {
                (Err(Errno::ERESTARTSYS), Some(deadline)) => {
                    let arguments = [address, u64::from(private), value.into(), deadline, 0, 0];
                    *task::current().restart.lock() =
                        Some(task::thread::Restart { call: futex_again, arguments });
                    Err(Errno::ERESTART_RESTARTBLOCK)
                }
                (outcome, _) => outcome,
            }
        }
        raw::FUTEX_WAIT_BITSET => {
            let deadline = match fourth {
                0 => None,
                timeout if realtime => {
                    Some(time::from_realtime(super::time::read_timespec(timeout)?))
                }
                timeout => Some(super::time::read_timespec(timeout)?),
            };
            futex::wait(address, private, value, third as u32, deadline)
        }
        // Counts are signed: a negative one wakes one waiter, as on Linux.
        raw::FUTEX_WAKE => futex::wake(address, private, count(value), u32::MAX),
        raw::FUTEX_WAKE_BITSET => futex::wake(address, private, count(value), third as u32),
        raw::FUTEX_REQUEUE | raw::FUTEX_CMP_REQUEUE => {
            if value.cast_signed() < 0 || (fourth as i32) < 0 {
                return Err(Errno::EINVAL);
            }
            let expected = (command == raw::FUTEX_CMP_REQUEUE).then_some(third as u32);
            futex::requeue(address, second, private, value, fourth as u32, expected)
        }
        raw::FUTEX_WAKE_OP => futex::wake_operation(
            address,
            second,
            private,
            count(value),
            count(fourth as u32),
            third as u32,
        ),
        _ => Err(Errno::ENOSYS),
    }
}

fn count(value: u32) -> u32 {
    value.cast_signed().max(1).cast_unsigned()
}

fn futex_again(arguments: &[u64; 6]) -> Result<usize> {
    let [address, private, value, deadline, ..] = *arguments;
    match futex::wait(address, private != 0, value as u32, u32::MAX, Some(deadline)) {
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTART_RESTARTBLOCK),
        other => other,
    }
}

fn unshare(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rdi() as u32;
    let thread = task::current();
    let process = &thread.process;
    if flags & !(raw::CLONE_FILES | raw::CLONE_FS | raw::CLONE_SYSVSEM) != 0 {
        return Err(Errno::EINVAL);
    }
    // Threads of a process always share both here.
    if process.thread_count() > 1 && flags & (raw::CLONE_FILES | raw::CLONE_FS) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & raw::CLONE_FILES != 0
        && !process.files.is_sole()
        && let Some(files) = process.files.get()
    {
        drop(process.files.replace(Some(files.fork()?)));
    }
    if flags & raw::CLONE_FS != 0
        && !process.paths.is_sole()
        && let Some(paths) = process.paths.get()
    {
        drop(process.paths.replace(Some(paths.fork())));
    }
    Ok(0)
}

/// Lets another thread run.
pub(super) fn yield_now() {
    task::current().add_work(work::RESCHEDULE);
}
