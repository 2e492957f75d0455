//! Where a new region goes: the highest hole that is big enough.
//!
//! ```text
//!   floor                    from              ceiling
//!   ├──── not searched yet ───┼── holes too small ─┤
//! ```
//!
//! Programs map one thing after the other, so the search goes on where the last one ended instead
//! of walking past everything placed before.
//!
//! Invariant: no hole between `from` and the ceiling of the last search is bigger than `largest`.
//! Removing regions raises `from` above the new hole; adding regions only makes holes smaller, but
//! for one that lies in the gap below another, which raises `from` too.

use super::{Attributes, Regions};

/// What the last search learnt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    floor: u64,
    ceiling: u64,
    from: u64,
    largest: u64,
}

impl Search {
    pub(crate) const fn new() -> Search {
        Search { floor: 0, ceiling: 0, from: 0, largest: 0 }
    }

    /// A hole now ends at `end`, where the next region above starts.
    pub(crate) fn freed(&mut self, end: u64) {
        self.from = self.from.max(end.min(self.ceiling));
    }
}

impl<A: Attributes> Regions<A> {
    /// The highest start of `length` free bytes between `floor` and `ceiling`, with the gap that
    /// the region above asks for.
    pub fn highest_hole(&mut self, length: u64, floor: u64, ceiling: u64) -> Option<u64> {
        if length == 0 || ceiling <= floor {
            return None;
        }
        let same_window = self.search.floor == floor && self.search.ceiling == ceiling;
        if !same_window || length <= self.search.largest {
            self.search = Search { floor, ceiling, from: ceiling, largest: 0 };
        }
        let Search { from, mut largest, .. } = self.search;
        let (found, top) = self.search_down(length, floor, from, &mut largest);
        // What lies above `top` is known now, also if nothing was found.
        self.search = Search { floor, ceiling, from: top, largest };
        found
    }

    /// Searches downwards from `from`; gives the place, if any, and the address from which on
    /// nothing was big enough.
    fn search_down(
        &self,
        length: u64,
        floor: u64,
        from: u64,
        largest: &mut u64,
    ) -> (Option<u64>, u64) {
        let mut top = match self.at_or_above(from) {
            Some(above) => from.min(above.start.saturating_sub(above.attributes.gap_below())),
            None => from,
        };
        // A region across `from` is above it as far as the search is concerned.
        for (_, region) in self.by_end.range(..=from).rev() {
            let bottom = region.end.max(floor);
            let room = top.saturating_sub(bottom);
            if room >= length {
                return (Some(top - length), from.min(top));
            }
            *largest = room.max(*largest);
            if region.end <= floor {
                return (None, floor);
            }
            top = region.start.saturating_sub(region.attributes.gap_below());
        }
        let room = top.saturating_sub(floor);
        if room >= length {
            return (Some(top - length), from.min(top));
        }
        *largest = room.max(*largest);
        (None, floor)
    }
}
