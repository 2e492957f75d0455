//! The ptrace call: a tracer's requests.

use super::registers::{Registers, WORDS};
use super::{Tracee, abi, floating, memory, mode, relation, siginfo, step, stop, watch};
use crate::errno::{Errno, Result};
use crate::mm::layout::USER_END;
use crate::signal::{self, Info, UNSTOPPABLE};
use crate::syscall::{Calls, calls};
use crate::task::thread::work;
use crate::task::{Thread, current, find_thread};
use crate::user;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;
use zerocopy::IntoBytes;

/// This area's calls.
pub const CALLS: Calls = calls![(raw::__NR_ptrace, ptrace)];

/// GETREGSET's kinds.
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;

/// struct ptrace_syscall_info's architectures.
const ARCH_X86_64: u32 = 0xc000_003e;
const ARCH_I386: u32 = 0x4000_0003;

fn ptrace(frame: &mut Frame) -> Result<usize> {
    let [request, tid, address, data, ..] = frame.arguments();
    if request == u64::from(abi::PTRACE_TRACEME) {
        relation::trace_me()?;
        return Ok(0);
    }
    let thread = find_thread(tid as u32).ok_or(Errno::ESRCH)?;
    // The numbers are longs; all that there are fit.
    let request = u32::try_from(request).unwrap_or(u32::MAX);
    match request {
        abi::PTRACE_ATTACH => {
            relation::attach(&thread, false, 0)?;
            return Ok(0);
        }
        abi::PTRACE_SEIZE => {
            if address != 0 || data & !relation::OPTIONS != 0 {
                return Err(Errno::EIO);
            }
            relation::attach(&thread, true, data as u32)?;
            return Ok(0);
        }
        _ => {}
    }
    let tracee = thread
        .traced()
        .filter(|tracee| tracee.tracer() == current().tid() && !tracee.is(mode::ENDED))
        .ok_or(Errno::ESRCH)?;
    match request {
        abi::PTRACE_KILL => {
            signal::send_to_thread(&thread, Info::from_current(raw::SIGKILL, raw::SI_USER as i32));
            return Ok(0);
        }
        abi::PTRACE_INTERRUPT => {
            relation::interrupt(&thread, tracee)?;
            return Ok(0);
        }
        _ => {}
    }
    if !thread.freeze() {
        return Err(Errno::ESRCH);
    }
    if tracee.is(mode::LISTENING) || thread.pending_work() & work::KILL != 0 {
        stop::thaw(&thread, tracee);
        return Err(Errno::ESRCH);
    }
    match of_stopped(&thread, tracee, request, address, data) {
        // It goes on, and is frozen no more.
        Ok(None) => Ok(0),
        Ok(Some(value)) => {
            stop::thaw(&thread, tracee);
            Ok(value)
        }
        Err(error) => {
            stop::thaw(&thread, tracee);
            Err(error)
        }
    }
}

/// A request about a frozen thread. `None`: it has been thawed, and goes on.
fn of_stopped(
    thread: &Arc<Thread>,
    tracee: &Tracee,
    request: u32,
    address: u64,
    data: u64,
) -> Result<Option<usize>> {
    match request {
        abi::PTRACE_PEEKTEXT | abi::PTRACE_PEEKDATA => {
            let mm = thread.process.mm.get().ok_or(Errno::EIO)?;
            user::write(data, &memory::peek(&mm, address)?)?;
        }
        abi::PTRACE_POKETEXT | abi::PTRACE_POKEDATA => {
            let mm = thread.process.mm.get().ok_or(Errno::EIO)?;
            memory::poke(&mm, address, data)?;
        }
        abi::PTRACE_SETOPTIONS | abi::PTRACE_OLDSETOPTIONS => {
            if data & !relation::OPTIONS != 0 {
                return Err(Errno::EINVAL);
            }
            tracee.options.store(data as u32, Ordering::Relaxed);
        }
        abi::PTRACE_GETEVENTMSG => {
            let message = tracee.stop.lock().as_ref().map_or(0, |stop| stop.message);
            user::write(data, &message)?;
        }
        abi::PTRACE_GETSIGINFO => siginfo::write(data, &info_of(tracee)?)?,
        abi::PTRACE_SETSIGINFO => {
            let info: Info = user::read(data)?;
            match tracee.stop.lock().as_mut() {
                Some(stop) if stop.info.is_some() => stop.info = Some(info),
                _ => return Err(Errno::EINVAL),
            }
        }
        abi::PTRACE_PEEKSIGINFO => return siginfo::peek(thread, address, data).map(Some),
        abi::PTRACE_GETSIGMASK | abi::PTRACE_SETSIGMASK if address != 8 => {
            return Err(Errno::EINVAL);
        }
        abi::PTRACE_GETSIGMASK => user::write(data, &mask_of(thread))?,
        abi::PTRACE_SETSIGMASK => {
            let mask: u64 = user::read(data)?;
            thread.blocked.store(mask & !UNSTOPPABLE, Ordering::Release);
            thread.clear_work(work::RESTORE_MASK);
        }
        abi::PTRACE_LISTEN => {
            let stopped_with_group =
                info_of(tracee).is_ok_and(|info| info.code >> 8 == abi::PTRACE_EVENT_STOP as i32);
            if !tracee.is(mode::SEIZED) || !stopped_with_group {
                return Err(Errno::EIO);
            }
            tracee.set(mode::LISTENING);
            if tracee.is(mode::TRAP_NOTIFY) {
                relation::go_on(thread, tracee, 0);
                return Ok(None);
            }
        }
        abi::PTRACE_DETACH
        | abi::PTRACE_CONT
        | abi::PTRACE_SYSCALL
        | abi::PTRACE_SINGLESTEP
        | abi::PTRACE_SYSEMU
        | abi::PTRACE_SYSEMU_SINGLESTEP => {
            if data > u64::from(signal::LAST) {
                return Err(Errno::EIO);
            }
            go_on(thread, tracee, request, data as u32)?;
            return Ok(None);
        }
        abi::PTRACE_GET_SYSCALL_INFO => {
            return call_info(thread, tracee, address as usize, data).map(Some);
        }
        _ => of_registers(thread, tracee, request, address, data)?,
    }
    Ok(Some(0))
}

fn info_of(tracee: &Tracee) -> Result<Info> {
    tracee.stop.lock().as_ref().and_then(|stop| stop.info).ok_or(Errno::EINVAL)
}

fn mask_of(thread: &Thread) -> u64 {
    match thread.pending_work() & work::RESTORE_MASK {
        0 => thread.blocked(),
        _ => thread.saved_mask.load(Ordering::Relaxed),
    }
}

/// Runs `with` on a frozen thread's registers.
fn with_registers<T>(
    thread: &Thread,
    tracee: &Tracee,
    with: impl FnOnce(&mut Registers) -> Result<T>,
) -> Result<T> {
    // A lock is not to be held over an access to the tracer's memory; what is frozen stays.
    let stop = tracee.stop.lock().take().ok_or(Errno::ESRCH)?;
    // SAFETY: the caller has frozen the thread, and its tracer is one thread.
    let mut registers = unsafe { Registers::new(thread, tracee, &stop) };
    let outcome = with(&mut registers);
    *tracee.stop.lock() = Some(stop);
    outcome
}

fn go_on(thread: &Thread, tracee: &Tracee, request: u32, signal: u32) -> Result<()> {
    let watched = match request {
        abi::PTRACE_SYSCALL => watch::REPORT,
        abi::PTRACE_SYSEMU | abi::PTRACE_SYSEMU_SINGLESTEP => watch::EMULATE,
        _ => 0,
    };
    let steps = matches!(request, abi::PTRACE_SINGLESTEP | abi::PTRACE_SYSEMU_SINGLESTEP);
    with_registers(thread, tracee, |registers| {
        tracee.watch(thread, watch::REPORT | watch::EMULATE, watched);
        if steps {
            let rip = registers.frame.rip();
            let code = thread.process.mm.get().map(|mm| memory::read_code(&mm, rip));
            let (code, length) = code.unwrap_or(([0; 15], 0));
            step::enable(thread, tracee, registers.frame, &code[..length]);
        } else {
            step::disable(thread, tracee, registers.frame);
        }
        Ok(())
    })?;
    if request == abi::PTRACE_DETACH {
        relation::detach(thread);
    }
    relation::go_on(thread, tracee, signal);
    Ok(())
}

fn of_registers(
    thread: &Thread,
    tracee: &Tracee,
    request: u32,
    address: u64,
    data: u64,
) -> Result<()> {
    with_registers(thread, tracee, |registers| match request {
        abi::PTRACE_PEEKUSR => user::write(data, &registers.peek(address)?),
        abi::PTRACE_POKEUSR => registers.poke(address, data),
        abi::PTRACE_GETREGS => read_general(registers, data, WORDS * 8),
        abi::PTRACE_SETREGS => write_general(registers, data, WORDS * 8),
        abi::PTRACE_GETFPREGS => floating::read_legacy(registers, data, floating::LEGACY_BYTES),
        abi::PTRACE_SETFPREGS => floating::write_legacy(registers, data, floating::LEGACY_BYTES),
        abi::PTRACE_GETREGSET | abi::PTRACE_SETREGSET => {
            let set = request == abi::PTRACE_SETREGSET;
            register_set(registers, address & 0xffff_ffff, data, set)
        }
        abi::PTRACE_ARCH_PRCTL => base(registers, data, address),
        _ => Err(Errno::EIO),
    })
}

fn read_general(registers: &Registers, to: u64, length: usize) -> Result<()> {
    let mut words = [0u64; WORDS];
    for (place, word) in words.iter_mut().enumerate() {
        *word = registers.get(place);
    }
    user::write_bytes(to, &words.as_bytes()[..length])
}

fn write_general(registers: &mut Registers, from: u64, length: usize) -> Result<()> {
    let mut words = [0u64; WORDS];
    user::read_bytes(from, &mut words.as_mut_bytes()[..length])?;
    // What comes before one that is refused has its effect.
    for (place, word) in words.iter().enumerate().take(length / 8) {
        registers.set(place, *word)?;
    }
    Ok(())
}

/// GETREGSET and SETREGSET: `vector` is a struct iovec, whose length becomes what was moved.
fn register_set(registers: &mut Registers, kind: u64, vector: u64, set: bool) -> Result<()> {
    let base: u64 = user::read(vector)?;
    let length_at = vector.checked_add(8).ok_or(Errno::EFAULT)?;
    let wanted: u64 = user::read(length_at)?;
    let whole = match kind {
        NT_PRSTATUS => WORDS * 8,
        NT_PRFPREG => floating::LEGACY_BYTES,
        NT_X86_XSTATE => floating::extended_bytes(),
        _ => return Err(Errno::EINVAL),
    };
    if !wanted.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let length = wanted.min(whole as u64) as usize;
    match (kind, set) {
        (NT_PRSTATUS, false) => read_general(registers, base, length)?,
        (NT_PRSTATUS, true) => write_general(registers, base, length)?,
        (NT_PRFPREG, false) => floating::read_legacy(registers, base, length)?,
        (NT_PRFPREG, true) => floating::write_legacy(registers, base, length)?,
        (_, false) => floating::read_extended(registers, base, length)?,
        (_, true) => floating::write_extended(registers, base, length)?,
    }
    user::write(length_at, &(length as u64))
}

/// struct ptrace_syscall_info: what kind of stop this is, and the call's number and arguments or what it
/// gave. Gives how many bytes there are; at most `room` of them are written.
fn call_info(thread: &Thread, tracee: &Tracee, room: usize, to: u64) -> Result<usize> {
    const HEAD: usize = 24;
    let (code, message) = match tracee.stop.lock().as_ref() {
        Some(stop) => (stop.info.map_or(0, |info| info.code), stop.message as u32),
        None => (0, 0),
    };
    let is_call = code == (raw::SIGTRAP | 0x80) as i32;
    with_registers(thread, tracee, |registers| {
        let frame = &*registers.frame;
        let legacy = frame.vector().is_some();
        let mut words = [0u64; 10];
        let (operation, length) = match message {
            abi::PTRACE_EVENTMSG_SYSCALL_ENTRY if is_call => {
                words[3] = i64::from(frame.number() as i32).cast_unsigned();
                words[4..].copy_from_slice(&match legacy {
                    true => [
                        frame.rbx(),
                        frame.rcx(),
                        frame.rdx(),
                        frame.rsi(),
                        frame.rdi(),
                        frame.rbp(),
                    ],
                    false => frame.arguments(),
                });
                (abi::PTRACE_SYSCALL_INFO_ENTRY, HEAD + 56)
            }
            abi::PTRACE_EVENTMSG_SYSCALL_EXIT if is_call => {
                /// Greatest error number.
                const ERRORS: u64 = 4095;
                words[3] = frame.rax();
                words[4] = u64::from(frame.rax().wrapping_neg().wrapping_sub(1) < ERRORS);
                (abi::PTRACE_SYSCALL_INFO_EXIT, HEAD + 9)
            }
            _ => (abi::PTRACE_SYSCALL_INFO_NONE, HEAD),
        };
        let architecture = if legacy && is_call { ARCH_I386 } else { ARCH_X86_64 };
        words[0] = u64::from(operation) | u64::from(architecture) << 32;
        words[1] = frame.rip();
        words[2] = frame.rsp();
        user::write_bytes(to, &words.as_bytes()[..length.min(room)])?;
        Ok(length)
    })
}

/// ARCH_PRCTL of another thread: `option` and what it is about.
fn base(registers: &mut Registers, option: u64, argument: u64) -> Result<()> {
    const SET_GS: u64 = 0x1001;
    const SET_FS: u64 = 0x1002;
    const GET_FS: u64 = 0x1003;
    const GET_GS: u64 = 0x1004;
    let context = &mut *registers.context;
    match option {
        SET_GS | SET_FS if argument >= USER_END => return Err(Errno::EPERM),
        SET_GS => context.gs_base = argument,
        SET_FS => context.fs_base = argument,
        GET_FS => user::write(argument, &context.fs_base)?,
        GET_GS => user::write(argument, &context.gs_base)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}
