//! A frozen thread's registers, as struct user and its like lay them out.
//!
//! Invariant: whatever a tracer writes is as safe as what a sigreturn brings: selectors have ring 3's
//! privilege, bases lie in the user half, of the flags only those change that a program can change.

use super::{Tracee, step::TRAP_FLAG, stop::Stop};
use crate::errno::{Errno, Result};
use crate::mm::layout::USER_END;
use crate::task::Thread;
use crate::task::thread::Context;
use core::ops::Range;
use ringwall::Frame;

/// Words of struct user_regs_struct.
pub(super) const WORDS: usize = 27;
/// Bytes of struct user.
const USER_BYTES: u64 = 928;
/// Where struct user has the debug registers.
const DEBUG_REGISTERS: Range<u64> = 848..848 + 64;

const INT_80: u8 = 0x80;
/// orig_rax of what is not a system call.
const NO_CALL: u64 = u64::MAX;
/// CF, PF, AF, ZF, SF, TF, DF, OF, NT, RF, AC.
const FLAGS: u64 = 0x0005_4dd5;

/// Words of struct user_regs_struct that need more than a copy.
mod word {
    pub const ORIGINAL_RAX: usize = 15;
    pub const CS: usize = 17;
    pub const FLAGS: usize = 18;
    pub const SS: usize = 20;
    pub const FS_BASE: usize = 21;
    pub const GS_BASE: usize = 22;
    pub const DS: usize = 23;
    /// ES, FS and GS follow.
    pub const LAST_SELECTOR: usize = 26;
}

macro_rules! general {
    ($($place:literal $get:ident $set:ident),* $(,)?) => {
        fn general(frame: &Frame, place: usize) -> u64 {
            match place { $($place => frame.$get(),)* _ => 0 }
        }
        fn set_general(frame: &mut Frame, place: usize, value: u64) {
            match place { $($place => frame.$set(value),)* _ => {} }
        }
    };
}

general! {
    0 r15 set_r15, 1 r14 set_r14, 2 r13 set_r13, 3 r12 set_r12, 4 rbp set_rbp, 5 rbx set_rbx,
    6 r11 set_r11, 7 r10 set_r10, 8 r9 set_r9, 9 r8 set_r8, 10 rax set_rax, 11 rcx set_rcx,
    12 rdx set_rdx, 13 rsi set_rsi, 14 rdi set_rdi, 16 rip set_rip, 19 rsp set_rsp,
}

/// A frozen thread's state, for its tracer.
pub(super) struct Registers<'a> {
    pub thread: &'a Thread,
    pub tracee: &'a Tracee,
    pub frame: &'a mut Frame,
    pub context: &'a mut Context,
}

impl<'a> Registers<'a> {
    /// # Safety
    /// `thread` is frozen, `stop` is its own, and nothing else uses what this gives meanwhile.
    pub(super) unsafe fn new(thread: &'a Thread, tracee: &'a Tracee, stop: &Stop) -> Registers<'a> {
        // SAFETY: the thread's stop passed it on, and does not return before the thread is thawed.
        let frame = unsafe { &mut *stop.frame };
        // SAFETY: the thread is off every CPU and not to be switched to: the context is its tracer's.
        let context = unsafe { &mut *thread.context() };
        Registers { thread, tracee, frame, context }
    }

    fn is_call(&self) -> bool {
        matches!(self.frame.vector(), None | Some(INT_80))
    }

    /// One word of struct user_regs_struct.
    pub(super) fn get(&self, place: usize) -> u64 {
        let selectors = self.context.selectors.values();
        match place {
            word::ORIGINAL_RAX if self.is_call() => self.frame.number(),
            word::ORIGINAL_RAX => NO_CALL,
            word::CS => self.frame.cs().into(),
            word::FLAGS if self.tracee.has_forced_trap() => self.frame.rflags() & !TRAP_FLAG,
            word::FLAGS => self.frame.rflags(),
            word::SS => self.frame.ss().into(),
            word::FS_BASE => self.context.fs_base,
            word::GS_BASE => self.context.gs_base,
            word::DS..=word::LAST_SELECTOR => selectors[place - word::DS].into(),
            place => general(self.frame, place),
        }
    }

    /// Changes one word of struct user_regs_struct.
    ///
    /// # Errors
    /// `EIO` for what a program cannot have.
    pub(super) fn set(&mut self, place: usize, value: u64) -> Result<()> {
        match place {
            word::ORIGINAL_RAX if self.is_call() => self.frame.set_number(value),
            // Not a call before, and not one now.
            word::ORIGINAL_RAX if value as i32 == -1 => {}
            word::ORIGINAL_RAX => self.frame.become_call(value),
            word::CS => self.frame.set_selectors(present(value)?, self.frame.ss()),
            word::SS => self.frame.set_selectors(self.frame.cs(), present(value)?),
            word::FLAGS => self.set_flags(value),
            word::FS_BASE => self.context.fs_base = user_base(value)?,
            word::GS_BASE => self.context.gs_base = user_base(value)?,
            word::DS..=word::LAST_SELECTOR => {
                self.context.selectors.set(place - word::DS, selector(value)?);
            }
            place => set_general(self.frame, place, value),
        }
        Ok(())
    }

    fn set_flags(&mut self, mut value: u64) {
        if value & TRAP_FLAG != 0 {
            // From now on it is the program's.
            self.tracee.set_forced_trap(false);
        } else if self.tracee.has_forced_trap() {
            value |= TRAP_FLAG;
        }
        self.frame.set_rflags(self.frame.rflags() & !FLAGS | value & FLAGS);
    }

    /// PTRACE_PEEKUSER.
    ///
    /// # Errors
    /// `EIO` outside of struct user.
    pub(super) fn peek(&self, offset: u64) -> Result<u64> {
        if !offset.is_multiple_of(8) || offset >= USER_BYTES {
            return Err(Errno::EIO);
        }
        Ok(match (offset / 8) as usize {
            place if place < WORDS => self.get(place),
            _ if DEBUG_REGISTERS.contains(&offset) => {
                self.tracee.debug.read(((offset - DEBUG_REGISTERS.start) / 8) as usize)
            }
            _ => 0,
        })
    }

    /// PTRACE_POKEUSER.
    ///
    /// # Errors
    /// `EIO`; for debug registers also `EINVAL`, `EPERM`.
    pub(super) fn poke(&mut self, offset: u64, value: u64) -> Result<()> {
        if !offset.is_multiple_of(8) || offset >= USER_BYTES {
            return Err(Errno::EIO);
        }
        match (offset / 8) as usize {
            place if place < WORDS => self.set(place, value),
            _ if DEBUG_REGISTERS.contains(&offset) => {
                let number = ((offset - DEBUG_REGISTERS.start) / 8) as usize;
                self.tracee.debug.write(self.thread, number, value)
            }
            _ => Err(Errno::EIO),
        }
    }
}

/// A selector that ring 3 can have, or 0.
fn selector(value: u64) -> Result<u16> {
    let value = value as u16;
    if value != 0 && value & 3 != 3 { Err(Errno::EIO) } else { Ok(value) }
}

fn present(value: u64) -> Result<u16> {
    selector(value).and_then(|value| if value == 0 { Err(Errno::EIO) } else { Ok(value) })
}

fn user_base(value: u64) -> Result<u64> {
    if value < USER_END { Ok(value) } else { Err(Errno::EIO) }
}
