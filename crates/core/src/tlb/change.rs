//! What a change of page tables leaves behind in TLBs.

/// More pages than this are not flushed one by one: everything of the address space is.
pub const PAGES_LIMIT: u64 = 32;

const PAGE: u64 = 4096;

/// The addresses whose translations were changed, collected while page tables are worked on.
#[must_use = "old translations of these pages may still be cached"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    first: u64,
    /// First address after the last page; 0 for none.
    end: u64,
    tables: bool,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages::NONE
    }
}

impl Pages {
    /// Nothing was changed yet.
    pub const NONE: Pages = Pages { first: u64::MAX, end: 0, tables: false };

    /// Everything was changed, tables too.
    pub const ALL: Pages = Pages { first: 0, end: !(PAGE - 1), tables: true };

    /// Adds the page of 4 KiB at `address`.
    #[inline]
    pub fn add(&mut self, address: u64) {
        let start = address & !(PAGE - 1);
        self.first = self.first.min(start);
        self.end = self.end.max(start.saturating_add(PAGE));
    }

    /// A page table was taken out, too: its frame may become anything, and CPUs keep upper entries in caches of
    /// their own (SDM vol. 3, 4.10.3).
    pub fn add_table(&mut self, address: u64) {
        self.add(address);
        self.tables = true;
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.end <= self.first
    }

    /// Whether a page table is among what was taken out.
    pub fn tables(&self) -> bool {
        self.tables
    }

    /// How many pages lie between the first and the last, both included.
    pub fn count(&self) -> u64 {
        if self.is_empty() { 0 } else { (self.end - self.first) / PAGE }
    }

    /// Whether to flush page by page.
    pub fn are_few(&self) -> bool {
        self.count() <= PAGES_LIMIT
    }

    /// The address of each page.
    pub fn addresses(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.first;
        (0..self.count()).map(move |page| first + page * PAGE)
    }
}

/// Pages whose old translations may still be used somewhere, and the generation of the address space without them.
///
/// It is an obligation: every CPU of [`Space::targets`](super::Space::targets) has to flush it before what the
/// old translations lead to is used for anything else.
#[must_use = "the old translations stay usable until every CPU that has them has flushed"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub(super) space: u64,
    pub(super) generation: u64,
    /// What was changed.
    pub pages: Pages,
}

impl Change {
    /// Number of the address space that was changed.
    pub fn space(&self) -> u64 {
        self.space
    }
}
