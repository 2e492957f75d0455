//! Obligations to flush: a change that leaves stale translations behind returns one of these; and the instructions
//! that flush.
//!
//! Invariant: [`ringwall_core::tlb`] decides what is flushed; here it is done, on the running CPU.

use crate::address_space::AddressSpace;
use crate::counters;
use crate::entry::layout::{data_offset, data_word};
use ringwall_core::shared::SharedRange;
use ringwall_core::tlb::{Change, CpuTlb, Event, Hardware, Pages, Space};
use x86_64::VirtAddr;
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr4, Cr4Flags};

/// Translations of an address space that were taken out of its page tables and may still be cached. Every CPU of
/// [`Shootdown::targets`] has to flush them before what they lead to is used for anything else.
///
/// # Panics
/// When it is dropped without [`Shootdown::done`].
#[must_use = "the old translations stay usable until every target has flushed"]
#[derive(Debug)]
pub struct Shootdown<'a> {
    space: &'a AddressSpace,
    change: Change,
    met: bool,
}

impl AddressSpace {
    /// Says that the translations of `pages` were changed, by stores that came before. Something new where nothing
    /// was, or more rights than before, needs none of this: the CPU drops what it knows of an address when that
    /// faults (SDM vol. 3, 4.10.4.3).
    ///
    /// Where another page is to be (copy on write), the entry is emptied before, and set when all targets have flushed: or
    /// one CPU stores to the new page while another still loads from the old.
    pub fn retire(&self, pages: Pages) -> Shootdown<'_> {
        Shootdown { space: self, change: self.tlb.retire(pages), met: false }
    }

    /// Indices of the CPUs that have it in CR3, as of now.
    pub fn loaded(&self) -> impl Iterator<Item = usize> {
        self.tlb.loaded().iter()
    }
}

impl Shootdown<'_> {
    /// What each target passes to [`flush`].
    pub fn change(&self) -> Change {
        self.change
    }

    /// Indices of the CPUs that have to flush. A CPU that loads the address space later sees to itself.
    pub fn targets(&self) -> impl Iterator<Item = usize> {
        self.space.tlb.targets(&self.change)
    }

    /// Whether another CPU than this one may have to flush.
    ///
    /// # Safety
    /// On an active CPU, interrupts off.
    #[inline]
    pub unsafe fn concerns_others(&self) -> bool {
        // SAFETY: by this function's contract.
        self.space.tlb.is_loaded_elsewhere(unsafe { cpu_tlb() }.cpu())
    }

    /// Flushes on this CPU, if it has to.
    ///
    /// # Safety
    /// On an active CPU, interrupts off.
    pub unsafe fn flush_here(&self) {
        // SAFETY: by this function's contract.
        unsafe { flush(&self.change, self.space) };
    }

    /// Every target has flushed.
    pub fn done(mut self) {
        self.met = true;
    }
}

impl Drop for Shootdown<'_> {
    fn drop(&mut self) {
        assert!(self.met, "stale translations were left behind: {:?}", self.change);
    }
}

/// Flushes what this CPU knows of a change of `space`: what an inter-processor interrupt asks for.
///
/// # Safety
/// On an active CPU, interrupts off. `change` is one of `space`.
pub unsafe fn flush(change: &Change, space: &AddressSpace) {
    // SAFETY: by this function's contract.
    unsafe { cpu_tlb() }.flush(change, &space.tlb, space.roots(), &mut ThisCpu);
}

/// This CPU keeps the address space that it has in CR3, but will not touch its user half before the next
/// [`crate::switch_to`]: an idle CPU. Until then it is told of no change but those that free page tables.
///
/// # Safety
/// On an active CPU, interrupts off.
pub unsafe fn rest() {
    let loaded = data_word!(loaded_space) as *const Space;
    // SAFETY: null, or what `replace_loaded` put there, which stays by its contract.
    if let Some(space) = unsafe { loaded.as_ref() } {
        // SAFETY: by this function's contract.
        unsafe { cpu_tlb() }.rest(space);
    }
}

/// What this CPU's TLB may hold, and what was flushed so far.
///
/// # Safety
/// On an active CPU, interrupts off; the reference is not kept while anything else of this module runs.
pub(crate) unsafe fn cpu_tlb() -> &'static mut CpuTlb {
    let address = data_word!(tlb_address) as *mut CpuTlb;
    // SAFETY: the `CpuTlb` in this CPU's kernel-only data, which stays; by this function's contract nothing else
    // refers to it.
    unsafe { &mut *address }
}

/// The address space that this CPU has in CR3, and from now on `space` instead.
///
/// # Safety
/// On an active CPU, interrupts off. `space` stays where it is for as long as it is loaded.
pub(crate) unsafe fn replace_loaded(space: &Space) -> Option<&'static Space> {
    let previous: *const Space;
    // SAFETY: a word of this CPU's kernel-only data, used here alone.
    unsafe {
        core::arch::asm!(
            "mov {previous}, gs:[{word}]",
            "mov gs:[{word}], {space}",
            previous = out(reg) previous,
            space = in(reg) space,
            word = const data_offset!(loaded_space),
            options(nostack, preserves_flags),
        );
    }
    // SAFETY: null, or what an earlier call put there, which stays by that call's contract.
    unsafe { previous.as_ref() }
}

/// A shared range's translations may still be cached, under any user root, on any CPU: each has to flush them
/// ([`flush_kernel`]).
///
/// # Panics
/// When it is dropped without [`FlushShared::done`].
#[must_use = "the range stays readable until every CPU has flushed it"]
#[derive(Debug)]
pub struct FlushShared {
    range: SharedRange,
    met: bool,
}

impl FlushShared {
    pub(crate) fn new(range: SharedRange) -> FlushShared {
        FlushShared { range, met: false }
    }

    /// What each CPU passes to [`flush_kernel`].
    pub fn pages(&self) -> Pages {
        let mut pages = Pages::NONE;
        self.range.pages().for_each(|address| pages.add(address));
        pages
    }

    /// Every CPU has flushed.
    pub fn done(mut self) {
        self.met = true;
    }
}

impl Drop for FlushShared {
    fn drop(&mut self) {
        assert!(self.met, "what was shared is still readable: {}", self.range);
    }
}

/// Flushes pages of the kernel half, of which every CPU may have translations under every address space.
///
/// # Safety
/// On an active CPU, interrupts off.
pub unsafe fn flush_kernel(pages: &Pages) {
    // SAFETY: by this function's contract.
    unsafe { cpu_tlb() }.flush_kernel(pages, &mut ThisCpu);
}

/// The instructions, on the running CPU.
pub(crate) struct ThisCpu;

impl Hardware for ThisCpu {
    fn write_cr3(&mut self, cr3: u64) {
        // SAFETY: the planner makes the value from a pair of roots of the library's, whose kernel half is the same
        // in all, with a PCID only if CR4.PCIDE is set.
        unsafe { core::arch::asm!("mov cr3, {}", in(reg) cr3, options(nostack, preserves_flags)) };
    }

    fn flush_page(&mut self, address: u64) {
        tlb::flush(VirtAddr::new_truncate(address));
    }

    fn flush_page_of(&mut self, pcid: u16, address: u64) {
        invalidate(0, [pcid.into(), address]);
    }

    fn flush_all(&mut self) {
        // Any change of CR4.PGE flushes every PCID, global translations too (SDM vol. 3, 4.10.4.1).
        let control = Cr4::read();
        // SAFETY: global pages are used or not; that they are for two instructions changes nothing.
        unsafe { Cr4::write(control ^ Cr4Flags::PAGE_GLOBAL) };
        // SAFETY: as it was.
        unsafe { Cr4::write(control) };
    }

    fn exit_cr3(&self) -> u64 {
        data_word!(exit_cr3)
    }

    #[inline(always)]
    fn count(&mut self, event: Event) {
        counters::count(event);
    }

    fn set_exit_cr3(&mut self, cr3: u64) {
        // SAFETY: a word of this CPU's kernel-only data, which the exit loads; interrupts are off.
        unsafe {
            core::arch::asm!(
                "mov gs:[{word}], {cr3}",
                cr3 = in(reg) cr3,
                word = const data_offset!(exit_cr3),
                options(nostack, preserves_flags),
            );
        }
    }
}

/// INVPCID (SDM vol. 2).
fn invalidate(kind: u64, descriptor: [u64; 2]) {
    // SAFETY: the planner asks for it only if the kernel says that the CPU has it. It drops translations, no more.
    unsafe {
        core::arch::asm!(
            "invpcid {kind}, [{descriptor}]",
            kind = in(reg) kind,
            descriptor = in(reg) &descriptor,
            options(nostack, preserves_flags, readonly),
        );
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
