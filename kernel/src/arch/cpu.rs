//! What each CPU keeps for itself.

use core::sync::atomic::{AtomicPtr, AtomicU32};

/// One CPU's data, found through GS while the kernel runs.
pub struct CpuLocal {
    /// 0 for the boot CPU.
    pub index: u32,
    /// The running thread; owned by the scheduler (an `Arc<Thread>`'s pointer).
    pub current: AtomicPtr<crate::task::Thread>,
    /// Identifier for getcpu.
    pub apic_id: AtomicU32,
}

/// This CPU's data.
#[inline(always)]
pub fn local() -> &'static CpuLocal {
    todo!()
}

/// Tells the CPU which memory and which task stack the next exit to user mode and the next entry
/// use, and loads that memory's kernel root. `stack_top`: 16-aligned end of the next task stack.
pub fn activate(_roots: &ringwall::AddressSpace, _stack_top: u64) {
    todo!()
}

/// Restores `frame`, which must be the one at the top of the current task stack, and runs it.
pub fn return_to_user(_frame: &mut ringwall::Frame) -> ! {
    todo!()
}

/// Lets interrupts come in and waits for one (the idle loop).
pub fn wait_for_interrupt() {
    todo!()
}

/// Asks the local APIC timer for an interrupt in `nanoseconds`.
pub fn arm_timer(_nanoseconds: u64) {
    todo!()
}

/// Nanoseconds since boot, from the TSC.
pub fn nanoseconds() -> u64 {
    todo!()
}

/// Ends the machine: powers it off, or resets it.
pub fn power_off(_reset: bool) -> ! {
    todo!()
}
