//! System calls: who a process is: identifiers, groups, sessions, users, names.

use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::mm::layout::USER_END;
use crate::task::credentials::{Credentials, SAME};
use crate::task::{self, Process, scheduler, table};
use crate::user;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use linux_raw_sys::prctl;
use ringwall::Frame;
use ringwall_rules::isolation::{PR_GET_PTI, PR_SET_PTI};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_getpid, getpid),
    (raw::__NR_getppid, getppid),
    (raw::__NR_gettid, gettid),
    (raw::__NR_getpgid, getpgid),
    (raw::__NR_getpgrp, getpgrp),
    (raw::__NR_setpgid, setpgid),
    (raw::__NR_getsid, getsid),
    (raw::__NR_setsid, setsid),
    (raw::__NR_getuid, getuid),
    (raw::__NR_geteuid, geteuid),
    (raw::__NR_getgid, getgid),
    (raw::__NR_getegid, getegid),
    (raw::__NR_setuid, setuid),
    (raw::__NR_setgid, setgid),
    (raw::__NR_setreuid, setreuid),
    (raw::__NR_setregid, setregid),
    (raw::__NR_setresuid, setresuid),
    (raw::__NR_setresgid, setresgid),
    (raw::__NR_getresuid, getresuid),
    (raw::__NR_getresgid, getresgid),
    (raw::__NR_setfsuid, setfsuid),
    (raw::__NR_setfsgid, setfsgid),
    (raw::__NR_getgroups, getgroups),
    (raw::__NR_setgroups, setgroups),
    (raw::__NR_capget, capget),
    (raw::__NR_capset, capset),
    (raw::__NR_prctl, prctl_call),
    (raw::__NR_arch_prctl, arch_prctl),
    (raw::__NR_personality, personality),
];

/// Most supplementary groups (Linux's NGROUPS_MAX).
const GROUPS: usize = 65_536;

pub(super) fn getpid(_frame: &mut Frame) -> Result<usize> {
    Ok(task::current().process.pid as usize)
}

pub(super) fn getppid(_frame: &mut Frame) -> Result<usize> {
    Ok(task::current().process.parent_id() as usize)
}

fn gettid(_frame: &mut Frame) -> Result<usize> {
    Ok(task::current().tid() as usize)
}

/// The process of a call's argument: 0 is the caller.
fn process_of(pid: u64) -> Result<Arc<Process>> {
    match pid as u32 {
        0 => Ok(Arc::clone(&task::current().process)),
        pid => task::find(pid).ok_or(Errno::ESRCH),
    }
}

fn getpgid(frame: &mut Frame) -> Result<usize> {
    Ok(process_of(frame.rdi())?.group() as usize)
}

fn getpgrp(_frame: &mut Frame) -> Result<usize> {
    Ok(task::current().process.group() as usize)
}

fn getsid(frame: &mut Frame) -> Result<usize> {
    Ok(process_of(frame.rdi())?.session() as usize)
}

fn setpgid(frame: &mut Frame) -> Result<usize> {
    table::set_group(frame.rdi() as i32, frame.rsi() as i32)?;
    Ok(0)
}

fn setsid(_frame: &mut Frame) -> Result<usize> {
    table::set_session(&task::current().process)?;
    Ok(task::current().process.pid as usize)
}

fn credential(read: fn(&Credentials) -> u32) -> Result<usize> {
    Ok(read(&task::current().process.credentials.lock()) as usize)
}

fn change(change: impl FnOnce(&mut Credentials) -> Result<()>) -> Result<usize> {
    change(&mut task::current().process.credentials.lock())?;
    Ok(0)
}

fn getuid(_frame: &mut Frame) -> Result<usize> {
    credential(|credentials| credentials.real_user)
}

fn geteuid(_frame: &mut Frame) -> Result<usize> {
    credential(|credentials| credentials.effective_user)
}

fn getgid(_frame: &mut Frame) -> Result<usize> {
    credential(|credentials| credentials.real_group)
}

fn getegid(_frame: &mut Frame) -> Result<usize> {
    credential(|credentials| credentials.effective_group)
}

fn setuid(frame: &mut Frame) -> Result<usize> {
    change(|credentials| credentials.set_user(frame.rdi() as u32))
}

fn setgid(frame: &mut Frame) -> Result<usize> {
    change(|credentials| credentials.set_group(frame.rdi() as u32))
}

/// The saved identifier follows the effective one whenever a real one was given or the effective
/// one becomes another than the real.
fn setreuid(frame: &mut Frame) -> Result<usize> {
    let (real, effective) = (frame.rdi() as u32, frame.rsi() as u32);
    change(|credentials| {
        let old_real = credentials.real_user;
        credentials.set_users(real, effective, SAME)?;
        if real != SAME || (effective != SAME && effective != old_real) {
            credentials.saved_user = credentials.effective_user;
        }
        Ok(())
    })
}

fn setregid(frame: &mut Frame) -> Result<usize> {
    let (real, effective) = (frame.rdi() as u32, frame.rsi() as u32);
    change(|credentials| {
        let old_real = credentials.real_group;
        credentials.set_user_groups(real, effective, SAME)?;
        if real != SAME || (effective != SAME && effective != old_real) {
            credentials.saved_group = credentials.effective_group;
        }
        Ok(())
    })
}

fn setresuid(frame: &mut Frame) -> Result<usize> {
    let [real, effective, saved, ..] = frame.arguments().map(|argument| argument as u32);
    change(|credentials| credentials.set_users(real, effective, saved))
}

fn setresgid(frame: &mut Frame) -> Result<usize> {
    let [real, effective, saved, ..] = frame.arguments().map(|argument| argument as u32);
    change(|credentials| credentials.set_user_groups(real, effective, saved))
}

fn write_three(frame: &Frame, values: [u32; 3]) -> Result<usize> {
    for (address, value) in frame.arguments().into_iter().zip(values) {
        user::write(address, &value)?;
    }
    Ok(0)
}

fn getresuid(frame: &mut Frame) -> Result<usize> {
    let values = {
        let thread = task::current();
        let credentials = thread.process.credentials.lock();
        [credentials.real_user, credentials.effective_user, credentials.saved_user]
    };
    write_three(frame, values)
}

fn getresgid(frame: &mut Frame) -> Result<usize> {
    let values = {
        let thread = task::current();
        let credentials = thread.process.credentials.lock();
        [credentials.real_group, credentials.effective_group, credentials.saved_group]
    };
    write_three(frame, values)
}

/// The file system's user is always the effective one: nothing changes.
fn setfsuid(_frame: &mut Frame) -> Result<usize> {
    credential(|credentials| credentials.effective_user)
}

fn setfsgid(_frame: &mut Frame) -> Result<usize> {
    credential(|credentials| credentials.effective_group)
}

fn getgroups(frame: &mut Frame) -> Result<usize> {
    let size = frame.rdi() as i32;
    let groups = Arc::clone(&task::current().process.credentials.lock().groups);
    if size < 0 || (size != 0 && (size as usize) < groups.len()) {
        return Err(Errno::EINVAL);
    }
    if size != 0 {
        user::write_bytes(frame.rsi(), groups.as_slice().as_bytes())?;
    }
    Ok(groups.len())
}

fn setgroups(frame: &mut Frame) -> Result<usize> {
    let count = frame.rdi() as u32 as usize;
    if !task::current().process.credentials.lock().is_privileged() {
        return Err(Errno::EPERM);
    }
    if count > GROUPS {
        return Err(Errno::EINVAL);
    }
    let mut groups = alloc::vec::Vec::new();
    groups.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    groups.resize(count, 0u32);
    user::read_bytes(frame.rsi(), groups.as_mut_bytes())?;
    groups.sort_unstable();
    change(|credentials| {
        credentials.groups = Arc::new(groups);
        Ok(())
    })
}

/// Version 3 of the interface: two words for each set. Earlier versions have one.
const CAPABILITIES_3: u32 = 0x2008_0522;
const CAPABILITIES_2: u32 = 0x2007_1026;
const CAPABILITIES_1: u32 = 0x1998_0330;
/// All capabilities of Linux 6.1.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: u32,
}

fn capability_words(address: u64) -> Result<(CapabilityHeader, usize)> {
    let header: CapabilityHeader = user::read(address)?;
    match header.version {
        CAPABILITIES_3 | CAPABILITIES_2 => Ok((header, 2)),
        CAPABILITIES_1 => Ok((header, 1)),
        _ => {
            user::write(address, &CAPABILITIES_3)?;
            Err(Errno::EINVAL)
        }
    }
}

fn capget(frame: &mut Frame) -> Result<usize> {
    let (header, words) = match capability_words(frame.rdi()) {
        // Asking for the version is no mistake.
        Err(Errno::EINVAL) if frame.rsi() == 0 => return Ok(0),
        other => other?,
    };
    let privileged = process_of(header.pid.into())?.credentials.lock().is_privileged();
    let set = if privileged { ALL_CAPABILITIES } else { 0 };
    for word in 0..words {
        let half = (set >> (32 * word)) as u32;
        // Effective, permitted, inheritable.
        let address = frame.rsi().wrapping_add(12 * word as u64);
        user::write(address, &[half, half, 0])?;
    }
    Ok(0)
}

/// Capabilities follow the user and cannot be given up one by one; programs that do are told that
/// it worked, as root they have them anyway.
fn capset(frame: &mut Frame) -> Result<usize> {
    let (header, _) = capability_words(frame.rdi())?;
    if header.pid != 0 && header.pid != task::current().process.pid {
        return Err(Errno::EPERM);
    }
    let privileged = task::current().process.credentials.lock().is_privileged();
    if privileged { Ok(0) } else { Err(Errno::EPERM) }
}

/// PR_GET_PTI and PR_SET_PTI. As Linux does with what is new, arguments that mean nothing have to be 0.
fn isolation_call(option: u32, frame: &Frame) -> Result<usize> {
    let [_, word, rest @ .., _] = frame.arguments();
    if rest != [0; 3] || option == PR_GET_PTI && word != 0 {
        return Err(Errno::EINVAL);
    }
    match option {
        PR_GET_PTI => task::way::ask(),
        _ => task::way::switch_process(word).map(|()| 0),
    }
}

fn prctl_call(frame: &mut Frame) -> Result<usize> {
    let [option, argument, ..] = frame.arguments();
    let thread = task::current();
    let process = &thread.process;
    match option as u32 {
        prctl::PR_SET_NAME => {
            let mut name = [0; 16];
            // A name that is short ends early: read to its NUL, not beyond.
            for (offset, byte) in name[..15].iter_mut().enumerate() {
                *byte = user::read(argument.wrapping_add(offset as u64))?;
                if *byte == 0 {
                    break;
                }
            }
            thread.set_name(&name);
        }
        prctl::PR_GET_NAME => user::write(argument, &thread.name())?,
        prctl::PR_SET_PDEATHSIG if argument <= u64::from(crate::signal::LAST) => {
            process.set_death_signal(argument as u32);
        }
        prctl::PR_GET_PDEATHSIG => user::write(argument, &process.death_signal())?,
        prctl::PR_SET_DUMPABLE if argument <= 1 => process.set_dumpable(argument as u32),
        prctl::PR_GET_DUMPABLE => return Ok(process.dumpable() as usize),
        prctl::PR_SET_NO_NEW_PRIVS if argument == 1 => process.set_no_new_privileges(),
        prctl::PR_GET_NO_NEW_PRIVS => return Ok(process.no_new_privileges().into()),
        prctl::PR_SET_CHILD_SUBREAPER => process.set_subreaper(argument != 0),
        prctl::PR_GET_CHILD_SUBREAPER => {
            user::write(argument, &u32::from(process.is_subreaper()))?;
        }
        prctl::PR_SET_KEEPCAPS if argument <= 1 => {
            process.credentials.lock().keep_capabilities = argument == 1;
        }
        prctl::PR_GET_KEEPCAPS => {
            return Ok(process.credentials.lock().keep_capabilities.into());
        }
        // The mandatory bounding set holds everything and cannot be made smaller.
        prctl::PR_CAPBSET_READ if argument < 41 => return Ok(1),
        prctl::PR_GET_SECUREBITS | prctl::PR_GET_TIMERSLACK | prctl::PR_GET_SECCOMP => {
            let slack = option as u32 == prctl::PR_GET_TIMERSLACK;
            return Ok(if slack { 50_000 } else { 0 });
        }
        prctl::PR_SET_TIMERSLACK => {}
        PR_GET_PTI | PR_SET_PTI => return isolation_call(option as u32, frame),
        prctl::PR_GET_TID_ADDRESS => {
            user::write(argument, &thread.clear_child_tid.load(Ordering::Relaxed))?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn arch_prctl(frame: &mut Frame) -> Result<usize> {
    const SET_GS: u32 = 0x1001;
    const SET_FS: u32 = 0x1002;
    const GET_FS: u32 = 0x1003;
    const GET_GS: u32 = 0x1004;
    const GET_CPUID: u32 = 0x1011;
    const SET_CPUID: u32 = 0x1012;
    const GET_STATE_SUPPORTED: u32 = 0x1021;
    const GET_STATE_PERMITTED: u32 = 0x1022;
    const REQUEST_STATE: u32 = 0x1023;
    const GET_GUEST_STATE_PERMITTED: u32 = 0x1024;
    const REQUEST_GUEST_STATE: u32 = 0x1025;
    /// One more than the last state component that Linux knows.
    const STATE_COMPONENTS: u64 = 19;
    let base = frame.rsi();
    match frame.rdi() as u32 {
        SET_GS | SET_FS if base >= USER_END => return Err(Errno::EPERM),
        SET_GS => scheduler::set_gs_base(base),
        SET_FS => scheduler::set_fs_base(base),
        GET_FS => user::write(base, &scheduler::user_bases().0)?,
        GET_GS => user::write(base, &scheduler::user_bases().1)?,
        // CPUID is never trapped.
        GET_CPUID => return Ok(1),
        SET_CPUID => return Err(Errno::ENODEV),
        GET_STATE_SUPPORTED | GET_STATE_PERMITTED | GET_GUEST_STATE_PERMITTED => {
            user::write(base, &crate::arch::fpu::components())?;
        }
        // No component has to be asked for here.
        REQUEST_STATE | REQUEST_GUEST_STATE if base < STATE_COMPONENTS => {
            return Err(Errno::EOPNOTSUPP);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn personality(frame: &mut Frame) -> Result<usize> {
    Ok(task::current().process.exchange_personality(frame.rdi() as u32) as usize)
}
