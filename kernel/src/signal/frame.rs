//! What a handler finds on its stack, byte for byte as Linux lays it out on x86-64.
//!
//! ```text
//!   interrupted RSP   -128: red zone (or the alternate stack's end)
//!                     XSAVE area, 64-aligned
//!                     siginfo (128 bytes)
//!                     ucontext: flags, link, stack, registers, mask
//!   handler's RSP     return address: the restorer      (RSP + 8 is 16-aligned)
//! ```
//!
//! The frame is built in one piece and copied in one go. Coming back, every value in it is the
//! program's to choose: only flags are filtered here, the rest is safe by the exit path. It is read in
//! Linux's order, because what was read before a part that is missing has its effect.

use super::{Action, Info, send};
use crate::arch::{fpu, selectors};
use crate::errno::{Errno, Result};
use crate::task::Thread;
use crate::user;
use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as raw;
use ringwall::Frame;
use zerocopy::{FromBytes, Immutable, IntoBytes};

const RED_ZONE: u64 = 128;
const FPU_ALIGNMENT: u64 = 64;
/// FP_XSTATE_MAGIC2 stands behind the XSAVE area.
const FPU_TRAILER: u64 = 4;

const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

const FLAG_TRAP: u64 = 1 << 8;
const FLAG_DIRECTION: u64 = 1 << 10;
const FLAG_RESUME: u64 = 1 << 16;
/// RFLAGS that sigreturn takes from the frame: status flags, DF, TF, RF, AC. Not IF, IOPL, NT.
const USER_FLAGS: u64 = 0x0005_0dd5;

/// sigaltstack's stack_t.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct StackDescription {
    /// Lowest address.
    pub pointer: u64,
    /// SS_*.
    pub flags: u32,
    padding: u32,
    /// Bytes.
    pub size: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Registers {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    flags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error_code: u64,
    trap: u64,
    old_mask: u64,
    cr2: u64,
    fpu: u64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct UserContext {
    flags: u64,
    link: u64,
    stack: StackDescription,
    registers: Registers,
    reserved: [u64; 8],
    mask: u64,
}

#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct SignalFrame {
    restorer: u64,
    context: UserContext,
    info: Info,
    info_rest: [u64; 10],
}

const _: () =
    assert!(size_of::<Registers>() == 256 - 64, "struct sigcontext, reserved words apart");
const _: () = assert!(size_of::<UserContext>() == 304, "struct ucontext with a 64-bit mask");
const _: () = assert!(size_of::<SignalFrame>() == 440, "struct rt_sigframe");

const CONTEXT_OFFSET: u64 = offset_of!(SignalFrame, context) as u64;
const INFO_OFFSET: u64 = offset_of!(SignalFrame, info) as u64;
const FLAGS_OFFSET: u64 = offset_of!(SignalFrame, context.flags) as u64;
const STACK_OFFSET: u64 = offset_of!(SignalFrame, context.stack) as u64;
const REGISTERS_OFFSET: u64 = offset_of!(SignalFrame, context.registers) as u64;
const MASK_OFFSET: u64 = offset_of!(SignalFrame, context.mask) as u64;

/// A thread's sigaltstack. Only the thread itself touches it.
pub struct AlternateStack {
    pointer: AtomicU64,
    size: AtomicU64,
    flags: AtomicU32,
}

impl Default for AlternateStack {
    fn default() -> Self {
        AlternateStack::new()
    }
}

impl AlternateStack {
    /// None.
    pub const fn new() -> AlternateStack {
        AlternateStack {
            pointer: AtomicU64::new(0),
            size: AtomicU64::new(0),
            flags: AtomicU32::new(raw::SS_DISABLE),
        }
    }

    /// Sets it; a size of 0 is none.
    pub fn set(&self, pointer: u64, size: u64, flags: u32) {
        self.pointer.store(pointer, Ordering::Relaxed);
        self.size.store(size, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// None, but the flags stay (exec).
    pub fn forget(&self) {
        self.pointer.store(0, Ordering::Relaxed);
        self.size.store(0, Ordering::Relaxed);
    }

    /// As it was set, flags included.
    fn as_set(&self) -> StackDescription {
        StackDescription {
            pointer: self.pointer.load(Ordering::Relaxed),
            flags: self.flags.load(Ordering::Relaxed),
            padding: 0,
            size: self.size.load(Ordering::Relaxed),
        }
    }

    /// Takes `other`'s (a new process keeps its parent's).
    pub fn copy(&self, other: &AlternateStack) {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        self.set(load(&other.pointer), load(&other.size), other.flags.load(Ordering::Relaxed));
    }

    fn contains(&self, stack_pointer: u64) -> bool {
        let (start, size) =
            (self.pointer.load(Ordering::Relaxed), self.size.load(Ordering::Relaxed));
        stack_pointer > start && stack_pointer - start <= size
    }

    /// Whether code with this stack pointer runs on it. Never, if it disarms itself: then it may
    /// be used anew.
    pub fn is_in_use(&self, stack_pointer: u64) -> bool {
        self.flags.load(Ordering::Relaxed) & raw::SS_AUTODISARM == 0 && self.contains(stack_pointer)
    }

    /// As programs see it, with this stack pointer.
    pub fn describe(&self, stack_pointer: u64) -> StackDescription {
        let size = self.size.load(Ordering::Relaxed);
        let state = if size == 0 {
            raw::SS_DISABLE
        } else if self.is_in_use(stack_pointer) {
            raw::SS_ONSTACK
        } else {
            0
        };
        let sticky = self.flags.load(Ordering::Relaxed) & raw::SS_AUTODISARM;
        StackDescription {
            pointer: self.pointer.load(Ordering::Relaxed),
            flags: state | sticky,
            padding: 0,
            size,
        }
    }
}

fn fpu_bytes() -> u64 {
    fpu::size() as u64 + FPU_TRAILER
}

/// Where a handler's frame and its XSAVE area go.
fn place(thread: &Thread, frame: &Frame, action: &Action) -> Result<(u64, u64)> {
    let alternate = &thread.alternate_stack;
    let mut bounded = alternate.is_in_use(frame.rsp());
    let mut top = frame.rsp().wrapping_sub(RED_ZONE);
    // The red zone counts: within it, the alternate stack is begun anew.
    if action.has(raw::SA_ONSTACK) && !alternate.is_in_use(top) {
        let description = alternate.as_set();
        if description.size != 0 {
            top = description.pointer.wrapping_add(description.size);
            bounded = true;
        }
    }
    let fpu = top.wrapping_sub(fpu_bytes()) & !(FPU_ALIGNMENT - 1);
    let place = (fpu.wrapping_sub(size_of::<SignalFrame>() as u64) & !15).wrapping_sub(8);
    // Running over the alternate stack's lower end must not look like a fresh use of it.
    if bounded && !alternate.contains(place) {
        return Err(Errno::EFAULT);
    }
    Ok((place, fpu))
}

fn context_flags(frame: &Frame) -> u64 {
    // 64-bit code gets back the SS that it had, whatever it is; others' handlers may be older than SS
    // in the frame.
    let strict = if is_64_bit(frame) { UC_STRICT_RESTORE_SS } else { 0 };
    UC_FP_XSTATE | UC_SIGCONTEXT_SS | strict
}

fn is_64_bit(frame: &Frame) -> bool {
    frame.cs() == ringwall::USER_CODE_SELECTOR
}

/// The stack selector that 64-bit code can run with: `wanted`, if it can be loaded at all.
fn usable_stack(wanted: u16) -> u16 {
    if wanted == ringwall::USER_DATA_SELECTOR || selectors::is_user_stack(wanted) {
        wanted
    } else {
        ringwall::USER_DATA_SELECTOR
    }
}

/// Writes the frame of `info`'s handler and makes `frame` enter the handler. `mask`: what sigreturn
/// brings back.
///
/// # Errors
/// `EFAULT`: nowhere to write, or no restorer to return through.
pub fn push(
    thread: &Thread,
    frame: &mut Frame,
    info: &Info,
    action: &Action,
    mask: u64,
) -> Result<()> {
    if !action.has(raw::SA_RESTORER) {
        return Err(Errno::EFAULT);
    }
    let (place, fpu) = place(thread, frame, action)?;
    fpu::save_to_user(fpu)?;
    let word = |index: usize| thread.trap[index].load(Ordering::Relaxed);
    let content = SignalFrame {
        restorer: action.restorer,
        context: UserContext {
            flags: context_flags(frame),
            link: 0,
            stack: thread.alternate_stack.as_set(),
            registers: Registers {
                r8: frame.r8(),
                r9: frame.r9(),
                r10: frame.r10(),
                r11: frame.r11(),
                r12: frame.r12(),
                r13: frame.r13(),
                r14: frame.r14(),
                r15: frame.r15(),
                rdi: frame.rdi(),
                rsi: frame.rsi(),
                rbp: frame.rbp(),
                rbx: frame.rbx(),
                rdx: frame.rdx(),
                rax: frame.rax(),
                rcx: frame.rcx(),
                rsp: frame.rsp(),
                rip: frame.rip(),
                flags: frame.rflags(),
                cs: frame.cs(),
                gs: 0,
                fs: 0,
                ss: frame.ss(),
                error_code: word(1),
                trap: word(0),
                old_mask: mask,
                cr2: word(2),
                fpu,
            },
            reserved: [0; 8],
            mask,
        },
        info: *info,
        info_rest: [0; 10],
    };
    let bytes = content.as_bytes();
    let told = if action.has(raw::SA_SIGINFO) { bytes.len() } else { INFO_OFFSET as usize };
    user::write_bytes(place, &bytes[..told])?;
    if content.context.stack.flags & raw::SS_AUTODISARM != 0 {
        thread.alternate_stack.set(0, 0, raw::SS_DISABLE);
    }
    frame.set_rdi(info.number().into());
    frame.set_rsi(place + INFO_OFFSET);
    frame.set_rdx(place + CONTEXT_OFFSET);
    frame.set_rax(0);
    frame.set_rip(action.handler);
    frame.set_rsp(place);
    frame.set_rflags(frame.rflags() & !(FLAG_TRAP | FLAG_DIRECTION | FLAG_RESUME));
    frame.set_selectors(ringwall::USER_CODE_SELECTOR, usable_stack(frame.ss()));
    fpu::load_initial();
    Ok(())
}

/// Brings back what a handler's frame holds (rt_sigreturn). RAX is the frame's.
///
/// # Errors
/// `EFAULT`: part of the frame cannot be read, or its FPU state is not one. What was read before has
/// its effect.
pub fn pop(thread: &Thread, frame: &mut Frame) -> Result<()> {
    let place = frame.rsp().wrapping_sub(8);
    if !user::is_user_range(place, size_of::<SignalFrame>() as u64) {
        return Err(Errno::EFAULT);
    }
    // In one go; if that fails, part by part.
    let mut content = MaybeUninit::<UserContext>::uninit();
    let whole = user::read_into(place + CONTEXT_OFFSET, &mut content);
    let (mask, flags) = match &whole {
        Ok(context) => (context.mask, context.flags),
        Err(_) => (user::read(place + MASK_OFFSET)?, user::read(place + FLAGS_OFFSET)?),
    };
    send::set_blocked(thread, mask);
    // A call that was to go on is not under way any more.
    *thread.restart.lock() = None;
    let registers: &Registers = match &whole {
        Ok(context) => &context.registers,
        Err(_) => &user::read(place + REGISTERS_OFFSET)?,
    };
    frame.set_r8(registers.r8);
    frame.set_r9(registers.r9);
    frame.set_r10(registers.r10);
    frame.set_r11(registers.r11);
    frame.set_r12(registers.r12);
    frame.set_r13(registers.r13);
    frame.set_r14(registers.r14);
    frame.set_r15(registers.r15);
    frame.set_rdi(registers.rdi);
    frame.set_rsi(registers.rsi);
    frame.set_rbp(registers.rbp);
    frame.set_rbx(registers.rbx);
    frame.set_rdx(registers.rdx);
    frame.set_rax(registers.rax);
    frame.set_rcx(registers.rcx);
    frame.set_rsp(registers.rsp);
    frame.set_rip(registers.rip);
    frame.set_rflags(frame.rflags() & !USER_FLAGS | registers.flags & USER_FLAGS);
    // Selectors of ring 3, whatever they name; those that name nothing fault on the way out, and
    // the fault is the program's.
    frame.set_selectors(registers.cs, registers.ss | 3);
    if flags & UC_STRICT_RESTORE_SS == 0 && is_64_bit(frame) {
        frame.set_selectors(frame.cs(), usable_stack(frame.ss()));
    }
    // No call is under way any more that could be restarted.
    frame.set_number(u64::MAX);
    match registers.fpu {
        0 => fpu::load_initial(),
        area => fpu::load_from_user(area)?,
    }
    // As after sigaltstack, but a bad one is ignored.
    let stack = match &whole {
        Ok(context) => context.stack,
        Err(_) => user::read(place + STACK_OFFSET)?,
    };
    let _ = set_alternate(thread, frame.rsp(), &stack);
    Ok(())
}

/// Checks and sets an alternate stack for code with this stack pointer (sigaltstack).
///
/// # Errors
/// `EPERM` while it is in use, `EINVAL`, `ENOMEM` if it is too small.
pub fn set_alternate(thread: &Thread, stack_pointer: u64, wanted: &StackDescription) -> Result<()> {
    let alternate = &thread.alternate_stack;
    if alternate.is_in_use(stack_pointer) {
        return Err(Errno::EPERM);
    }
    let mode = wanted.flags & !raw::SS_AUTODISARM;
    if mode == raw::SS_DISABLE {
        alternate.set(0, 0, wanted.flags);
        return Ok(());
    }
    if mode != raw::SS_ONSTACK && mode != 0 {
        return Err(Errno::EINVAL);
    }
    let now = alternate.as_set();
    if (wanted.pointer, wanted.size, wanted.flags) == (now.pointer, now.size, now.flags) {
        return Ok(());
    }
    if wanted.size < u64::from(raw::MINSIGSTKSZ) {
        return Err(Errno::ENOMEM);
    }
    alternate.set(wanted.pointer, wanted.size, wanted.flags);
    Ok(())
}
