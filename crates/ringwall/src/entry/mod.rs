//! The entry code: every instruction between ring 3 and Rust.
//!
//! # Theory
//!
//! **What is mapped under the user root.** The user half, and of the kernel half the entry text, the
//! IDT, and for each CPU its GDT with the TSS and its stack page; and the private slot, if the process has
//! an LDT. Two of them are split: the
//! same virtual page is another physical page under the kernel root. The entry text's user view has
//! only the windows' bytes, all else is INT3; the stack page's user view is what the entry code
//! writes before it switches, its kernel view is where an NMI lands that interrupts the kernel.
//!
//! **Which stack.** SYSCALL brings none: RSP itself is the scratch register until CR3 is written. From
//! ring 3 the CPU pushes on the entry stack (RSP0), and the frame moves to the thread's task stack as
//! soon as that is mapped. From ring 0 a trap stays where it interrupted. NMI, #DB, #MC and #DF land
//! on their landing stacks (IST), which exist in both views, and move to kernel-only stacks at once.
//!
//! **Which GS.** The kernel's GS base is the address of the CPU's stack page. SYSCALL always finds the
//! user's. A trap finds the user's if CS says ring 3, or if it is the exit's IRETQ that faulted.
//! Paranoid entries do not ask: they find their CPU from the landing stack's address, save the base
//! that is there, set the kernel's, and put back what was there.
//!
//! **Which CR3.** On the way in, the root that is loaded with one bit cleared: never a value from
//! memory, because the memory would be user-visible. On the way out, a value that waits in a
//! kernel-only page. After the write, the next instruction comes from the other view. With PCID both values
//! say that the TLB's entries stay; that of the exit does not if the user half has to be flushed, once.
//!
//! **What may nest.** Interrupts are off in all of this. An exception inside a window is a bug, but
//! for one: the exit's IRETQ may fault on what the program put in its frame. NMI and #MC may arrive
//! after any instruction, #DB before the first one of any entry (MOV SS, TF). Each must find its way
//! back to the exact CR3, GS base and registers. IRET unmasks NMIs, so only the NMI's own exit may
//! execute it while one runs: what interrupted code on one of the paranoid stacks, landing or own, goes
//! back by POPFQ and RET; so does every trap from ring 0 that finds IF clear, which need not ask. (#DB and
//! #MC mask no NMIs, so nobody waits for the IRETQ that this spares.) An NMI from ring 3 leaves as a trap
//! does, once its handler has ended.
//!
//! **Which stack segment.** IRETQ to a 16-bit one leaves the upper bits of RSP as they were. With any
//! stack segment of the LDT the exit's RSP is an alias of the entry stack (the espfix stack) whose bits
//! 16 to 31 are the program's. The alias is read-only, so a fault there cannot be delivered and becomes
//! #DF, whose entry makes it the #GP(0) of ring 3 that it stands for, without leaving the user root.
//!
//! **Which text.** A process whose isolation is switched off at run time (an open one) has its ring 3 under the kernel
//! root. While one of its threads runs, LSTAR and the IDT lead to a text without switches; nothing of that is in a user
//! root. The registers are changed by Rust ([`crate::set_way`]), under the kernel root, where both texts' paranoid
//! entries are right: an NMI may come between any two of the writes. What a thread entered by it leaves by, but for a
//! thread whose way has changed meanwhile, which leaves as a new one does.
//!
//! | way in | lands on | goes on on | GS, CR3 found | leaves by |
//! |---|---|---|---|---|
//! | SYSCALL | nothing | task stack | user's, user's | SYSRETQ, or IRETQ if the frame changed |
//! | trap, interrupt from ring 3 | entry stack | task stack | user's, user's | IRETQ from the entry stack |
//! | SYSENTER | entry stack | task stack | user's, user's | as a #GP from ring 3 |
//! | trap, interrupt from ring 0 | its stack | its stack | kernel's, kernel's | POPFQ, RET; IRETQ if IF was set |
//! | fault of the exit IRETQ | entry stack | task stack | user's, user's | as from ring 3 |
//! | fault of the exit IRETQ on the espfix stack | #DF's landing stack | entry stack, then task stack | user's, user's | as from ring 3 |
//! | #DB, #MC from ring 3 | landing stack | task stack | user's, user's | as from ring 3 |
//! | NMI from ring 3 | landing stack | its own stack | user's, user's | as from ring 3, by the task stack |
//! | NMI, #DB, #MC from ring 0 | landing stack | its own stack | any, any | IRETQ, through the landing stack if the user root was loaded; POPFQ, RET if it was on a paranoid stack |
//! | #DF | landing stack | its own stack | any, any | never |
//!
//! # Files
//!
//! `macros.s` has the verbs, `vectors.s` the stubs, `syscall.s`, `interrupt.s` and `paranoid.s` the
//! paths, `text.s` puts them together, four times: without switches, with them, with them under PCID, and without
//! them for open processes.

pub mod layout;
mod text;
pub mod windows;

pub use text::{Features, Points, Spot, Text, Variant};

use crate::breaks::Break;
use crate::frame::{ENTERED_BY_SYSCALL, Frame};
use core::mem::offset_of;
use layout::{ALIAS, ENTRY_STACK_TOP, StackPage, data_offset, landing_top};

/// Registers of a [`Spot`]: RSP.
pub(crate) const IN_RSP: u16 = 0;
/// Registers of a [`Spot`]: RDI.
pub(crate) const IN_RDI: u16 = 1;
/// Registers of a [`Spot`]: RDI and RSI.
pub(crate) const IN_RDI_RSI: u16 = 2;

const RF: u32 = 1 << 16;
const TF: u32 = 1 << 8;
const INTERRUPT_FLAG: u32 = 1 << 9;
/// The one bit of RFLAGS that is always set.
const ALWAYS_SET_FLAG: u32 = 1 << 1;
const GENERAL_PROTECTION: u32 = 13;
/// Bit of a selector: of the LDT.
const LOCAL_SELECTOR: u32 = 1 << 2;
const MSR_GS_BASE: u32 = 0xc000_0101;
pub(crate) const MSR_SPEC_CTRL: u32 = 0x48;
pub(crate) const SPEC_CTRL_IBRS: u32 = 1;

/// RSP of a paranoid entry that has pushed its words on the landing at `start`, as an offset in the stack page.
const fn landed(start: usize) -> usize {
    /// Two registers, vector, error code, and the CPU's five.
    const WORDS: usize = 9;
    landing_top(start) - WORDS * 8
}

// The mask must survive sign extension from 32 bits.
const ROOT_MASK: i32 = ringwall_core::root::TO_KERNEL_MASK as i32;
const _: () = assert!(ROOT_MASK as i64 as u64 == ringwall_core::root::TO_KERNEL_MASK);

core::arch::global_asm!(
    include_str!("macros.s"),
    include_str!("vectors.s"),
    include_str!("syscall.s"),
    include_str!("interrupt.s"),
    include_str!("paranoid.s"),
    include_str!("text.s"),
    ROOT_MASK = const ROOT_MASK,
    NO_FLUSH_BIT = const ringwall_core::root::NO_FLUSH.trailing_zeros(),
    USER_ROOT_BIT = const ringwall_core::root::USER_ROOT_BIT,
    USER_RSP = const offset_of!(StackPage, user_rsp),
    ALIAS = const ALIAS,
    ENTRY_STACK_TOP = const ENTRY_STACK_TOP,
    TASK_STACK_TOP = const data_offset!(task_stack_top),
    EXIT_CR3 = const data_offset!(exit_cr3),
    SYSCALL_HANDLER = const data_offset!(syscall_handler),
    TRAP_HANDLER = const data_offset!(trap_handler),
    PARANOID_HANDLER = const data_offset!(paranoid_handler),
    OPEN_PARANOID_HANDLER = const data_offset!(open_paranoid_handler),
    ENTRY_STACK_ALIAS = const data_offset!(entry_stack_alias),
    NMI_STACK = const data_offset!(nmi_stack),
    DEBUG_STACK = const data_offset!(debug_stack),
    MACHINE_CHECK_STACK = const data_offset!(machine_check_stack),
    DOUBLE_FAULT_STACK = const data_offset!(double_fault_stack),
    LDT = const data_offset!(ldt),
    ESPFIX_STACK = const data_offset!(espfix_stack),
    KERNEL_SELECTOR = const offset_of!(StackPage, kernel_selector),
    NMI_LANDED = const landed(offset_of!(StackPage, nmi_landing)),
    DEBUG_LANDED = const landed(offset_of!(StackPage, debug_landing)),
    MACHINE_CHECK_LANDED = const landed(offset_of!(StackPage, machine_check_landing)),
    DOUBLE_FAULT_LANDED = const landed(offset_of!(StackPage, double_fault_landing)),
    USER_DATA_SELECTOR = const crate::USER_DATA_SELECTOR,
    USER_CODE_SELECTOR = const crate::USER_CODE_SELECTOR,
    ENTERED_BY_SYSCALL = const ENTERED_BY_SYSCALL,
    FRAME_VECTOR = const offset_of!(Frame, vector),
    FRAME_RDI = const offset_of!(Frame, rdi),
    FRAME_RIP = const offset_of!(Frame, rip),
    FRAME_RFLAGS = const offset_of!(Frame, rflags),
    FRAME_CS = const offset_of!(Frame, cs),
    FRAME_BYTES = const size_of::<Frame>(),
    FRAME_RSP = const offset_of!(Frame, rsp),
    RF_TF = const RF | TF,
    INTERRUPT_FLAG = const INTERRUPT_FLAG,
    ALWAYS_SET_FLAG = const ALWAYS_SET_FLAG,
    GENERAL_PROTECTION = const GENERAL_PROTECTION,
    LOCAL_SELECTOR = const LOCAL_SELECTOR,
    MSR_GS_BASE = const MSR_GS_BASE,
    MSR_SPEC_CTRL = const MSR_SPEC_CTRL,
    SPEC_CTRL_IBRS = const SPEC_CTRL_IBRS,
    FEATURE_CLEAR_AC = const Features::CLEAR_AC,
    FEATURE_FENCE_SWAPGS = const Features::FENCE_SWAPGS,
    FEATURE_SCRUB = const Features::SCRUB,
    FEATURE_CLEAR_REGISTERS = const Features::CLEAR_REGISTERS,
    FEATURE_CLEAR_BUFFERS = const Features::CLEAR_BUFFERS,
    FEATURE_IBRS = const Features::IBRS,
    FEATURE_FILL_RSB = const Features::FILL_RSB,
    FEATURE_FSGSBASE = const Features::FSGSBASE,
    FEATURE_NO_FSGSBASE = const Features::NO_FSGSBASE,
    FEATURE_SYSRET_KEEPS_SS = const Features::SYSRET_KEEPS_SS,
    FEATURE_COUNT_ENTRIES = const Features::COUNT_ENTRIES,
    ENTRY_FEATURES = const Features::IBRS
        | Features::FILL_RSB
        | Features::CLEAR_REGISTERS
        | Features::COUNT_ENTRIES,
    ENTRIES_OPEN = const crate::counters::ENTRIES,
    ENTRIES_SWITCHED = const crate::counters::ENTRIES + 8,
    IN_RSP = const IN_RSP,
    IN_RDI = const IN_RDI,
    IN_RDI_RSI = const IN_RDI_RSI,
    BREAKS = const cfg!(feature = "breaks") as u32,
    BREAK_CR3_WRITE = const Break::Cr3Write as u32,
    BREAK_REGISTER = const Break::Register as u32,
    BREAK_PARANOID_GS = const Break::ParanoidGs as u32,
    BREAK_PARANOID_CR3 = const Break::ParanoidCr3 as u32,
    BREAK_DOUBLE_FAULT_STACK = const Break::DoubleFaultStack as u32,
    BREAK_ESPFIX = const Break::Espfix as u32,
);
