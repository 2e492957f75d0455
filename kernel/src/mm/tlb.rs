//! The one place that flushes the TLB for programs' memory.
//!
//! A change that takes rights away leaves [`Stale`] translations; what they lead to is freed after
//! the flush, never before. The flush cannot be forgotten: it is in the value's `Drop`.
//!
//! The kernel runs under the kernel root with the program's memory in its user half, so its own
//! copies leave translations in the TLB too. Without PCID the exit's CR3 write drops them all, with
//! isolation off nothing does. Flushing at once is right in both cases, and costs an instruction a
//! page. A table taken away is covered as well: INVLPG drops all paging-structure caches, whatever
//! its address (SDM vol. 3, 4.10.4.1).
//!
//! More rights, or something where nothing was, need no flush: the CPU drops what it knows of an
//! address when that faults (SDM vol. 3, 4.10.4.3).
//!
//! Only memory that is loaded can be in a TLB: without PCID, loading another flushes.

use super::page::{PAGE, Page};
use core::ops::Range;
use ringwall::AddressSpace;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr3;

/// From this many pages on, all of them are flushed by a reload of CR3.
const MANY: u64 = 32;
/// Frames kept until one flush.
const BATCH: usize = 64;

/// Whether this CPU runs on `roots`.
pub(super) fn is_loaded(roots: &AddressSpace) -> bool {
    Cr3::read_raw().0 == roots.kernel_root()
}

/// Flushes one page.
#[inline]
pub(super) fn flush_page(roots: &AddressSpace, address: u64) {
    if is_loaded(roots) {
        x86_64::instructions::tlb::flush(VirtAddr::new(address));
    }
}

/// Translations that were taken away or weakened, and the frames they lead to.
#[must_use = "the old translations stay usable until this is dropped"]
pub(super) struct Stale {
    loaded: bool,
    /// Addresses from the first to the last touched.
    span: Range<u64>,
    frames: [u64; BATCH],
    count: usize,
}

impl Stale {
    /// Nothing stale yet in `roots`.
    pub(super) fn new(roots: &AddressSpace) -> Stale {
        Stale {
            loaded: is_loaded(roots),
            span: Range { start: u64::MAX, end: 0 },
            frames: [0; BATCH],
            count: 0,
        }
    }

    /// The page at `address` has fewer rights now.
    #[inline(always)]
    pub(super) fn touch(&mut self, address: u64) {
        self.span.start = self.span.start.min(address);
        self.span.end = self.span.end.max(address + PAGE);
    }

    /// The entry for `address` is gone and let go of `page`.
    #[inline(always)]
    pub(super) fn release(&mut self, address: u64, page: Page) {
        if !self.loaded {
            return;
        }
        self.touch(address);
        if self.count == BATCH {
            self.flush();
        }
        self.frames[self.count] = page.into_entry();
        self.count += 1;
    }

    fn flush(&mut self) {
        if self.loaded && self.span.start < self.span.end {
            if (self.span.end - self.span.start) / PAGE < MANY {
                for address in self.span.clone().step_by(PAGE as usize) {
                    x86_64::instructions::tlb::flush(VirtAddr::new(address));
                }
            } else {
                crate::arch::cpu::reload_root();
            }
        }
        self.span = Range { start: u64::MAX, end: 0 };
        for &frame in &self.frames[..self.count] {
            // SAFETY: `release` put the hold of an entry here that no longer is.
            drop(unsafe { Page::from_entry(frame) });
        }
        self.count = 0;
    }
}

impl Drop for Stale {
    fn drop(&mut self) {
        self.flush();
    }
}
