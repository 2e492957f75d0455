//! The one place that flushes the TLB for programs' memory.
//!
//! A change that takes rights away leaves [`Stale`] translations; what they lead to is freed after
//! the flush, never before. The flush cannot be forgotten: it is in the value's `Drop`, and the library's own
//! [`Shootdown`](ringwall::Shootdown) does not let go without it.
//!
//! Other CPUs are asked by [`cross::call`], which waits for them, so every lock that the caller holds is waited for
//! by loops that answer. The address space's own lock is one: it keeps two changes of one address space apart.
//!
//! The kernel runs under the kernel root with the program's memory in its user half, so its own
//! copies leave translations in the TLB too. Which half of which PCID has to be flushed, on which CPU, the library
//! knows. A table taken away is covered as well: INVLPG drops all paging-structure caches, whatever
//! its address (SDM vol. 3, 4.10.4.1).
//!
//! More rights, or something where nothing was, need no flush: the CPU drops what it knows of an
//! address when that faults (SDM vol. 3, 4.10.4.3).

use super::page::{PAGE, Page};
use super::roots;
use super::table::Entry;
use crate::arch::cpu;
use crate::breaks::Break;
use crate::sync::cross;
use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::Ordering::{Relaxed, Release};
use ringwall::core::tlb::Pages;
use ringwall::{AddressSpace, Shootdown};

/// Frames kept until one flush.
const BATCH: usize = 64;
const UNSET: [MaybeUninit<u64>; BATCH] = [const { MaybeUninit::uninit() }; BATCH];

/// Flushes translations of `pages` that were changed, wherever they may be cached; returns when they are nowhere.
#[inline]
pub(super) fn retire(roots: &AddressSpace, pages: Pages) {
    if pages.is_empty() {
        return;
    }
    let shootdown = roots.retire(pages);
    // SAFETY: interrupts are off in the kernel.
    if unsafe { shootdown.concerns_others() } && !Break::ShootdownHere.is_on() {
        flush_everywhere(&shootdown, roots);
    } else {
        // SAFETY: interrupts are off in the kernel.
        unsafe { shootdown.flush_here() };
    }
    shootdown.done();
}

#[cold]
#[inline(never)]
fn flush_everywhere(shootdown: &Shootdown<'_>, roots: &AddressSpace) {
    let change = shootdown.change();
    let here = cpu::index();
    cross::call(shootdown.targets(), &|| {
        if Break::EmptyAnswer.is_on() && cpu::index() != here {
            return;
        }
        // SAFETY: interrupts are off in the kernel; the caller's memory stays until all have answered.
        unsafe { ringwall::flush(&change, roots) };
    });
}

/// Flushes pages of the kernel half on all CPUs.
pub(super) fn retire_kernel(pages: Pages) {
    cross::call(cpu::online().iter(), &|| {
        // SAFETY: interrupts are off in the kernel.
        unsafe { ringwall::flush_kernel(&pages) };
    });
}

/// Makes every CPU that still has `roots` in CR3 load the empty address space instead: idle CPUs, and those whose last
/// thread of the process is about to end.
pub(super) fn evict(roots: &AddressSpace) {
    let nowhere = roots::nowhere();
    cross::call(roots.loaded(), &|| {
        // SAFETY: interrupts are off in the kernel. The empty one stays for ever; no thread that is to touch memory
        // of `roots` again is left, because its last handle is being dropped.
        unsafe { ringwall::leave(roots, nowhere) };
    });
}

/// Serves what other CPUs ask of this one.
pub fn serve_requests() {
    cross::serve();
}

/// Puts another page, `new`, where one is: into `slot`, the leaf of `address`.
///
/// The leaf is empty until all have forgotten the old page. Were the new one there at once, a CPU that knew of neither
/// could store to it, and say so, while another still loads from the old one.
#[inline]
pub(super) fn replace(roots: &AddressSpace, address: u64, slot: &Entry, new: u64) {
    let mut pages = Pages::NONE;
    pages.add(address);
    if Break::NewFirst.is_on() {
        slot.store(new, Release);
        let start = cpu::nanoseconds();
        while roots.loaded().nth(1).is_some() && cpu::nanoseconds() - start < 2_000_000 {}
    } else {
        slot.store(0, Relaxed);
    }
    retire(roots, pages);
    // Release: the CPU may use it at once, and must find it filled.
    slot.store(new, Release);
}

/// Translations that were taken away or weakened, and the frames they lead to.
#[must_use = "the old translations stay usable until this is dropped"]
pub(super) struct Stale<'a> {
    /// `None` if no CPU will ever run on it again.
    roots: Option<&'a AddressSpace>,
    pages: Pages,
    /// The first `count` are set.
    frames: [MaybeUninit<u64>; BATCH],
    count: usize,
}

impl<'a> Stale<'a> {
    /// Nothing stale yet in `roots`.
    pub(super) fn new(roots: &'a AddressSpace) -> Stale<'a> {
        Stale { roots: Some(roots), pages: Pages::NONE, frames: UNSET, count: 0 }
    }

    /// What [`Stale::new`] is, unless the deliberate break makes it flush `range` now and never again.
    #[inline(always)]
    pub(super) fn of_unmap(roots: &'a AddressSpace, range: &Range<u64>) -> Stale<'a> {
        if Break::FlushBeforeUnmap.is_on() {
            let mut pages = Pages::NONE;
            pages.add(range.start);
            pages.add(range.end - PAGE);
            retire(roots, pages);
            return Stale::of_none();
        }
        Stale::new(roots)
    }

    /// For page tables that no CPU has loaded or will load: nothing is stale, frames are freed at once.
    pub(super) fn of_none() -> Stale<'static> {
        Stale { roots: None, pages: Pages::NONE, frames: UNSET, count: 0 }
    }

    /// The page at `address` has fewer rights now.
    #[inline(always)]
    pub(super) fn touch(&mut self, address: u64) {
        self.pages.add(address);
    }

    /// The entry for `address` is gone and let go of `page`.
    #[inline(always)]
    pub(super) fn release(&mut self, address: u64, page: Page) {
        if self.roots.is_some() {
            self.pages.add(address);
            self.keep(page);
        }
    }

    /// The entry for `address` is gone and let go of a page table.
    pub(super) fn release_table(&mut self, address: u64, table: Page) {
        if self.roots.is_some() {
            self.pages.add_table(address);
            self.keep(table);
        }
    }

    #[inline(always)]
    fn keep(&mut self, page: Page) {
        if self.count == BATCH {
            self.flush();
        }
        self.frames[self.count].write(page.into_entry());
        self.count += 1;
    }

    fn flush(&mut self) {
        if let Some(roots) = self.roots {
            retire(roots, self.pages);
        }
        self.pages = Pages::NONE;
        for frame in &self.frames[..self.count] {
            // SAFETY: `keep` set the first `count`.
            let frame = unsafe { frame.assume_init() };
            // SAFETY: `keep` put the hold of an entry here that no longer is.
            drop(unsafe { Page::from_entry(frame) });
        }
        self.count = 0;
    }
}

impl Drop for Stale<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}

const _: () = assert!(PAGE == 4096, "what `Pages` counts in");
