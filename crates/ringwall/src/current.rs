//! What only the running CPU does: the words of its kernel-only data, the switch to another address
//! space, the way out to a program.
//!
//! Invariant: the words that decide what the next exit loads (task stack, CR3) are written here alone,
//! with interrupts off, by the CPU that they belong to.

use crate::address_space::AddressSpace;
use crate::cpu::IA32_SYSENTER_EIP;
use crate::descriptors::{self, LDT_SELECTOR, THREAD_ENTRIES, THREAD_ENTRY, slot};
use crate::entry::layout::{
    ENTRY_STACK_TOP, EXIT_WORDS, KernelData, LANDED_WORDS, LOCAL_WORDS, Landing, StackPage, WayIn,
    data_offset, data_word, landing_top,
};
use crate::flush::{self, ThisCpu};
use crate::frame::Frame;
use crate::ldt;
use core::mem::offset_of;
use ringwall_core::segment::Descriptor;
use ringwall_core::tlb::CpuTlb;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, Msr};
use x86_64::structures::DescriptorTablePointer;

/// A word of the kernel's own on this CPU, as [`make_cpu`](crate::Isolation::make_cpu) or [`set_local_word`] set it: one
/// instruction.
///
/// # Safety
/// On an active CPU: before [`Cpu::activate`](crate::Cpu::activate) GS base is anything.
#[inline(always)]
pub unsafe fn local_word<const N: usize>() -> u64 {
    const { assert!(N < LOCAL_WORDS) };
    let word;
    // SAFETY: GS base is this CPU's stack page after `activate`; the word is in its kernel-only data.
    unsafe {
        core::arch::asm!(
            "mov {word}, gs:[{offset}]",
            word = out(reg) word,
            offset = const data_offset!(local) + N * 8,
            options(nostack, preserves_flags, readonly),
        );
    }
    word
}

/// Changes a word of the kernel's own on this CPU.
///
/// # Safety
/// On an active CPU.
#[inline(always)]
pub unsafe fn set_local_word<const N: usize>(word: u64) {
    const { assert!(N < LOCAL_WORDS) };
    // SAFETY: as in `local_word`; nothing but `local_word` reads it.
    unsafe {
        core::arch::asm!(
            "mov gs:[{offset}], {word}",
            word = in(reg) word,
            offset = const data_offset!(local) + N * 8,
            options(nostack, preserves_flags),
        );
    }
}

/// Makes `space` the address space of this CPU: loads its kernel root now, its user root on the next
/// exit; and `stack_top` the end of the task stack that the next entry uses. With the address space
/// that is loaded already, it writes no CR3.
///
/// # Safety
/// On an active CPU, interrupts off. `space` stays, and stays where it is, until this CPU has switched to another one.
/// `stack_top` is the 16-aligned end of a mapped kernel stack that the thread to run owns. The present stack is mapped
/// under `space` too.
#[inline]
pub unsafe fn switch_to(space: &AddressSpace, stack_top: VirtAddr) {
    // SAFETY: by this function's contract.
    unsafe { set_task_stack(stack_top) };
    // SAFETY: by this function's contract.
    let tlb = unsafe { flush::cpu_tlb() };
    if !tlb.is_loaded(&space.tlb) {
        // SAFETY: by this function's contract.
        unsafe { load(tlb, space) };
    } else if !tlb.is_current(&space.tlb) {
        tlb.wake(&space.tlb, space.roots(), &mut ThisCpu);
    }
}

/// [`switch_to`] an address space that is not loaded.
///
/// # Safety
/// As there.
unsafe fn load(tlb: &mut CpuTlb, space: &AddressSpace) {
    // SAFETY: by this function's contract.
    let previous = unsafe { flush::replace_loaded(&space.tlb) };
    tlb.load(&space.tlb, space.roots(), previous, &mut ThisCpu);
    forget_last_exits();
    let ldt = space.private().word();
    if data_word!(landed) | data_word!(ldt) | ldt != 0 {
        change_more(space, ldt);
    }
}

/// What hardly any switch has to do: forgets the last program's events, and loads the LDT that `word` stands for.
#[cold]
#[inline(never)]
fn change_more(space: &AddressSpace, word: u64) {
    forget_last_events();
    if word | data_word!(ldt) != 0 {
        load_ldt(space, word);
    }
}

/// Makes this CPU load `other`, if it has `space` in CR3: when `space` ends, and no thread of it is to run any more. CPUs that
/// idle are made to do so by an inter-processor interrupt. The task stack stays.
///
/// # Safety
/// As [`switch_to`] for `other`. Nothing that runs on this CPU touches user memory of `space` any more.
pub unsafe fn leave(space: &AddressSpace, other: &AddressSpace) {
    // SAFETY: by this function's contract.
    let tlb = unsafe { flush::cpu_tlb() };
    if tlb.is_loaded(&space.tlb) {
        // SAFETY: by this function's contract.
        unsafe { load(tlb, other) };
    }
}

/// Makes this CPU use the LDT that `space` has now, if it runs `space`; for after
/// [`AddressSpace::set_ldt`], on every CPU that may. What segment registers hold stays as it was loaded.
///
/// # Safety
/// On an active CPU, interrupts off.
pub unsafe fn reload_ldt(space: &AddressSpace) {
    // SAFETY: by this function's contract.
    if unsafe { flush::cpu_tlb() }.is_loaded(&space.tlb) {
        load_ldt(space, space.private().word());
    }
}

/// Loads LDTR with the LDT that `word` stands for, or with none. `space` is loaded.
#[cold]
#[inline(never)]
fn load_ldt(space: &AddressSpace, word: u64) {
    // SAFETY: a word of this CPU's kernel-only data.
    unsafe {
        core::arch::asm!(
            "mov gs:[{ldt}], {word}", word = in(reg) word, ldt = const data_offset!(ldt),
            options(nostack, preserves_flags),
        );
    }
    let (mut selector, mut descriptor) = (0, [0; 2]);
    if word != 0 {
        // This CPU may have come up after the slot was made. Another one may store the same.
        space.private().show_stack_pages(data_word!(espfix_stack), data_word!(espfix_group));
        let (base, entries) = ldt::from_word(word);
        (selector, descriptor) = (LDT_SELECTOR, descriptors::ldt(base, entries));
    }
    let table = data_word!(gdt);
    // Written without an LDT too: the next program must not find in the GDT what the last one had.
    for (number, half) in descriptor.into_iter().enumerate() {
        let entry = (table as *mut u64).wrapping_add(slot(LDT_SELECTOR) + number);
        // SAFETY: this CPU's GDT in the direct map. The CPU reads these two words in LLDT alone.
        unsafe { entry.write_volatile(half) };
    }
    // SAFETY: null, or a present LDT descriptor; its table is mapped under both roots of `space`.
    unsafe {
        core::arch::asm!("lldt {:x}", in(reg) selector, options(nostack, preserves_flags));
    }
}

/// Sets the GDT entries that belong to the running thread. What segment registers hold stays as it was
/// loaded.
///
/// # Safety
/// On an active CPU, interrupts off.
pub unsafe fn set_thread_segments(segments: &[Descriptor; THREAD_ENTRIES]) {
    let table = data_word!(gdt);
    for (number, segment) in segments.iter().enumerate() {
        let entry = (table as *mut u64).wrapping_add(THREAD_ENTRY + number);
        // SAFETY: this CPU's GDT in the direct map; an aligned word, so the CPU never reads half of it.
        unsafe { entry.write_volatile(segment.bits()) };
    }
}

/// Sets the end of the task stack.
///
/// # Safety
/// As [`switch_to`].
#[inline]
unsafe fn set_task_stack(stack_top: VirtAddr) {
    // SAFETY: a word of this CPU's kernel-only data; the entry code alone reads it.
    unsafe {
        core::arch::asm!(
            "mov gs:[{word}], {top}",
            top = in(reg) stack_top.as_u64(),
            word = const data_offset!(task_stack_top),
            options(nostack, preserves_flags),
        );
    }
}

/// Clears what the last program's exits left in the stack page's user view: registers of its own, which the next program
/// must not find.
#[inline(always)]
fn forget_last_exits() {
    clear_below(data_word!(entry_stack_alias), EXIT_WORDS);
}

/// [`forget_last_exits`] for NMIs and the like, if there were any.
fn forget_last_events() {
    let landed: u64;
    // SAFETY: a word of this CPU's kernel-only data. An NMI between the two instructions lands in the
    // kernel view, and sets nothing.
    unsafe {
        core::arch::asm!(
            "mov {landed}, gs:[{word}]",
            "mov qword ptr gs:[{word}], 0",
            landed = out(reg) landed,
            word = const data_offset!(landed),
            options(nostack, preserves_flags),
        );
    }
    if landed != 0 {
        let alias = data_word!(entry_stack_alias) - ENTRY_STACK_TOP as u64;
        for start in [
            offset_of!(StackPage, nmi_landing),
            offset_of!(StackPage, debug_landing),
            offset_of!(StackPage, machine_check_landing),
            offset_of!(StackPage, double_fault_landing),
        ] {
            clear_below(alias + landing_top(start) as u64, LANDED_WORDS);
        }
    }
}

const _: () = assert!(LANDED_WORDS * 8 <= size_of::<Landing>());

#[inline(always)]
fn clear_below(end: u64, words: usize) {
    for index in 1..=words as u64 {
        let word = (end - index * 8) as *mut u64;
        // SAFETY: a word of the user view's stack page under its alias, which only the entry code
        // reads, and not before the next exit.
        unsafe { word.write_volatile(0) };
    }
}

/// How ring 3 enters the kernel, and what it runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Under the user root: each way in and out switches roots.
    Isolated,
    /// Under the kernel root, without a switch: the address space is open ([`AddressSpace::open`]).
    Open,
}

/// Makes this CPU's ways in and out those of `way`, for the thread that runs or is switched to: IDT, LSTAR,
/// IA32_SYSENTER_EIP, and where [`return_to_user`] leaves by.
///
/// # Panics
/// For [`Way::Open`] if [`Isolation::switchable`](crate::Isolation::switchable) says no.
///
/// # Safety
/// On an active CPU, interrupts off. From here to the next call of this, whatever goes to ring 3 on this CPU came in by
/// `way`, or leaves by [`return_to_user`]. With [`Way::Open`] its address space is open.
pub unsafe fn set_way(way: Way) {
    let ways = data_word!(tlb_address) as usize - offset_of!(KernelData, tlb)
        + offset_of!(KernelData, ways);
    let number = usize::from(way == Way::Open);
    let way = (ways as *const WayIn).wrapping_add(number);
    // SAFETY: in this CPU's kernel-only data, where nothing writes after it was made.
    let way = unsafe { way.read() };
    assert!(way.idt != 0, "this kernel has no open entry text");
    // Under the kernel root both IDTs' gates are right, so an event may come between any two of these.
    let gates = DescriptorTablePointer { limit: 4095, base: VirtAddr::new(way.idt) };
    // SAFETY: a whole IDT, mapped wherever `way` is used; its stacks are the same TSS's.
    unsafe { x86_64::instructions::tables::lidt(&gates) };
    LStar::write(VirtAddr::new(way.syscall_entry));
    // SAFETY: the stub of the same text, which expects just what that of the other one does.
    unsafe { Msr::new(IA32_SYSENTER_EIP).write(way.sysenter_entry) };
    // SAFETY: a word of this CPU's kernel-only data, which `return_to_user` jumps to.
    unsafe {
        core::arch::asm!(
            "mov gs:[{word}], {exit}",
            exit = in(reg) way.exit_to_user,
            word = const data_offset!(exit_to_user),
            options(nostack, preserves_flags),
        );
    }
}

/// Serves a system call on a frame, as [`crate::Handlers::syscall`] does.
pub type SyscallHandler = extern "sysv64" fn(&mut Frame);

/// Makes this CPU call `handler` for SYSCALL from now on, in the place of [`crate::Handlers::syscall`]: for
/// threads whose calls need more than others', so that the others' pay nothing for it.
///
/// # Safety
/// On an active CPU.
pub unsafe fn set_syscall_handler(handler: SyscallHandler) {
    // SAFETY: a word of this CPU's kernel-only data; the entry code alone reads it, and passes the frame
    // that it built on this thread's task stack, which nothing else refers to until the call has ended.
    unsafe {
        core::arch::asm!(
            "mov gs:[{word}], {handler}",
            handler = in(reg) handler as *const () as u64,
            word = const data_offset!(syscall_handler),
            options(nostack, preserves_flags),
        );
    }
}

/// Runs the program in `frame`: the way out, from wherever the kernel is.
///
/// # Safety
/// On an active CPU, after [`switch_to`] its address space, interrupts off. Nothing on the present
/// stack is needed any more.
pub unsafe fn return_to_user(frame: &mut Frame) -> ! {
    // SAFETY: the entry code's contract for exit_to_user: RSP = frame, kernel root and GS, IF clear.
    unsafe {
        core::arch::asm!(
            "mov rsp, {frame}",
            "jmp qword ptr gs:[{exit_to_user}]",
            frame = in(reg) frame,
            exit_to_user = const data_offset!(exit_to_user),
            options(noreturn),
        );
    }
}
