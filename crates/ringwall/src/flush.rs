//! Obligations to flush: a change that leaves stale translations behind returns one of these.

use ringwall_core::shared::SharedRange;
use x86_64::VirtAddr;
use x86_64::instructions::tlb;

/// One page's old translation may still be cached.
#[must_use = "the old translation stays usable until it is flushed"]
#[derive(Debug)]
pub struct FlushPage(u64);

impl FlushPage {
    pub(crate) fn new(address: u64) -> FlushPage {
        FlushPage(address)
    }

    /// Flushes it on this CPU. Other CPUs that run the address space need to be told.
    pub fn flush(self) {
        tlb::flush(VirtAddr::new(self.0));
    }

    /// No CPU can have it cached: the address space runs nowhere, or the page was not present.
    pub fn not_cached(self) {}
}

/// A shared range's translations may still be cached, under any user root, on any CPU.
#[must_use = "the range stays readable until it is flushed"]
#[derive(Debug)]
pub struct FlushShared(SharedRange);

impl FlushShared {
    pub(crate) fn new(range: SharedRange) -> FlushShared {
        FlushShared(range)
    }

    /// Flushes it on this CPU. Without PCID the next switch of roots would do it too, since no shared
    /// page is global.
    pub fn flush(self) {
        for address in self.0.pages() {
            tlb::flush(VirtAddr::new(address));
        }
    }
}
