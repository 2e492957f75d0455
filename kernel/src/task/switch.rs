//! The switch from one task stack to another.

use core::arch::naked_asm;

/// Bytes that [`switch`] pops before it returns: six callee-saved registers.
pub(super) const SAVED_BYTES: u64 = 48;

/// Saves the callee-saved registers on this stack and the stack pointer to `*save`, and goes on
/// where the thread whose stack pointer is `load` left off in here. Returns when somebody switches
/// back.
///
/// In: interrupts off, kernel root and kernel GS. Clobbers what any call may.
///
/// # Safety
/// `save` is writable; `load` was saved by this function, or points to [`SAVED_BYTES`] bytes and a
/// return address above them on a mapped stack that nobody else runs on.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn switch(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
