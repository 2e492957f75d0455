//! What the CPU holds of a tracee: debug registers, and who serves its system calls.
//!
//! Invariants: DR7 enables what the running thread's tracer asked for, or nothing. Breakpoints are on
//! addresses of the user half only. What is between a switch and its thread is a few stores; a thread
//! whose `switch_work` is 0, coming after another such, costs the look.
//!
//! A tracer sees virtual debug registers: DR7 as it was written, DR6 collected from #DB in ring 3
//! (SDM vol. 3, 17.2).

use super::calls;
use crate::errno::{Errno, Result};
use crate::mm::layout::USER_END;
use crate::signal;
use crate::sync::Mutex;
use crate::task::{self, Thread, way};
use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as raw;
use ringwall::Frame;
use ringwall_rules::breakpoints::{Breakpoints, Refused};

/// In [`Thread::switch_work`]: its system calls are watched.
pub const CALLS: u32 = 1;
/// In [`Thread::switch_work`]: it has breakpoints.
pub const BREAKPOINTS: u32 = 2;

/// DR6: a single step.
const STEP: u64 = 1 << 14;
/// DR6: which breakpoints.
const HITS: u64 = 0xf;
/// DR6 bits that are 1 where nothing has happened.
const INVERTED: u64 = 0xffff_0ff0;
const RESUME_FLAG: u64 = 1 << 16;

/// A thread's virtual debug registers.
pub(super) struct DebugRegisters {
    points: Mutex<Breakpoints>,
    /// Breakpoints that are enabled, and those of them on instructions: for #DB, which takes no lock.
    enabled: AtomicU32,
    on_instructions: AtomicU32,
    /// DR6, with 1 where something has happened.
    status: AtomicU64,
}

impl DebugRegisters {
    pub(super) const fn new() -> DebugRegisters {
        DebugRegisters {
            points: Mutex::new(Breakpoints::new()),
            enabled: AtomicU32::new(0),
            on_instructions: AtomicU32::new(0),
            status: AtomicU64::new(0),
        }
    }

    /// What a tracer reads of debug register `number`.
    pub(super) fn read(&self, number: usize) -> u64 {
        match number {
            0..4 => self.points.lock().address(number),
            6 => self.status.load(Ordering::Relaxed) ^ INVERTED,
            7 => self.points.lock().control(),
            _ => 0,
        }
    }

    /// What a tracer writes to debug register `number` of a frozen thread.
    ///
    /// # Errors
    /// `EIO` without such a register, `EINVAL` for what cannot be or is not the user half's.
    pub(super) fn write(&self, thread: &Thread, number: usize, value: u64) -> Result<()> {
        {
            let mut points = self.points.lock();
            let written = match number {
                0..4 => points.set_address(number, value, USER_END),
                6 => {
                    self.status.store(value ^ INVERTED, Ordering::Relaxed);
                    Ok(())
                }
                7 => points.set_control(value, USER_END),
                _ => return Err(Errno::EIO),
            };
            written.map_err(|Refused| Errno::EINVAL)?;
        }
        self.note(thread);
        Ok(())
    }

    fn note(&self, thread: &Thread) {
        let points = self.points.lock();
        self.enabled.store(points.enabled(), Ordering::Relaxed);
        self.on_instructions.store(points.on_instructions(), Ordering::Relaxed);
        note(thread, BREAKPOINTS, points.enabled() != 0);
    }

    fn load(&self) {
        let points = self.points.lock();
        // SAFETY: DR7 is 0; the addresses are of the user half.
        unsafe {
            asm!(
                "mov dr0, {0}", "mov dr1, {1}", "mov dr2, {2}", "mov dr3, {3}",
                in(reg) points.address(0), in(reg) points.address(1),
                in(reg) points.address(2), in(reg) points.address(3),
                options(nomem, nostack, preserves_flags),
            );
        }
        set_control(points.hardware_control());
    }

    /// Notes the breakpoints of `status`, a real DR6, that are this thread's. Gives what is left, and
    /// whether an instruction was one of them.
    fn take_hits(&self, status: u64) -> (u64, bool) {
        let mut hits = status & HITS & u64::from(self.enabled.load(Ordering::Relaxed));
        let on_instructions = u64::from(self.on_instructions.load(Ordering::Relaxed));
        if status & STEP != 0 {
            // The step came first; the instruction's breakpoint comes again.
            hits &= !on_instructions;
        }
        self.status.fetch_or(hits, Ordering::Relaxed);
        (status & !hits, hits & on_instructions != 0)
    }
}

/// Sets or clears a bit of a thread's `switch_work`.
pub(in crate::task) fn note(thread: &Thread, bit: u32, on: bool) {
    if on {
        thread.switch_work.fetch_or(bit, Ordering::Relaxed);
    } else {
        thread.switch_work.fetch_and(!bit, Ordering::Relaxed);
    }
}

fn set_control(value: u64) {
    // SAFETY: no breakpoint, or breakpoints on the user half, whose hits in ring 0 are handled.
    unsafe { asm!("mov dr7, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

/// Does what a switch to `next` needs beside the rest. `work`: its `switch_work` and that of the thread before it.
pub(in crate::task) fn switch(work: u32, next: &Thread) {
    if work & (CALLS | BREAKPOINTS) != 0 {
        switch_to(next);
    }
    if work & way::OPEN != 0 {
        way::switch_to(next);
    }
}

/// Makes the CPU ready for a thread that it switches to, or that it runs and that has changed.
#[cold]
pub(in crate::task) fn switch_to(thread: &Thread) {
    let work = thread.switch_work.load(Ordering::Relaxed);
    let handler = if work & CALLS != 0 { calls::watched } else { calls::plain };
    // SAFETY: on an active CPU: threads run.
    unsafe { ringwall::set_syscall_handler(handler) };
    set_control(0);
    if work & BREAKPOINTS != 0
        && let Some(tracee) = thread.tracee.get()
    {
        tracee.debug.load();
    }
}

/// Takes away the current thread's breakpoints (exec).
pub(in crate::task) fn forget_breakpoints(thread: &Thread) {
    let Some(tracee) = thread.tracee.get() else { return };
    *tracee.debug.points.lock() = Breakpoints::new();
    tracee.debug.status.store(0, Ordering::Relaxed);
    tracee.debug.note(thread);
    switch_to(thread);
}

/// DR6 with 1 where something has happened, made ready for the next time.
fn take_status() -> u64 {
    let status: u64;
    // SAFETY: DR6 only tells; the value written is the one that the CPU starts with.
    unsafe {
        asm!(
            "mov {0}, dr6",
            "mov dr6, {1}",
            out(reg) status, in(reg) INVERTED,
            options(nomem, nostack, preserves_flags),
        );
    }
    status ^ INVERTED
}

/// #DB in ring 0: what DR6 tells is nothing to a program. Takes no lock, and touches no memory.
pub fn forget_status() {
    take_status();
}

/// #DB from ring 3.
pub fn debug_exception(frame: &mut Frame) {
    let status = take_status();
    let thread = task::current();
    let armed = thread.switch_work.load(Ordering::Relaxed) & BREAKPOINTS != 0;
    if armed {
        // What the signal's frame touches is not the program's doing.
        set_control(0);
    }
    let mut cause = status & !HITS;
    if let Some(tracee) = thread.tracee.get() {
        let debug = &tracee.debug;
        debug.status.store(status & STEP, Ordering::Relaxed);
        let (left, on_instruction) = debug.take_hits(status);
        if on_instruction {
            frame.set_rflags(frame.rflags() | RESUME_FLAG);
        }
        cause = left | debug.status.load(Ordering::Relaxed);
        // Breakpoints that are nobody's, and nothing else: no reason for a signal.
        if status & HITS != 0 && left & !HITS == 0 && cause & HITS & !left == 0 {
            cause = 0;
        }
    }
    // INT1 leaves no trace in DR6.
    if cause & (STEP | HITS) != 0 || status == 0 {
        let code = match cause {
            cause if cause & STEP != 0 => raw::TRAP_TRACE,
            cause if cause & HITS != 0 => raw::TRAP_HWBKPT,
            _ => raw::TRAP_BRKPT,
        };
        let rip = frame.rip();
        signal::fault(frame, raw::SIGTRAP, code as i32, rip, 1, 0, None);
    }
    if armed && let Some(tracee) = thread.tracee.get() {
        tracee.debug.load();
    }
}
