//! What a kernel does with system calls, traps and the rest: one trait, plain Rust.
//!
//! Invariant: a handler runs with the kernel root, the kernel GS base, interrupts off, on a stack that
//! only the kernel root maps.

use crate::entry::layout::data_offset;
use crate::entry::{IN_RDI, IN_RDI_RSI, IN_RSP, Text};
use crate::frame::Frame;
use ringwall_core::root::is_user;
use x86_64::registers::control::{Cr2, Cr3};

/// What is known of a double fault.
#[derive(Clone, Copy, Debug)]
pub struct DoubleFault {
    /// CR2: the address of the last page fault, often the one that could not be delivered.
    pub fault_address: u64,
    /// CR3 when it came.
    pub cr3: u64,
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

    /// A non-maskable interrupt, from anywhere. Must not fault, nor enable interrupts.
    fn nmi(frame: &mut Frame);

    /// A #DB in ring 0. One from ring 3 is a [`Handlers::trap`].
    fn debug(frame: &mut Frame);

    /// A machine check in ring 0. One from ring 3 is a [`Handlers::trap`].
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

/// What the paranoid entries call in the variant without switches. No root was found, and none is a
/// user root: the second argument means nothing there.
pub(crate) extern "sysv64" fn paranoid_plain<H: Handlers>(frame: *mut Frame) {
    // SAFETY: as in `syscall`; the frame is on the vector's own stack.
    paranoid::<H>(unsafe { &mut *frame }, Cr3::read_raw().0.start_address().as_u64());
}

/// What the paranoid entries call in the variant with switches.
pub(crate) extern "sysv64" fn paranoid_isolated<H: Handlers>(frame: *mut Frame, entered_cr3: u64) {
    // SAFETY: as in `syscall`; the frame is on the vector's own stack.
    let frame = unsafe { &mut *frame };
    if is_user(entered_cr3) {
        let base: u64;
        // SAFETY: GS is this CPU's; both are words of its kernel-only data.
        unsafe {
            core::arch::asm!(
                "mov {base}, gs:[{text_base}]",
                "mov qword ptr gs:[{landed}], 1",
                base = out(reg) base,
                text_base = const data_offset!(text_base),
                landed = const data_offset!(landed),
                options(nostack, preserves_flags),
            );
        }
        forget_root(frame, base);
    }
    paranoid::<H>(frame, entered_cr3);
}

fn paranoid<H: Handlers>(frame: &mut Frame, entered_cr3: u64) {
    match frame.vector() {
        Some(1) => H::debug(frame),
        Some(8) => H::double_fault(frame, &double_fault_report(entered_cr3)),
        Some(18) => H::machine_check(frame),
        _ => H::nmi(frame),
    }
}

/// Takes a root's physical address out of registers that go back through user-visible memory; see
/// `root_in_registers` in macros.s.
fn forget_root(frame: &mut Frame, text_base: u64) {
    if frame.from_user() {
        return;
    }
    let Some(spot) = Text::new(true).spot(frame.rip.wrapping_sub(text_base)) else { return };
    frame.rip = text_base + u64::from(spot.resume);
    match spot.registers {
        IN_RSP => frame.rsp = 0,
        IN_RDI => frame.rdi = 0,
        IN_RDI_RSI => {
            frame.rdi = 0;
            frame.rsi = 0;
        }
        other => unreachable!("macros.s names register set {other}"),
    }
}

fn double_fault_report(cr3: u64) -> DoubleFault {
    let task_stack_top: u64;
    // SAFETY: GS is this CPU's; the word is of its kernel-only data.
    unsafe {
        core::arch::asm!(
            "mov {}, gs:[{}]", out(reg) task_stack_top, const data_offset!(task_stack_top),
            options(nostack, preserves_flags, readonly),
        );
    }
    DoubleFault { fault_address: Cr2::read_raw(), cr3, task_stack_top }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_c000_7000;
    /// What a register holds that must not stay.
    const ROOT: u64 = 0x12_3000;

    fn interrupted(offset: u64) -> Frame {
        let mut frame = Frame::new_user(BASE + offset, ROOT);
        frame.cs = u64::from(crate::descriptors::KERNEL_CODE_SELECTOR);
        (frame.rdi, frame.rsi) = (ROOT, ROOT);
        frame
    }

    #[test]
    fn no_root_goes_back_through_a_landing_stack() {
        let text = Text::new(true);
        let mut seen = 0;
        for offset in 0..4096 {
            let Some(spot) = text.spot(offset) else { continue };
            seen += 1;
            let mut frame = interrupted(offset);
            forget_root(&mut frame, BASE);
            assert_eq!(frame.rip, BASE + u64::from(spot.resume), "at {offset:#x}");
            let kept = [frame.rsp, frame.rdi, frame.rsi].map(|register| register == ROOT);
            let expected = match spot.registers {
                IN_RSP => [false, true, true],
                IN_RDI => [true, false, true],
                _ => [true, false, false],
            };
            assert_eq!(kept, expected, "at {offset:#x}");
        }
        assert!(seen > 0);
    }

    #[test]
    fn everywhere_else_and_in_ring_3_nothing_changes() {
        let text = Text::new(true);
        for offset in (0..4096).filter(|offset| text.spot(*offset).is_none()) {
            let mut frame = interrupted(offset);
            forget_root(&mut frame, BASE);
            assert_eq!(frame, interrupted(offset));
        }
        let spot = (0..4096).find(|offset| text.spot(*offset).is_some()).expect("a spot");
        let mut program = Frame::new_user(BASE + spot, ROOT);
        forget_root(&mut program, BASE);
        assert_eq!(program, Frame::new_user(BASE + spot, ROOT));
    }
}
