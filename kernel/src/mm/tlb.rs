//! The one place that flushes the TLB for programs' memory.
//!
//! A change that takes rights away leaves [`Stale`] translations; what they lead to is freed after
//! the flush, never before. The flush cannot be forgotten: it is in the value's `Drop`, and the library's own
//! [`Shootdown`](ringwall::Shootdown) does not let go without it.
//!
//! The kernel runs under the kernel root with the program's memory in its user half, so its own
//! copies leave translations in the TLB too. Which half of which PCID has to be flushed, on which CPU, the library
//! knows. A table taken away is covered as well: INVLPG drops all paging-structure caches, whatever
//! its address (SDM vol. 3, 4.10.4.1).
//!
//! More rights, or something where nothing was, need no flush: the CPU drops what it knows of an
//! address when that faults (SDM vol. 3, 4.10.4.3).

use super::page::{PAGE, Page};
use ringwall::AddressSpace;
use ringwall::core::tlb::Pages;

/// Frames kept until one flush.
const BATCH: usize = 64;

/// Flushes translations of `pages` that were changed, wherever they may be cached.
pub(super) fn retire(roots: &AddressSpace, pages: Pages) {
    if pages.is_empty() {
        return;
    }
    let shootdown = roots.retire(pages);
    // SAFETY: interrupts are off in the kernel.
    unsafe { shootdown.flush_here() };
    // Programs run on this CPU alone.
    shootdown.done();
}

/// Serves the flushes that other CPUs ask this one for. None asks while programs run on one CPU alone.
pub fn serve_requests() {}

/// Flushes one page.
#[inline]
pub(super) fn flush_page(roots: &AddressSpace, address: u64) {
    let mut pages = Pages::NONE;
    pages.add(address);
    retire(roots, pages);
}

/// Translations that were taken away or weakened, and the frames they lead to.
#[must_use = "the old translations stay usable until this is dropped"]
pub(super) struct Stale<'a> {
    /// `None` if no CPU will ever run on it again.
    roots: Option<&'a AddressSpace>,
    pages: Pages,
    frames: [u64; BATCH],
    count: usize,
}

impl<'a> Stale<'a> {
    /// Nothing stale yet in `roots`.
    pub(super) fn new(roots: &'a AddressSpace) -> Stale<'a> {
        Stale { roots: Some(roots), pages: Pages::NONE, frames: [0; BATCH], count: 0 }
    }

    /// For page tables that no CPU has loaded or will load: nothing is stale, frames are freed at once.
    pub(super) fn of_none() -> Stale<'static> {
        Stale { roots: None, pages: Pages::NONE, frames: [0; BATCH], count: 0 }
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
        self.frames[self.count] = page.into_entry();
        self.count += 1;
    }

    fn flush(&mut self) {
        if let Some(roots) = self.roots {
            retire(roots, self.pages);
        }
        self.pages = Pages::NONE;
        for &frame in &self.frames[..self.count] {
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
