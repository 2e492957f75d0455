//! Which memory is usable, by a firmware's or boot loader's map of it.
//!
//! Maps have been seen whose entries overlap. Memory that one entry calls usable and another one does not is not; what two
//! entries call usable is so once.
//!
//! Invariant: no two ranges of [`MemoryMap::for_each_usable`] share an address or touch, and they ascend.

use core::ops::Range;

/// Most entries that are taken. Firmware gives about ten; Linux on x86 takes as many.
pub const ENTRIES: usize = 128;

/// There are more than [`ENTRIES`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    end: u64,
    usable: bool,
}

/// A map as it was handed over.
#[derive(Clone, Debug)]
pub struct MemoryMap {
    entries: [Entry; ENTRIES],
    count: usize,
}

impl Default for MemoryMap {
    fn default() -> MemoryMap {
        MemoryMap::new()
    }
}

impl MemoryMap {
    /// Without an entry.
    pub const fn new() -> MemoryMap {
        const NOTHING: Entry = Entry { start: 0, end: 0, usable: false };
        MemoryMap { entries: [NOTHING; ENTRIES], count: 0 }
    }

    /// Adds an entry: bytes of physical memory. One that is empty is left out.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn add(&mut self, range: Range<u64>, usable: bool) -> Result<(), TooMany> {
        if !range.is_empty() {
            let Range { start, end } = range;
            *self.entries.get_mut(self.count).ok_or(TooMany)? = Entry { start, end, usable };
            self.count += 1;
        }
        Ok(())
    }

    /// Calls `each` with each range that is usable and that no entry calls anything else.
    pub fn for_each_usable(&self, mut each: impl FnMut(Range<u64>)) {
        let entries = &self.entries[..self.count];
        let bounds = || entries.iter().flat_map(|entry| [entry.start, entry.end]);
        let usable = |address: u64| {
            let mut here = entries.iter().filter(|e| e.start <= address && address < e.end);
            here.next().is_some_and(|first| first.usable && here.all(|entry| entry.usable))
        };
        let mut start = None;
        let mut bound = bounds().min();
        // Between two bounds nothing changes.
        while let Some(address) = bound {
            match (start, usable(address)) {
                (None, true) => start = Some(address),
                (Some(first), false) => {
                    each(first..address);
                    start = None;
                }
                _ => {}
            }
            bound = bounds().filter(|&next| next > address).min();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn usable(entries: &[(Range<u64>, bool)]) -> Vec<Range<u64>> {
        let mut map = MemoryMap::new();
        for (range, usable) in entries {
            map.add(range.clone(), *usable).expect("room");
        }
        let mut ranges = Vec::new();
        map.for_each_usable(|range| ranges.push(range));
        ranges
    }

    #[test]
    fn a_map_of_qemus_is_what_it_says() {
        let map =
            [(0..0x9_fc00, true), (0x9_fc00..0xa_0000, false), (0x10_0000..0x1ffd_f000, true)];
        assert_eq!(usable(&map), [0..0x9_fc00, 0x10_0000..0x1ffd_f000]);
        assert_eq!(usable(&[]), []);
    }

    #[test]
    fn what_two_entries_call_usable_is_so_once() {
        let map = [(50..90, true), (10..60, true), (20..30, true), (90..95, true), (7..7, false)];
        assert_eq!(usable(&map), core::slice::from_ref(&(10..95)));
    }

    #[test]
    fn what_one_entry_denies_is_not_usable() {
        let map = [(10..60, true), (20..30, false), (55..70, false), (0..12, false)];
        assert_eq!(usable(&map), [12..20, 30..55]);
        assert_eq!(usable(&[(10..20, true), (0..u64::MAX, false)]), []);
    }

    #[test]
    fn each_byte_is_judged_as_the_entries_say() {
        let mut state = 1u64;
        let mut below = |limit: u64| {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (state >> 33) % limit
        };
        for _ in 0..2000 {
            let map: Vec<_> = (0..below(7))
                .map(|_| {
                    let start = below(40);
                    (start..start + below(12), below(3) != 0)
                })
                .collect();
            let ranges = usable(&map);
            assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{map:?}");
            for byte in 0..64 {
                let mut told = map.iter().filter(|(range, _)| range.contains(&byte)).peekable();
                let expected = told.peek().is_some() && told.all(|(_, usable)| *usable);
                assert_eq!(ranges.iter().any(|range| range.contains(&byte)), expected, "{map:?}");
            }
        }
    }

    #[test]
    fn too_many_entries_are_refused() {
        let mut map = MemoryMap::new();
        for number in 0..ENTRIES as u64 {
            assert_eq!(map.add(number * 2..number * 2 + 1, true), Ok(()));
        }
        assert_eq!(map.add(1..1, true), Ok(()), "nothing is no entry");
        assert_eq!(map.add(0..1, false), Err(TooMany));
    }
}
