//! What a kernel does with system calls, traps and the rest: one trait, plain Rust.
//!
//! Invariant: a handler runs with the kernel root, the kernel GS base, interrupts off, on a stack that
//! only the kernel root maps.

use crate::entry::layout::{ALIAS, ENTRY_STACK_TOP, Landing, StackPage, data_offset};
use crate::entry::{IN_RDI, IN_RDI_RSI, IN_RSP, Text};
use crate::frame::Frame;
use core::mem::offset_of;
use core::ops::Range;
use ringwall_core::root::is_user;
use x86_64::registers::control::{Cr2, Cr3};

/// A word of this CPU's kernel-only data.
macro_rules! data_word {
    ($field:ident) => {{
        let word: u64;
        // SAFETY: a handler runs with the kernel's GS base, from which the word is at this offset.
        unsafe {
            core::arch::asm!(
                "mov {}, gs:[{}]", out(reg) word, const data_offset!($field),
                options(nostack, preserves_flags, readonly),
            );
        }
        word
    }};
}

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

    /// A #DB in ring 0; DR7 as in [`Handlers::nmi`], DR6 as the CPU left it. One from ring 3 is a
    /// [`Handlers::trap`].
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

/// What the paranoid entries call in the variant without switches. No root was found, and none is a
/// user root: the second argument means nothing there.
pub(crate) extern "sysv64" fn paranoid_plain<H: Handlers>(
    frame: *mut Frame,
    _: u64,
    gs_base: u64,
) -> u64 {
    // SAFETY: as in `syscall`; the frame is on the vector's own stack.
    let frame = unsafe { &mut *frame };
    let cr3 = Cr3::read_raw().0.start_address().as_u64();
    paranoid::<H>(frame, cr3, gs_base, &Text::new(false))
}

/// What the paranoid entries call in the variant with switches.
pub(crate) extern "sysv64" fn paranoid_isolated<H: Handlers>(
    frame: *mut Frame,
    entered_cr3: u64,
    gs_base: u64,
) -> u64 {
    // SAFETY: as in `syscall`; the frame is on the vector's own stack.
    let frame = unsafe { &mut *frame };
    if is_user(entered_cr3) {
        // SAFETY: GS is this CPU's; the word is of its kernel-only data.
        unsafe {
            core::arch::asm!(
                "mov qword ptr gs:[{landed}], 1",
                landed = const data_offset!(landed),
                options(nostack, preserves_flags),
            );
        }
        forget_root(frame, data_word!(text_base));
    }
    paranoid::<H>(frame, entered_cr3, gs_base, &Text::new(true))
}

/// Runs the handler. The answer is for the entry code: 1 to go back without IRET.
fn paranoid<H: Handlers>(frame: &mut Frame, cr3: u64, gs_base: u64, text: &Text) -> u64 {
    let vector = frame.vector();
    // A handler of the kernel's may take a page fault; what it interrupted may not have read CR2 yet.
    let fault_address = Cr2::read_raw();
    match vector {
        Some(1) => H::debug(frame),
        Some(8) => H::double_fault(frame, &double_fault_report(fault_address, cr3, gs_base)),
        Some(18) => H::machine_check(frame),
        _ => return nmi::<H>(frame, fault_address),
    }
    restore_fault_address(fault_address);
    let interrupted = NmiStacks::of_this_cpu().interrupted(frame, text);
    u64::from(interrupted && cfg!(not(feature = "break-nmi-iret")))
}

/// An NMI's own way back is always IRET: NMIs are unmasked by it.
fn nmi<H: Handlers>(frame: &mut Frame, fault_address: u64) -> u64 {
    H::nmi(frame);
    restore_fault_address(fault_address);
    0
}

fn restore_fault_address(address: u64) {
    if Cr2::read_raw() != address {
        // SAFETY: CR2 is a plain register; this is the value that it had.
        unsafe { core::arch::asm!("mov cr2, {}", in(reg) address, options(nostack, nomem)) };
    }
}

/// Where an NMI's code has its RSP, from the landing to the last IRETQ.
struct NmiStacks {
    text_base: u64,
    landing: Range<u64>,
    own: Range<u64>,
}

impl NmiStacks {
    fn of_this_cpu() -> Self {
        let page = data_word!(entry_stack_alias) - (ALIAS + ENTRY_STACK_TOP) as u64;
        let landing = page + offset_of!(StackPage, nmi_landing) as u64;
        let own = data_word!(nmi_stack);
        NmiStacks {
            text_base: data_word!(text_base),
            landing: landing..landing + size_of::<Landing>() as u64,
            own: own - data_word!(stack_bytes)..own,
        }
    }

    /// Whether `frame` is of code that runs with NMIs masked because one runs. RSP tells, but for the few
    /// instructions of SYSCALL's ways in and out at which RSP is whatever the program made it.
    fn interrupted(&self, frame: &Frame, text: &Text) -> bool {
        if frame.from_user() {
            return false;
        }
        let offset = frame.rip.wrapping_sub(self.text_base);
        let on_user_stack = text.windows().any(|(range, window)| {
            window.rsp_is_users && (u64::from(range.start)..u64::from(range.end)).contains(&offset)
        });
        let inside = |stack: &Range<u64>| stack.start < frame.rsp && frame.rsp <= stack.end;
        !on_user_stack && (inside(&self.landing) || inside(&self.own))
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

fn double_fault_report(fault_address: u64, cr3: u64, gs_base: u64) -> DoubleFault {
    DoubleFault { fault_address, cr3, gs_base, task_stack_top: data_word!(task_stack_top) }
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

    const STACKS: NmiStacks =
        NmiStacks { text_base: BASE, landing: 0x1000..0x1100, own: 0x8000..0xc000 };

    fn in_ring_0(rip: u64, rsp: u64) -> Frame {
        let mut frame = Frame::new_user(rip, rsp);
        frame.cs = 0x10;
        frame
    }

    #[test]
    fn rsp_tells_that_an_nmi_runs() {
        let text = Text::new(true);
        let nmi = u64::from(text.gate(2)) + BASE;
        for (rsp, expected) in [
            (0x10d8, true),
            (0x1100, true),
            (0x1000, false),
            (0x9000, true),
            (0xc000, true),
            (0x8000, false),
            (0xd000, false),
        ] {
            assert_eq!(STACKS.interrupted(&in_ring_0(nmi, rsp), &text), expected, "{rsp:#x}");
        }
        assert!(STACKS.interrupted(&in_ring_0(0xffff_ffff_8000_0000, 0x9000), &text), "a handler");
        assert!(!STACKS.interrupted(&Frame::new_user(nmi, 0x9000), &text), "ring 3");
    }

    /// A program that puts an NMI stack's address into RSP and calls must not choose the way back.
    #[test]
    fn a_programs_own_rsp_does_not_tell() {
        for text in [Text::new(true), Text::new(false)] {
            let syscall = u64::from(text.points().syscall_entry) + BASE;
            assert!(!STACKS.interrupted(&in_ring_0(syscall, 0x9000), &text));
        }
    }
}
