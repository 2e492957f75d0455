//! Every structure that the entry code and Rust share, with its offsets and what they assume.
//!
//! ```text
//! GS base - 0x1000   GDT and TSS           both views, read-only
//! GS base            StackPage             user view: one frame, kernel view: another
//! GS base + ALIAS    the user view's StackPage again   kernel view only
//! GS base + DATA     KernelData            kernel view only
//! ```
//!
//! The order is the one of [`ringwall_core::area::CpuArea`]; the landing stacks find the rest of the
//! CPU's pages from their own address by it.

use crate::counters;
use crate::frame::Frame;
use core::mem::{offset_of, size_of};
use ringwall_core::tlb::CpuTlb;

/// Distance from the stack page to its user view's second name.
pub const ALIAS: usize = 0x1000;
/// Distance from the stack page to the kernel-only data.
pub const DATA: usize = 0x2000;

/// Bytes for [`crate::user_mapped!`] variables.
pub const USER_MAPPED_BYTES: usize = 0x7c0;

/// The stack page: the only memory that the entry code writes under the user root.
///
/// Invariant: while ring 3 runs, no word of this CPU's user view holds an address outside the entry area but
/// for the running process's own, nor what another process left there.
#[repr(C, align(4096))]
pub struct StackPage {
    /// The user's RSP between SYSCALL and the switch, and between the switch and SYSRETQ.
    pub user_rsp: u64,
    /// The kernel's data selector, for VERW to look at and for SS.
    pub kernel_selector: u64,
    reserved: [u64; 6],
    /// Per-CPU variables that the kernel declared reachable under the user root.
    pub user_mapped: [u8; USER_MAPPED_BYTES],
    /// Where an NMI lands, and so on.
    pub nmi_landing: Landing,
    /// Where a #DB lands.
    pub debug_landing: Landing,
    /// Where a #MC lands.
    pub machine_check_landing: Landing,
    /// Where a #DF lands.
    pub double_fault_landing: Landing,
    /// Where the CPU pushes when it comes from ring 3 (RSP0 is its end).
    pub entry_stack: [u64; 126],
    // The end of the page is the address of a kernel-only page; RSP0 must not be that.
    unused: [u64; 2],
}

/// A few hundred bytes that an IST vector lands on before CR3 is switched. Used from its end.
#[repr(C, align(16))]
pub struct Landing([u64; 32]);

/// The end of the entry stack, as an offset in the page.
pub const ENTRY_STACK_TOP: usize = offset_of!(StackPage, unused);

/// Words of an exit by IRETQ: its frame, and RDI below it.
pub const EXIT_WORDS: usize = 6;

/// Offset of the end of a landing stack.
pub const fn landing_top(start: usize) -> usize {
    start + size_of::<Landing>()
}

/// Words that a landing uses: four of ours, the CPU's five, and three for the way back of what interrupted the
/// entry itself.
pub const LANDED_WORDS: usize = 12;

const _: () = {
    assert!(size_of::<StackPage>() == 4096, "the page holds just the stack page");
    assert!(
        ENTRY_STACK_TOP.is_multiple_of(16),
        "the CPU aligns RSP; the entry code counts from RSP0"
    );
    assert!(ENTRY_STACK_TOP < 4096, "RSP0 at the page's end would be a kernel-only address");
    assert!(offset_of!(StackPage, user_rsp) == 0, "one short displacement in the hottest path");
};

const _: () = {
    let cpu = match ringwall_core::area::EntryArea::new(0xffff_ffff_c000_0000) {
        Ok(area) => area.cpu(1),
        Err(_) => None,
    };
    let Some(cpu) = cpu else { panic!("an area at 3 GiB below the top") };
    assert!(cpu.alias() - cpu.gs_base() == ALIAS as u64, "GS reaches the alias at ALIAS");
    assert!(cpu.data() - cpu.gs_base() == DATA as u64, "GS reaches the data at DATA");
    assert!(offset_of!(StackPage, user_mapped) % 16 == 0, "user_mapped! promises this alignment");
};

/// How many words of [`KernelData`] belong to the kernel that uses the library.
pub const LOCAL_WORDS: usize = 4;

/// What the CPU's registers are told of one of the entry texts.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct WayIn {
    /// The IDT; 0 if there is no such text.
    pub idt: u64,
    /// LSTAR.
    pub syscall_entry: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_entry: u64,
    /// Where a frame on a task stack leaves from.
    pub exit_to_user: u64,
}

/// Per-CPU data that only the kernel root maps: the beginning of a page. (Were it aligned to a page, each copy that the
/// compiler makes while a CPU is added would take one of a task stack's few pages.)
#[repr(C)]
pub struct KernelData {
    /// End of the running thread's task stack.
    pub task_stack_top: u64,
    /// The CR3 value to leave with, flush bit decided.
    pub exit_cr3: u64,
    /// `extern "sysv64" fn(*mut Frame)`.
    pub syscall_handler: u64,
    /// `extern "sysv64" fn(*mut Frame)`.
    pub trap_handler: u64,
    /// `extern "sysv64" fn(*mut Frame, entered_cr3, entered_gs_base) -> u64`: not 0 to go back without IRET.
    /// Without isolation the second argument means nothing.
    pub paranoid_handler: u64,
    /// End of the entry stack under the alias: where an exit frame is written.
    pub entry_stack_alias: u64,
    /// Address of `exit_to_user` in the entry text that ring 3 enters by at present.
    pub exit_to_user: u64,
    /// Ends of the vectors' own stacks.
    pub nmi_stack: u64,
    /// End of #DB's stack.
    pub debug_stack: u64,
    /// End of #MC's stack.
    pub machine_check_stack: u64,
    /// End of #DF's stack.
    pub double_fault_stack: u64,
    /// Base of the entry text's page.
    pub text_base: u64,
    /// Set when an IST vector landed under the user root: the landing stacks want scrubbing before
    /// another address space runs.
    pub landed: u64,
    /// Bytes of each vector's own stack.
    pub stack_bytes: u64,
    /// RSP for an exit with a stack segment of the LDT, less the program's bits 16 to 31: the exit frame in this
    /// CPU's stack page, in the private slot ([`ringwall_core::private::espfix_page`]).
    pub espfix_stack: u64,
    /// The level-3 entry for the 4 GiB that page is in.
    pub espfix_group: u64,
    /// The word of the LDT that LDTR names ([`crate::ldt`]), 0 for none.
    pub ldt: u64,
    /// The GDT where it can be written: in the direct map.
    pub gdt: u64,
    /// Words of the kernel's own.
    pub local: [u64; LOCAL_WORDS],
    /// Address of `tlb`.
    pub tlb_address: u64,
    /// Address of the [`ringwall_core::tlb::Space`] that is loaded, 0 for none.
    pub loaded_space: u64,
    /// Where ways in lead with isolation, and without.
    pub ways: [WayIn; 2],
    /// As `paranoid_handler`, of the open text.
    pub open_paranoid_handler: u64,
    /// Base of the open text's page.
    pub open_text_base: u64,
    /// What this CPU's TLB may hold.
    pub tlb: CpuTlb,
    /// What this CPU has counted. Other CPUs read it.
    pub counters: counters::Words,
}

const _: () = assert!(size_of::<KernelData>() <= 4096, "one page is mapped");

/// Offset of a [`KernelData`] field from GS base.
macro_rules! data_offset {
    ($field:ident) => {
        $crate::entry::layout::DATA
            + core::mem::offset_of!($crate::entry::layout::KernelData, $field)
    };
}
pub(crate) use data_offset;

/// A word of this CPU's [`KernelData`]. Only where GS base is the kernel's: on an active CPU.
macro_rules! data_word {
    ($field:ident) => {{
        let word: u64;
        // SAFETY: the kernel's Rust runs with the kernel's GS base, from which the word is at this offset.
        unsafe {
            core::arch::asm!(
                "mov {}, gs:[{}]", out(reg) word, const $crate::entry::layout::data_offset!($field),
                options(nostack, preserves_flags, readonly),
            );
        }
        word
    }};
}
pub(crate) use data_word;

const _: () = {
    // exit_fault counts from where the CPU's aligned pushes end: 40 bytes down, aligned, 48 bytes, our two words.
    assert!(ENTRY_STACK_TOP - 112 == (ENTRY_STACK_TOP - 40) / 16 * 16 - 48 - 16);
    assert!(
        size_of::<Frame>().is_multiple_of(16),
        "a handler is called with RSP 16-aligned, at the frame"
    );
    assert!(offset_of!(Frame, ss) + 8 == size_of::<Frame>());
    assert!(offset_of!(Frame, rip) == offset_of!(Frame, vector) + 16);
    assert!(offset_of!(Frame, vector) == offset_of!(Frame, rdi) + 8);
    // return_without_iret writes over what it has read.
    assert!(offset_of!(Frame, rsp) + 8 == offset_of!(Frame, ss));
    // exit_to_user addresses the frame's end relative to RDI's slot.
    assert!(offset_of!(Frame, ss) == offset_of!(Frame, rdi) + 56);
};
