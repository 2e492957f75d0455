//! The regions of a program's memory as data: find, split, merge, place.
//!
//! ```text
//!   0      start    end == start   end        start          end
//!   ├──────┤ region ├──────────────┤   hole   ├── region ────┤
//!                 boundary: the two differ in attributes,
//!                           else they would be one region
//! ```
//!
//! Regions are kept in a tree by their *end*. The first key above an address then is the region
//! that holds it or else the one above it, which is what a stack that grows down asks for; and a
//! stack grows without a change of its key.
//!
//! Invariants: regions are not empty and do not overlap; two neighbours that touch and whose
//! attributes [continue](Attributes::continues) each other are one region. Addresses are plain
//! numbers: this crate knows nothing of pages, and callers pass what is aligned already.
//!
//! Nothing here asks for memory in a way that can be refused: callers who must not fail see to it
//! that small allocations succeed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod place;

use alloc::collections::BTreeMap;
use core::ops::Bound::{Excluded, Included, Unbounded};
use core::ops::Range;

/// What a region has besides its addresses.
pub trait Attributes: Clone {
    /// Makes these the attributes of the part that begins `bytes` further on.
    fn advance(&mut self, bytes: u64);

    /// Whether `next`, `bytes` further on, goes on where `self` ends, so that both are one region.
    fn continues(&self, next: &Self, bytes: u64) -> bool;

    /// How far below its start nothing may be placed (a stack's room to grow). No update may
    /// change it: the search for holes remembers.
    fn gap_below(&self) -> u64 {
        0
    }
}

/// A range of addresses with the same attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region<A> {
    /// First address.
    pub start: u64,
    /// First address past it.
    pub end: u64,
    /// All else.
    pub attributes: A,
}

impl<A> Region<A> {
    /// Bytes.
    pub const fn length(&self) -> u64 {
        self.end - self.start
    }
}

/// All regions of one address space.
#[derive(Clone, Debug)]
pub struct Regions<A> {
    by_end: BTreeMap<u64, Region<A>>,
    bytes: u64,
    search: place::Search,
}

impl<A> Default for Regions<A> {
    fn default() -> Self {
        Regions::new()
    }
}

impl<A> Regions<A> {
    /// No regions.
    pub const fn new() -> Regions<A> {
        Regions { by_end: BTreeMap::new(), bytes: 0, search: place::Search::new() }
    }

    /// How many regions there are.
    pub fn count(&self) -> usize {
        self.by_end.len()
    }

    /// Bytes in all regions.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All regions, by address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Region<A>> {
        self.by_end.values()
    }

    /// The region that holds `address`, else the next one above it.
    pub fn at_or_above(&self, address: u64) -> Option<&Region<A>> {
        self.by_end.range((Excluded(address), Unbounded)).next().map(|(_, region)| region)
    }

    /// The region that holds `address`.
    pub fn find(&self, address: u64) -> Option<&Region<A>> {
        self.at_or_above(address).filter(|region| region.start <= address)
    }

    /// End of the highest region that ends at or below `address`; 0 if there is none.
    pub fn end_below(&self, address: u64) -> u64 {
        self.by_end.range(..=address).next_back().map_or(0, |(&end, _)| end)
    }

    /// Start of the lowest region that ends above `address`; `otherwise` if there is none.
    pub fn start_above(&self, address: u64, otherwise: u64) -> u64 {
        self.at_or_above(address).map_or(otherwise, |region| region.start)
    }

    /// The regions that share an address with `range`, by address.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Region<A>> {
        self.by_end
            .range((Excluded(range.start), Unbounded))
            .map(|(_, region)| region)
            .take_while(move |region| region.start < range.end)
    }

    /// Whether no region shares an address with `range`.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Whether every address of `range` is in a region.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut reached = range.start;
        for region in self.overlapping(range.clone()) {
            if region.start > reached {
                return false;
            }
            reached = region.end;
        }
        reached >= range.end
    }
}

impl<A: Attributes> Regions<A> {
    /// Adds a region where there is none, and makes it one with its neighbours if they continue
    /// each other.
    pub fn insert(&mut self, start: u64, end: u64, attributes: A) {
        debug_assert!(start < end && self.is_free(start..end));
        self.bytes += end - start;
        if let Some(above) = self.at_or_above(end)
            && above.start - end < above.attributes.gap_below()
        {
            self.search.freed(above.start);
        }
        self.by_end.insert(end, Region { start, end, attributes });
        self.merge_at(start);
        self.merge_at(end);
    }

    /// Takes everything in `range` out, splitting regions at its edges. The callee sees each
    /// region, or part of one, that is gone.
    pub fn remove(&mut self, range: Range<u64>, mut gone: impl FnMut(Region<A>)) {
        if range.is_empty() {
            return;
        }
        self.split_at(range.start);
        self.split_at(range.end);
        loop {
            let inside = (Excluded(range.start), Included(range.end));
            let Some((&end, _)) = self.by_end.range(inside).next() else { break };
            if let Some(region) = self.by_end.remove(&end) {
                self.bytes -= region.length();
                gone(region);
            }
        }
        self.search.freed(self.start_above(range.start, u64::MAX));
    }

    /// Changes the attributes of everything in `range`, splitting regions at its edges and making
    /// one of those that then continue each other.
    pub fn update(&mut self, range: Range<u64>, mut change: impl FnMut(&mut A)) {
        if range.is_empty() {
            return;
        }
        self.split_at(range.start);
        self.split_at(range.end);
        for (_, region) in self.by_end.range_mut((Excluded(range.start), Included(range.end))) {
            change(&mut region.attributes);
        }
        let mut boundary = range.start;
        while boundary < range.end {
            // The end is read before the merge, which keeps the upper region's end.
            let Some(end) = self.at_or_above(boundary).map(|region| region.end) else { break };
            self.merge_at(boundary);
            boundary = end;
        }
        self.merge_at(range.end);
    }

    /// Moves the start of the region that ends at `end` down to `start`; below it must be room.
    pub fn grow_down(&mut self, end: u64, start: u64) {
        if let Some(region) = self.by_end.get_mut(&end) {
            debug_assert!(start <= region.start);
            self.bytes += region.start - start;
            region.start = start;
        }
    }

    /// Makes two regions of one that holds both `at` and the address before.
    fn split_at(&mut self, at: u64) {
        let Some((_, upper)) = self.by_end.range_mut((Excluded(at), Unbounded)).next() else {
            return;
        };
        if upper.start >= at {
            return;
        }
        let lower = Region { start: upper.start, end: at, attributes: upper.attributes.clone() };
        upper.attributes.advance(lower.length());
        upper.start = at;
        self.by_end.insert(at, lower);
    }

    /// Makes one region of two that touch at `at` and continue each other.
    fn merge_at(&mut self, at: u64) {
        let Some(lower) = self.by_end.get(&at) else { return };
        let Some(upper) = self.at_or_above(at) else { return };
        if upper.start != at || !lower.attributes.continues(&upper.attributes, lower.length()) {
            return;
        }
        let end = upper.end;
        if let Some(lower) = self.by_end.remove(&at)
            && let Some(upper) = self.by_end.get_mut(&end)
        {
            upper.start = lower.start;
            upper.attributes = lower.attributes;
        }
    }
}
