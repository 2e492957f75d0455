//! Single steps. TF in a tracee's flags is the program's own, or was set for the tracer ("forced"), who
//! then does not see it and takes it away again.

use super::{Tracee, watch};
use crate::task::Thread;
use core::sync::atomic::Ordering;
use ringwall::Frame;
use ringwall_rules::stepping;

/// The tracer wants single steps.
pub(super) const SINGLE: u32 = 1;
/// TF is the tracer's.
pub(super) const FORCED: u32 = 2;

/// TF in RFLAGS.
pub(super) const TRAP_FLAG: u64 = 1 << 8;

impl Tracee {
    fn stepping(&self, bit: u32) -> bool {
        self.step.load(Ordering::Relaxed) & bit != 0
    }

    /// Whether TF is the tracer's.
    pub(super) fn has_forced_trap(&self) -> bool {
        self.stepping(FORCED)
    }

    /// Says whose TF is.
    pub(super) fn set_forced_trap(&self, forced: bool) {
        let others = self.step.load(Ordering::Relaxed) & !FORCED;
        self.step.store(if forced { others | FORCED } else { others }, Ordering::Relaxed);
    }
}

/// Makes the thread stop after its next instruction. For a frozen one. `code`: the bytes at RIP.
pub(super) fn enable(thread: &Thread, tracee: &Tracee, frame: &mut Frame, code: &[u8]) {
    let mut before = frame.rflags();
    if tracee.stepping(SINGLE) {
        // The step before may have ended in a system call, with TF gone by sigreturn or exec.
        before |= TRAP_FLAG;
    }
    tracee.step.fetch_or(SINGLE, Ordering::Relaxed);
    tracee.watch(thread, 0, watch::STEP);
    frame.set_rflags(before | TRAP_FLAG);
    if stepping::sets_flags(code) {
        // What the instruction loads is the program's.
        tracee.set_forced_trap(false);
    } else if before & TRAP_FLAG == 0 {
        tracee.set_forced_trap(true);
    }
}

/// Ends stepping; a forced TF goes. For a frozen thread, or the thread itself.
pub(super) fn disable(thread: &Thread, tracee: &Tracee, frame: &mut Frame) {
    if tracee.step.load(Ordering::Relaxed) == 0 {
        return;
    }
    tracee.watch(thread, watch::STEP, 0);
    if tracee.has_forced_trap() {
        frame.set_rflags(frame.rflags() & !TRAP_FLAG);
    }
    tracee.step.store(0, Ordering::Relaxed);
}

/// The registers that a new thread has from its maker are without a forced TF.
pub(in crate::task) fn without_forced_trap(maker: &Thread, registers: &mut Frame) {
    if maker.tracee.get().is_some_and(|tracee| tracee.has_forced_trap()) {
        registers.set_rflags(registers.rflags() & !TRAP_FLAG);
    }
}

/// A handler's frame is about to be written: it shows flags without a forced TF. True if the thread was
/// stepped; then the tracer hears of the handler before its first instruction.
#[inline(always)]
pub(crate) fn leave_for_handler(thread: &Thread, frame: &mut Frame) -> bool {
    match thread.traced() {
        Some(tracee) if tracee.stepping(SINGLE) => {
            disable(thread, tracee, frame);
            super::hardware::switch_to(thread);
            true
        }
        _ => false,
    }
}
