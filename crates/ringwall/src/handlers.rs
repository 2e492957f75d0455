//! What a kernel does with system calls, traps and the rest: one trait, plain Rust.
//!
//! Invariant: a handler runs with the kernel root, the kernel GS base, interrupts off, on a stack that
//! only the kernel root maps.

use crate::frame::Frame;

/// What is known of a double fault.
#[derive(Clone, Copy, Debug)]
pub struct DoubleFault {
    /// CR2: the address of the last page fault, often the one that could not be delivered.
    pub fault_address: u64,
    /// CR3 when it came.
    pub cr3: u64,
    /// GS base when it came.
    pub gs_base: u64,
    /// End of the task stack of the thread that ran.
    pub task_stack_top: u64,
}

/// A kernel's handlers. They have no `self`: a CPU finds its kernel's data through
/// [`crate::current::local_word`].
pub trait Handlers {
    /// A program executed SYSCALL. The frame's RAX is what the program gets.
    fn syscall(frame: &mut Frame);

    /// An exception or interrupt, from ring 3 or from the kernel: [`Frame::from_user`] tells. A fault of
    /// the exit's IRETQ arrives as if the program had raised it where it was to go on.
    fn trap(frame: &mut Frame);

    /// A non-maskable interrupt, from anywhere; DR7 is 0, and gets its value back afterwards. Must not enable
    /// interrupts, and finds any lock taken and any data half-written.
    fn nmi(frame: &mut Frame);

    /// A #DB in ring 0; DR7 as in [`Handlers::nmi`], DR6 as the CPU left it and to be cleared here. A TF that
    /// a program's SYSENTER brought has to be cleared in the frame, or the kernel goes on in single steps. One
    /// from ring 3 is a [`Handlers::trap`].
    fn debug(frame: &mut Frame);

    /// A machine check in ring 0; DR7 as in [`Handlers::nmi`]. One from ring 3 is a [`Handlers::trap`].
    fn machine_check(frame: &mut Frame);

    /// A double fault: a stack overflow or a bug. There is nothing to go back to.
    fn double_fault(frame: &Frame, report: &DoubleFault) -> !;
}

/// What the SYSCALL entry calls.
pub(crate) extern "sysv64" fn syscall<H: Handlers>(frame: *mut Frame) {
    // SAFETY: the entry code passes the frame it built on this thread's task stack, which nothing
    // else refers to until the exit code reads it after this call.
    H::syscall(unsafe { &mut *frame });
}

/// What the trap entries call.
pub(crate) extern "sysv64" fn trap<H: Handlers>(frame: *mut Frame) {
    // SAFETY: as in `syscall`; the frame may be on any kernel stack.
    H::trap(unsafe { &mut *frame });
}
