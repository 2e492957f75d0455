//! Where in a core each piece of physical memory is: its PT_LOAD headers, sorted and without repetitions.
//!
//! A core made with `paging=true` has a header for each run of *virtual* addresses, so the same memory comes many
//! times (Linux's espfix stacks alone 65,536 times). Every byte is kept once.

/// More pieces than any machine's memory is in: 24 MiB of them. Linux with all its mappings leaves a few hundred.
const MOST: usize = 1 << 20;

/// A piece of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// First physical address.
    pub start: u64,
    /// First physical address after it.
    pub end: u64,
    /// Where the first byte is in the file.
    pub offset: u64,
}

/// The pieces, while they come and when they are all there.
#[derive(Debug, Default)]
pub(super) struct Segments {
    all: Vec<Segment>,
    /// How many there were when repetitions were taken out last.
    tidy: usize,
    /// First address and the one after the last of each stretch without a hole, wherever its pieces are in the file.
    stretches: Vec<(u64, u64)>,
}

impl Segments {
    /// Adds a piece. False when there are too many.
    #[must_use]
    pub fn add(&mut self, segment: Segment) -> bool {
        if segment.start < segment.end && self.all.last() != Some(&segment) {
            self.all.push(segment);
        }
        if self.all.len() > (2 * self.tidy).max(4096) {
            self.tidy_up();
        }
        self.all.len() <= MOST
    }

    /// Sorts and takes out what comes again.
    pub fn tidy_up(&mut self) {
        // The longest of those that begin together comes first; of equals, the first in the file.
        self.all.sort_by_key(|segment| (segment.start, u64::MAX - segment.end, segment.offset));
        let mut kept: Vec<Segment> = Vec::with_capacity(self.all.len().min(MOST));
        for segment in self.all.drain(..) {
            let Some(last) = kept.last_mut() else {
                kept.push(segment);
                continue;
            };
            if segment.end <= last.end {
                continue;
            }
            let known = last.end.saturating_sub(segment.start);
            let rest =
                Segment { start: segment.start + known, offset: segment.offset + known, ..segment };
            if rest.start == last.end && rest.offset == last.offset + (last.end - last.start) {
                last.end = rest.end;
            } else {
                kept.push(rest);
            }
        }
        self.all = kept;
        self.tidy = self.all.len();
    }

    /// The piece that holds an address, once all is tidy.
    pub fn find(&self, address: u64) -> Option<Segment> {
        let next = self.all.partition_point(|segment| segment.start <= address);
        self.all[..next].last().copied().filter(|segment| address < segment.end)
    }

    /// Takes out what came last and again, and learns where the holes are. Nothing is added after this.
    pub fn finish(&mut self) {
        self.tidy_up();
        for segment in &self.all {
            match self.stretches.last_mut() {
                Some((_, end)) if *end == segment.start => *end = segment.end,
                _ => self.stretches.push((segment.start, segment.end)),
            }
        }
    }

    /// Whether all of `start..end` is there, once all is finished. As fast for many pieces as for one: page tables may
    /// name the same memory half a million times.
    pub fn hold(&self, start: u64, end: u64) -> bool {
        let next = self.stretches.partition_point(|stretch| stretch.0 <= start);
        start >= end || self.stretches[..next].last().is_some_and(|stretch| end <= stretch.1)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(all: &[(u64, u64, u64)]) -> Segments {
        let mut segments = Segments::default();
        for (start, end, offset) in all.iter().copied() {
            assert!(segments.add(Segment { start, end, offset }));
        }
        segments.finish();
        segments
    }

    fn place(segments: &Segments, address: u64) -> Option<u64> {
        segments.find(address).map(|segment| segment.offset + (address - segment.start))
    }

    #[test]
    fn every_byte_is_found_once() {
        let all =
            [(0x3000, 0x5000, 100), (0, 0x1000, 7), (0x4000, 0x6000, 100 + 0x1000), (5, 5, 0)];
        let segments = segments(&all);
        assert_eq!(segments.all.len(), 2, "{segments:x?}");
        assert_eq!(place(&segments, 0x5fff), Some(100 + 0x2fff));
        assert_eq!(place(&segments, 0), Some(7));
        assert_eq!([place(&segments, 0x1000), place(&segments, 0x6000)], [None, None]);
    }

    #[test]
    fn overlapping_pieces_from_other_places_fill_gaps_only() {
        let segments =
            segments(&[(0, 0x2000, 0), (0x1000, 0x3000, 0x9000), (0x1000, 0x1800, 0x5000)]);
        assert_eq!(place(&segments, 0x1000), Some(0x1000));
        assert_eq!(place(&segments, 0x2000), Some(0xa000));
    }

    #[test]
    fn what_is_held_may_be_scattered_in_the_file_but_has_no_hole() {
        let segments = segments(&[(0x1000, 0x2000, 900), (0x2000, 0x3000, 5), (0x4000, 0x5000, 7)]);
        assert!(segments.hold(0x1000, 0x3000) && segments.hold(0x1fff, 0x2001));
        assert!(segments.hold(0x4fff, 0x5000) && segments.hold(0x9000, 0x9000));
        assert!(!segments.hold(0xfff, 0x2000) && !segments.hold(0x2000, 0x3001));
        assert!(!segments.hold(0x2fff, 0x4001) && !segments.hold(0x5000, 0x5001));
    }

    #[test]
    fn repetitions_take_no_space() {
        let mut segments = Segments::default();
        for round in 0..100_000 {
            let start = (round % 2) * 0x2000;
            assert!(segments.add(Segment { start, end: start + 0x1000, offset: start }));
        }
        assert!(segments.all.len() <= 4097, "{}", segments.all.len());
    }

    #[test]
    fn too_many_pieces_are_refused() {
        let mut segments = Segments::default();
        let separate = |index: u64| Segment { start: index * 4, end: index * 4 + 1, offset: 0 };
        assert!(!(0..=2 * MOST as u64).all(|index| segments.add(separate(index))));
    }
}
