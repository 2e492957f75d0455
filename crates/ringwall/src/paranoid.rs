//! The Rust side of the paranoid entries: what they call, and what they go back to.
//!
//! Invariants: what goes back through user-visible memory holds no root's physical address; nothing that may
//! have interrupted an NMI's code goes back by IRET; CR2 is what it was.

use crate::breaks::Break;
use crate::counters;
use crate::entry::layout::{ALIAS, ENTRY_STACK_TOP, Landing, StackPage, data_offset, data_word};
use crate::entry::{IN_RDI, IN_RDI_RSI, IN_RSP, Spot, Text, Variant};
use crate::frame::Frame;
use crate::handlers::{DoubleFault, Handlers};
use core::mem::offset_of;
use core::ops::Range;
use ringwall_core::root::is_user;
use x86_64::registers::control::{Cr2, Cr3};

/// What the entries call in the variant without switches. No root was found, and none is a user root: the
/// second argument means nothing there.
pub(crate) extern "sysv64" fn plain<H: Handlers>(frame: *mut Frame, _: u64, gs_base: u64) -> u64 {
    // SAFETY: the entry code passes the frame it built on the vector's own stack, which nothing else refers
    // to until the exit code reads it after this call.
    let frame = unsafe { &mut *frame };
    let cr3 = Cr3::read_raw().0.start_address().as_u64();
    handle::<H>(frame, cr3, gs_base, &Text::new(Variant::Plain), data_word!(text_base))
}

/// What the entries call in the variant for open processes: as in `plain`.
pub(crate) extern "sysv64" fn open<H: Handlers>(frame: *mut Frame, _: u64, gs_base: u64) -> u64 {
    // SAFETY: as in `plain`.
    let frame = unsafe { &mut *frame };
    let cr3 = Cr3::read_raw().0.start_address().as_u64();
    handle::<H>(frame, cr3, gs_base, &Text::new(Variant::Open), data_word!(open_text_base))
}

/// What the entries call in the variant with switches.
pub(crate) extern "sysv64" fn isolated<H: Handlers>(
    frame: *mut Frame,
    entered_cr3: u64,
    gs_base: u64,
) -> u64 {
    // SAFETY: as in `plain`.
    let frame = unsafe { &mut *frame };
    switching::<H>(frame, entered_cr3, gs_base, &Text::new(Variant::Isolated))
}

/// What the entries call in the variant for PCID.
pub(crate) extern "sysv64" fn pcid<H: Handlers>(
    frame: *mut Frame,
    entered_cr3: u64,
    gs_base: u64,
) -> u64 {
    // SAFETY: as in `plain`.
    let frame = unsafe { &mut *frame };
    switching::<H>(frame, entered_cr3, gs_base, &Text::new(Variant::Pcid))
}

fn switching<H: Handlers>(frame: &mut Frame, entered_cr3: u64, gs_base: u64, text: &Text) -> u64 {
    if is_user(entered_cr3) {
        // SAFETY: GS is this CPU's; the word is of its kernel-only data.
        unsafe {
            core::arch::asm!(
                "mov qword ptr gs:[{landed}], 1",
                landed = const data_offset!(landed),
                options(nostack, preserves_flags),
            );
        }
        forget_root(frame, text, &Stacks::of_this_cpu(data_word!(text_base)));
    }
    handle::<H>(frame, entered_cr3, gs_base, text, data_word!(text_base))
}

/// Runs the handler. The answer is for the entry code: 1 to go back without IRET.
fn handle<H: Handlers>(
    frame: &mut Frame,
    cr3: u64,
    gs_base: u64,
    text: &Text,
    text_base: u64,
) -> u64 {
    // A handler of the kernel's may take a page fault; what it interrupted may not have read CR2 yet.
    let fault_address = Cr2::read_raw();
    match frame.vector() {
        Some(1) => H::debug(frame),
        Some(8) => {
            let task_stack_top = data_word!(task_stack_top);
            H::double_fault(frame, &DoubleFault { fault_address, cr3, gs_base, task_stack_top })
        }
        Some(18) => H::machine_check(frame),
        _ => {
            counters::count_nmi(frame, text, text_base);
            H::nmi(frame);
            restore_fault_address(fault_address);
            // An NMI's own way back is always IRET: NMIs are unmasked by it.
            return 0;
        }
    }
    restore_fault_address(fault_address);
    let on_them = Stacks::of_this_cpu(text_base).has(frame, text);
    u64::from(on_them && !Break::NmiIret.is_on())
}

fn restore_fault_address(address: u64) {
    if Cr2::read_raw() != address {
        // SAFETY: CR2 is a plain register; this is the value that it had.
        unsafe { core::arch::asm!("mov cr2, {}", in(reg) address, options(nostack, nomem)) };
    }
}

/// The vectors that may return to ring 0, with their landings.
const LANDINGS: [(u8, usize); 3] = [
    (2, offset_of!(StackPage, nmi_landing)),
    (1, offset_of!(StackPage, debug_landing)),
    (18, offset_of!(StackPage, machine_check_landing)),
];
/// The CPU's RIP and CS, from the end of a landing.
const LANDED_RIP: u64 = 40;

/// Where code has its RSP from a landing of NMI, #DB or #MC to the last instruction of its way out.
///
/// An NMI may be under way on each of them: a #DB on its first instruction, and a #MC in that #DB's entry, would
/// find RSP on #DB's landing.
struct Stacks {
    text_base: u64,
    page: u64,
    own: [Range<u64>; 3],
}

impl Stacks {
    /// Of the entry text at `text_base`.
    fn of_this_cpu(text_base: u64) -> Self {
        let bytes = data_word!(stack_bytes);
        let tops =
            [data_word!(nmi_stack), data_word!(debug_stack), data_word!(machine_check_stack)];
        Stacks {
            text_base,
            page: data_word!(entry_stack_alias) - (ALIAS + ENTRY_STACK_TOP) as u64,
            own: tops.map(|top| top - bytes..top),
        }
    }

    fn landing(&self, start: usize) -> Range<u64> {
        let start = self.page + start as u64;
        start..start + size_of::<Landing>() as u64
    }

    /// Whether `frame` is of code that runs on them. RSP tells, but for the few instructions of SYSCALL's ways
    /// in and out at which RSP is whatever the program made it.
    fn has(&self, frame: &Frame, text: &Text) -> bool {
        if frame.from_user() {
            return false;
        }
        let offset = frame.rip.wrapping_sub(self.text_base);
        let on_user_stack = text.windows().any(|(range, window)| {
            window.rsp_is_users && (u64::from(range.start)..u64::from(range.end)).contains(&offset)
        });
        let on_landing = LANDINGS.iter().any(|&(_, start)| on(&self.landing(start), frame.rsp));
        !on_user_stack && (on_landing || self.own.iter().any(|stack| on(stack, frame.rsp)))
    }

    /// The landing, as the kernel reaches the user view's, of the paranoid entry that `frame` is of and that
    /// has not left it yet.
    fn landing_of_entry(&self, frame: &Frame, text: &Text) -> Option<Range<u64>> {
        let offset = frame.rip.wrapping_sub(self.text_base);
        let (_, start) = LANDINGS.into_iter().find(|&(vector, start)| {
            let gate = text.gate(vector);
            let inside = text.windows().any(|(range, _)| {
                range.contains(&gate)
                    && (u64::from(range.start)..u64::from(range.end)).contains(&offset)
            });
            inside && on(&self.landing(start), frame.rsp)
        })?;
        let landing = self.landing(start);
        Some(landing.start + ALIAS as u64..landing.end + ALIAS as u64)
    }
}

fn on(stack: &Range<u64>, rsp: u64) -> bool {
    stack.start < rsp && rsp <= stack.end
}

/// Takes a root's physical address out of registers that go back through user-visible memory; see
/// `root_in_registers` in macros.s.
fn forget_root(frame: &mut Frame, text: &Text, stacks: &Stacks) {
    if frame.from_user() {
        return;
    }
    if let Some(spot) = text.spot(frame.rip.wrapping_sub(stacks.text_base)) {
        frame.rip = stacks.text_base + u64::from(spot.resume);
        zero_registers(frame, spot);
        return;
    }
    // A paranoid entry that interrupted such a spot still has its registers. It will see to the spot itself.
    let Some(landing) = stacks.landing_of_entry(frame, text) else { return };
    let [rip, cs] = [0, 8].map(|word| {
        let address = (landing.end - LANDED_RIP + word) as *const u64;
        // SAFETY: a word of the user view's stack page under its alias, inside the landing.
        unsafe { address.read_volatile() }
    });
    if cs & 3 == 0
        && let Some(spot) = text.spot(rip.wrapping_sub(stacks.text_base))
        && spot.registers != IN_RSP
    {
        zero_registers(frame, spot);
    }
}

fn zero_registers(frame: &mut Frame, spot: &Spot) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_c000_7000;
    /// What a register holds that must not stay.
    const ROOT: u64 = 0x12_3000;
    const STACKS: Stacks =
        Stacks { text_base: BASE, page: 0x1000, own: [0x8000..0xc000, 0xe000..0xf000, 0..0] };
    const NMI_END: u64 =
        STACKS.page + (offset_of!(StackPage, nmi_landing) + size_of::<Landing>()) as u64;

    fn interrupted(offset: u64) -> Frame {
        let mut frame = Frame::new_user(BASE + offset, ROOT);
        frame.cs = u64::from(crate::descriptors::KERNEL_CODE_SELECTOR);
        (frame.rdi, frame.rsi) = (ROOT, ROOT);
        frame
    }

    #[test]
    fn no_root_goes_back_through_a_landing_stack() {
        let text = Text::new(Variant::Isolated);
        let mut seen = 0;
        for offset in 0..4096 {
            let Some(spot) = text.spot(offset) else { continue };
            seen += 1;
            let mut frame = interrupted(offset);
            forget_root(&mut frame, &text, &STACKS);
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
        let text = Text::new(Variant::Isolated);
        for offset in (0..4096).filter(|offset| text.spot(*offset).is_none()) {
            let mut frame = interrupted(offset);
            forget_root(&mut frame, &text, &STACKS);
            assert_eq!(frame, interrupted(offset));
        }
        let spot = (0..4096).find(|offset| text.spot(*offset).is_some()).expect("a spot");
        let mut program = Frame::new_user(BASE + spot, ROOT);
        forget_root(&mut program, &text, &STACKS);
        assert_eq!(program, Frame::new_user(BASE + spot, ROOT));
    }

    /// An NMI finds a #MC's first instruction, and the #MC has interrupted a spot of the trap entry.
    #[test]
    fn a_root_is_forgotten_two_deep() {
        let text = Text::new(Variant::Isolated);
        let alias = std::boxed::Box::new([0u64; 512]);
        let page = alias.as_ptr() as u64 - ALIAS as u64;
        let stacks = Stacks { page, ..STACKS };
        let offset = (0..4096)
            .find(|&offset| text.spot(offset).is_some_and(|spot| spot.registers == IN_RDI));
        let spot = BASE + offset.expect("a spot");
        let end = stacks.landing(offset_of!(StackPage, machine_check_landing)).end;
        for (rip, cs, forgotten) in [(spot, 0x10, true), (spot, 0x33, false), (BASE, 0x10, false)] {
            let landed = (end + ALIAS as u64 - LANDED_RIP) as *mut [u64; 2];
            // SAFETY: inside the page that the test allocated.
            unsafe { landed.write_volatile([rip, cs]) };
            let mut frame = interrupted(text.gate(18).into());
            frame.rsp = end - LANDED_RIP;
            let mut expected = frame;
            forget_root(&mut frame, &text, &stacks);
            expected.rdi = if forgotten { 0 } else { ROOT };
            assert_eq!(frame, expected);
        }
    }

    fn in_ring_0(rip: u64, rsp: u64) -> Frame {
        let mut frame = Frame::new_user(rip, rsp);
        frame.cs = 0x10;
        frame
    }

    #[test]
    fn rsp_tells_that_an_nmi_may_run() {
        let text = Text::new(Variant::Isolated);
        let nmi = u64::from(text.gate(2)) + BASE;
        let landing = size_of::<Landing>() as u64;
        for (rsp, expected) in [
            (NMI_END - 40, true),
            (NMI_END, true),
            (NMI_END - landing, false),
            (NMI_END + landing - 40, true),
            (NMI_END + 2 * landing - 40, true),
            (NMI_END + 3 * landing - 40, false),
            (0x9000, true),
            (0xc000, true),
            (0x8000, false),
            (0xd000, false),
            (0xe800, true),
        ] {
            assert_eq!(STACKS.has(&in_ring_0(nmi, rsp), &text), expected, "{rsp:#x}");
        }
        assert!(STACKS.has(&in_ring_0(0xffff_ffff_8000_0000, 0x9000), &text), "a handler");
        assert!(!STACKS.has(&Frame::new_user(nmi, 0x9000), &text), "ring 3");
    }

    /// A program that puts an NMI stack's address into RSP and calls must not choose the way back.
    #[test]
    fn a_programs_own_rsp_does_not_tell() {
        for variant in Variant::ALL {
            let text = Text::new(variant);
            let syscall = u64::from(text.points().syscall_entry) + BASE;
            assert!(!STACKS.has(&in_ring_0(syscall, 0x9000), &text));
        }
    }
}
