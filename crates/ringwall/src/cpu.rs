//! One CPU's pages of the entry area, and the registers that point there.
//!
//! Invariant: the pages are whole before they are mapped, and mapped before a register names them.

use crate::breaks::Break;
use crate::descriptors::{
    GDT_ENTRIES, KERNEL_CODE_SELECTOR, KERNEL_DATA_SELECTOR, TSS_OFFSET, TSS_SELECTOR,
    USER_CODE_SELECTOR, USER_DATA_SELECTOR, gdt, interrupt_stack, make_tss_available,
};
use crate::entry::layout::{
    ENTRY_STACK_TOP, EXIT_WORDS, KernelData, LOCAL_WORDS, StackPage, WayIn, landing_top,
};
use crate::entry::{self, Points, Text};
use crate::frames::Frames;
use crate::handlers::{self, Handlers};
use crate::isolation::Isolation;
use crate::setup::SetupError;
use crate::{counters, paranoid, tables};
use core::mem::offset_of;
use core::ptr::NonNull;
use ringwall_core::area::{CpuArea, Page};
use ringwall_core::private;
use ringwall_core::tlb::CpuTlb;
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr3, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{GsBase, KernelGsBase, LStar, Msr, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::registers::segmentation::{CS, DS, ES, FS, GS, SS, Segment, SegmentSelector};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::tss::TaskStateSegment;

const IA32_CSTAR: u32 = 0xc000_0083;
const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_SYSENTER_ESP: u32 = 0x175;
pub(crate) const IA32_SYSENTER_EIP: u32 = 0x176;

/// Ends of the stacks that the paranoid vectors run on: 16-aligned, kernel-only, one CPU's own, with
/// room for the handlers.
#[derive(Clone, Copy, Debug)]
pub struct Stacks {
    /// NMI.
    pub nmi: VirtAddr,
    /// #DB in ring 0.
    pub debug: VirtAddr,
    /// #MC in ring 0.
    pub machine_check: VirtAddr,
    /// #DF.
    pub double_fault: VirtAddr,
    /// Bytes of each, so that the way back knows what ran on one of them.
    pub bytes: u64,
}

/// Why a CPU cannot be made ready: a control register that the kernel has to set first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuError {
    /// CR4.LA57 is set: the tables here have four levels.
    FiveLevels,
    /// CR4.PGE is set: there may be global translations of the kernel's, which outlive the switch to a user root. The
    /// library sets it when it has use for it.
    GlobalPages,
    /// Bits 0 to 11 of CR3 are not 0: CR4.PCIDE cannot be set.
    RootFlags,
    /// EFER.NXE is clear: NX bits would be reserved bits.
    NoExecuteOff,
    /// CR0.WP is clear: read-only pages would be writable to the kernel.
    WriteProtectOff,
    /// EFER.TCE is set: INVLPG would leave upper entries behind (APM vol. 2, 3.1.7), and page tables are freed after it.
    TranslationCacheExtension,
}

impl core::fmt::Display for CpuError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            CpuError::FiveLevels => "CR4.LA57 is set; four-level paging is needed",
            CpuError::GlobalPages => "CR4.PGE is set; with isolation no kernel page may be global",
            CpuError::RootFlags => "CR3's low bits are set; PCIDs need them clear at first",
            CpuError::NoExecuteOff => "EFER.NXE is clear; NX is needed",
            CpuError::WriteProtectOff => "CR0.WP is clear; it is needed",
            CpuError::TranslationCacheExtension => {
                "EFER.TCE is set; INVLPG has to drop all upper entries"
            }
        })
    }
}

/// A CPU's part of the entry area.
#[derive(Debug)]
pub struct Cpu {
    area: CpuArea,
    isolated: bool,
    gdt: NonNull<[u64; GDT_ENTRIES]>,
    idt: u64,
    text: u64,
    points: &'static Points,
    enhanced_ibrs: bool,
    pcid: bool,
    global_pages: bool,
}

// SAFETY: the pointer is to this CPU's GDT in the direct map, valid on every CPU; only `activate`
// reads it, on the CPU it belongs to.
unsafe impl Send for Cpu {}
// SAFETY: as above.
unsafe impl Sync for Cpu {}

impl Isolation {
    /// Makes the pages of CPU `index` and maps them in both views: at boot or at any time later (CPU
    /// hot-add). The CPU itself then calls [`Cpu::activate`].
    ///
    /// `local` is what [`local_word`](crate::local_word) gives there. Ring 3's DS, ES, FS, GS selectors and its FS and GS
    /// bases are the kernel's to save and restore at a context switch: the entry code leaves them alone.
    ///
    /// # Errors
    /// [`SetupError`]; nothing is mapped then, and the call may be made again. For a CPU that was made it is
    /// [`tables::MapError::AlreadyMapped`].
    ///
    /// # Safety
    /// The stacks are as [`Stacks`] says, for as long as the CPU runs.
    pub unsafe fn make_cpu<H: Handlers>(
        &mut self,
        index: usize,
        stacks: &Stacks,
        local: [u64; LOCAL_WORDS],
        frames: &mut impl Frames,
    ) -> Result<Cpu, SetupError> {
        let area = self.area.cpu(index).ok_or(SetupError::NoSuchCpu(index))?;
        // What can fail comes first.
        self.make_room(area, frames)?;
        let [gdt_frame, data_frame, kernel_stack, user_stack] = if self.isolated {
            tables::all_zeroed(frames)?
        } else {
            let [gdt, data, stack] = tables::all_zeroed(frames)?;
            [gdt, data, stack, stack]
        };

        let descriptors = gdt(area.gdt() + TSS_OFFSET as u64, index);
        let page = tables::bytes(frames, gdt_frame);
        for (word, value) in page.chunks_exact_mut(8).zip(descriptors) {
            word.copy_from_slice(&value.to_le_bytes());
        }
        let tss: NonNull<TaskStateSegment> =
            NonNull::from(&mut page[TSS_OFFSET..][..size_of::<TaskStateSegment>()]).cast();
        // SAFETY: the bytes are inside the page, 16-aligned, and nobody else uses them yet.
        unsafe { tss.write(task_state(area)) };

        let gdt = frames.pointer(gdt_frame).cast::<[u64; GDT_ENTRIES]>();
        let espfix_group = self.add_espfix(index, user_stack, frames);
        let data: NonNull<KernelData> = frames.pointer(data_frame).cast();
        // SAFETY: the frame is ours alone and of the type's size and alignment.
        unsafe { data.write(kernel_data::<H>(self, area, stacks, (gdt, espfix_group), local)) };

        // In the kernel view an open process's exit looks at it.
        for view in [user_stack, kernel_stack] {
            tables::bytes(frames, view)[offset_of!(StackPage, kernel_selector)..][..8]
                .copy_from_slice(&u64::from(KERNEL_DATA_SELECTOR).to_le_bytes());
        }

        if Break::KernelPointer.is_on() {
            tables::bytes(frames, user_stack)[offset_of!(StackPage, user_mapped)..][..8]
                .copy_from_slice(&stacks.nmi.as_u64().wrapping_sub(64).to_le_bytes());
        }

        self.map_page(Page::Gdt, area.gdt(), gdt_frame, gdt_frame, frames)?;
        self.map_page(Page::Stack, area.stack(), kernel_stack, user_stack, frames)?;
        self.map_page(Page::Alias, area.alias(), user_stack, user_stack, frames)?;
        self.map_page(Page::Data, area.data(), data_frame, data_frame, frames)?;
        Ok(Cpu {
            area,
            isolated: self.isolated,
            gdt,
            idt: self.area.idt(),
            text: self.area.text(),
            points: self.text.points(),
            enhanced_ibrs: self.enhanced_ibrs,
            pcid: self.tlb.pcid,
            global_pages: self.global_pages(),
        })
    }
}

fn task_state(area: CpuArea) -> TaskStateSegment {
    let at = |offset: usize| VirtAddr::new(area.stack() + offset as u64);
    let landing = |vector| match vector {
        1 => at(landing_top(offset_of!(StackPage, debug_landing))),
        2 => at(landing_top(offset_of!(StackPage, nmi_landing))),
        18 => at(landing_top(offset_of!(StackPage, machine_check_landing))),
        _ => at(landing_top(offset_of!(StackPage, double_fault_landing))),
    };
    let mut tss = TaskStateSegment::new();
    tss.privilege_stack_table[0] = at(ENTRY_STACK_TOP);
    for vector in [1, 2, 8, 18] {
        if let Some(stack) = interrupt_stack(vector) {
            tss.interrupt_stack_table[usize::from(stack) - 1] = landing(vector);
        }
    }
    tss
}

fn ways(isolation: &Isolation) -> [WayIn; 2] {
    let way = |text: &Text, base: u64, idt| WayIn {
        idt,
        syscall_entry: base + u64::from(text.points().syscall_entry),
        sysenter_entry: base + u64::from(text.points().sysenter_entry),
        exit_to_user: base + u64::from(text.points().exit_to_user),
    };
    let area = isolation.area;
    let open = isolation.open_text.as_ref();
    [
        way(&isolation.text, area.text(), area.idt()),
        open.map_or_else(WayIn::default, |text| way(text, area.open_text(), area.open_idt())),
    ]
}

fn kernel_data<H: Handlers>(
    isolation: &Isolation,
    area: CpuArea,
    stacks: &Stacks,
    (gdt, espfix_group): (NonNull<[u64; GDT_ENTRIES]>, u64),
    local: [u64; LOCAL_WORDS],
) -> KernelData {
    let text = isolation.area.text();
    KernelData {
        task_stack_top: 0,
        exit_cr3: 0,
        syscall_handler: handlers::syscall::<H> as *const () as u64,
        trap_handler: handlers::trap::<H> as *const () as u64,
        paranoid_handler: match isolation.isolated {
            true if isolation.tlb.pcid => paranoid::pcid::<H> as *const () as u64,
            true => paranoid::isolated::<H> as *const () as u64,
            false => paranoid::plain::<H> as *const () as u64,
        },
        entry_stack_alias: area.alias() + ENTRY_STACK_TOP as u64,
        exit_to_user: text + u64::from(isolation.text.points().exit_to_user),
        nmi_stack: stacks.nmi.as_u64(),
        debug_stack: stacks.debug.as_u64(),
        machine_check_stack: stacks.machine_check.as_u64(),
        double_fault_stack: stacks.double_fault.as_u64(),
        text_base: text,
        landed: 0,
        stack_bytes: stacks.bytes,
        espfix_stack: private::espfix_page(
            isolation.private_slot,
            isolation.private_random,
            area.index(),
        ) + (ENTRY_STACK_TOP - EXIT_WORDS * 8) as u64,
        espfix_group,
        ldt: 0,
        gdt: gdt.addr().get() as u64,
        local,
        tlb_address: area.data() + offset_of!(KernelData, tlb) as u64,
        loaded_space: 0,
        ways: ways(isolation),
        open_paranoid_handler: paranoid::open::<H> as *const () as u64,
        open_text_base: isolation.area.open_text(),
        tlb: CpuTlb::new(area.index(), isolation.tlb),
        counters: counters::Words::new(),
    }
}

impl Cpu {
    /// Points this CPU's registers at its part of the entry area: GDT, TSS, IDT, GS base, SYSCALL. All
    /// other segment registers and bases become 0.
    ///
    /// # Errors
    /// [`CpuError`] if a control register is set so that isolation cannot hold; nothing is changed then.
    ///
    /// # Safety
    /// Runs on the CPU that this is for, once after its reset, in ring 0, interrupts off, under a root whose kernel half
    /// is the one given to [`Isolation::new`] and whose address is a multiple of 8 KiB. Nothing else
    /// uses GS.
    ///
    /// A CPU that was slow to come up may be reset by INIT and activated again, if it has not loaded an address space
    /// since the first time: INIT clears its TLB and its control registers, and nothing else of this CPU's has changed.
    pub unsafe fn activate(&self) -> Result<(), CpuError> {
        self.check_control_registers()?;
        let limit = (GDT_ENTRIES * 8 - 1) as u16;
        let writable =
            DescriptorTablePointer { limit, base: VirtAddr::from_ptr(self.gdt.as_ptr()) };
        let visible = DescriptorTablePointer { limit, base: VirtAddr::new(self.area.gdt()) };
        let gates = DescriptorTablePointer { limit: 4095, base: VirtAddr::new(self.idt) };
        let selector = SegmentSelector;
        // SAFETY: this CPU's own, in the direct map, and no reference to it is anywhere; by the contract TR does not hold
        // its TSS.
        make_tss_available(unsafe { &mut *self.gdt.as_ptr() });
        // LTR sets the busy bit, so the descriptor has to be writable at that moment.
        // SAFETY: the table is whole, has its accessed bits set, and stays.
        unsafe { x86_64::instructions::tables::lgdt(&writable) };
        // SAFETY: the descriptor is an available TSS's.
        unsafe { x86_64::instructions::tables::load_tss(selector(TSS_SELECTOR)) };
        // After a reset LDTR names a table of 64 KiB at address 0, where ring 3 could put a call gate.
        // SAFETY: the null selector: no LDT, so every selector of one is #GP.
        unsafe { core::arch::asm!("lldt {:x}", in(reg) 0u16, options(nostack, preserves_flags)) };
        // SAFETY: the same table, read-only, mapped in both views.
        unsafe { x86_64::instructions::tables::lgdt(&visible) };
        // SAFETY: a 64-bit ring-0 code segment.
        unsafe { CS::set_reg(selector(KERNEL_CODE_SELECTOR)) };
        // SAFETY: a ring-0 data segment.
        unsafe { SS::set_reg(selector(KERNEL_DATA_SELECTOR)) };
        for set in [DS::set_reg, ES::set_reg, FS::set_reg, GS::set_reg] {
            // SAFETY: null is allowed in these in 64-bit mode; the bases that matter are set below.
            unsafe { set(selector(0)) };
        }
        GsBase::write(VirtAddr::new(self.area.gs_base()));
        KernelGsBase::write(VirtAddr::new(0));
        if self.pcid {
            // SAFETY: the CPU has PCIDs by `Setup::pcid`'s promise; CR3 holds PCID 0 (SDM vol. 3, 4.10.1).
            unsafe { Cr4::update(|control| control.insert(Cr4Flags::PCID)) };
        }
        if self.global_pages {
            // SAFETY: every CPU with long mode has global pages; the kernel has none of its own by the contract of
            // `Isolation::new`, and those of the entry area are the same under every root.
            unsafe { Cr4::update(|control| control.insert(Cr4Flags::PAGE_GLOBAL)) };
        }
        // Now, so that an event finds selectors in its frame that it can return to; and with PCID not before, because
        // the paranoid entries set a bit of CR3 that is reserved without (SDM vol. 2, MOV to CR).
        // SAFETY: the gates lead to the entry text, their stacks are the TSS's.
        unsafe { x86_64::instructions::tables::lidt(&gates) };
        self.set_syscall();
        if self.enhanced_ibrs {
            // SAFETY: the CPU says that it has the bit (IA32_ARCH_CAPABILITIES.IBRS_ALL).
            unsafe { Msr::new(entry::MSR_SPEC_CTRL).write(entry::SPEC_CTRL_IBRS.into()) };
        }
        Ok(())
    }

    fn check_control_registers(&self) -> Result<(), CpuError> {
        let control = Cr4::read();
        if control.contains(Cr4Flags::L5_PAGING) {
            return Err(CpuError::FiveLevels);
        }
        if self.isolated && control.contains(Cr4Flags::PAGE_GLOBAL) {
            return Err(CpuError::GlobalPages);
        }
        if self.pcid && Cr3::read_raw().1 != 0 {
            return Err(CpuError::RootFlags);
        }
        if !Efer::read().contains(EferFlags::NO_EXECUTE_ENABLE) {
            return Err(CpuError::NoExecuteOff);
        }
        if !Cr0::read().contains(Cr0Flags::WRITE_PROTECT) {
            return Err(CpuError::WriteProtectOff);
        }
        if Efer::read().contains(EferFlags::TRANSLATION_CACHE_EXTENSION) {
            return Err(CpuError::TranslationCacheExtension);
        }
        Ok(())
    }

    fn set_syscall(&self) {
        let selector = SegmentSelector;
        let set = Star::write(
            selector(USER_CODE_SELECTOR),
            selector(USER_DATA_SELECTOR),
            selector(KERNEL_CODE_SELECTOR),
            selector(KERNEL_DATA_SELECTOR),
        );
        assert!(set.is_ok(), "the GDT's order is not what SYSCALL needs");
        let at = |offset: u16| self.text + u64::from(offset);
        LStar::write(VirtAddr::new(at(self.points.syscall_entry)));
        // SYSCALL from 32-bit code exists on AMD alone (APM vol. 3, SYSCALL), SYSENTER in 64-bit mode on Intel
        // alone (SDM vol. 2, SYSENTER). Neither is a call here, and neither may run into nothing.
        for (register, value) in [
            (IA32_CSTAR, at(self.points.syscall_compatibility_entry)),
            (IA32_SYSENTER_CS, KERNEL_CODE_SELECTOR.into()),
            (IA32_SYSENTER_ESP, self.area.stack() + ENTRY_STACK_TOP as u64),
            (IA32_SYSENTER_EIP, at(self.points.sysenter_entry)),
        ] {
            // SAFETY: addresses in the entry area of stubs that expect just this state.
            unsafe { Msr::new(register).write(value) };
        }
        SFMask::write(
            RFlags::INTERRUPT_FLAG
                | RFlags::TRAP_FLAG
                | RFlags::DIRECTION_FLAG
                | RFlags::ALIGNMENT_CHECK
                | RFlags::NESTED_TASK
                | RFlags::IOPL_HIGH
                | RFlags::IOPL_LOW
                | RFlags::RESUME_FLAG,
        );
        // SAFETY: LSTAR, STAR and the mask are set.
        unsafe { Efer::update(|efer| efer.insert(EferFlags::SYSTEM_CALL_EXTENSIONS)) };
    }

    /// This CPU's addresses in the entry area.
    pub fn area(&self) -> CpuArea {
        self.area
    }

    /// Base of the entry text's page.
    pub fn text(&self) -> u64 {
        self.text
    }
}
