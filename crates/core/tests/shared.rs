//! Shared ranges, against the dullest model there is: a set of pages.

use proptest::prelude::*;
use ringwall_core::{AREA_BYTES, EntryArea, PAGE_SIZE, ShareError, SharedRange, SharedRanges};
use std::collections::BTreeSet;

const SLOT: u64 = 0xffff_ff80_0000_0000;
const AREA: u64 = 0xffff_ffff_c000_0000;

fn area() -> EntryArea {
    EntryArea::new(AREA).unwrap()
}

fn range(start: u64, pages: u64) -> SharedRange {
    SharedRange::new(start, pages * PAGE_SIZE).unwrap()
}

/// Small ranges close enough together to meet each other and the ends of the entry area.
fn any_range() -> impl Strategy<Value = SharedRange> {
    let places =
        prop_oneof![Just(SLOT), Just(AREA - 12 * 4096), Just(AREA + AREA_BYTES - 8 * 4096)];
    (places, 0..20u64, 1..6u64).prop_map(|(at, page, pages)| range(at + page * PAGE_SIZE, pages))
}

#[test]
fn bad_ranges_are_refused_for_the_right_reason() {
    use ShareError::{Empty, Misaligned, NotKernelHalf, OutsideSlot};
    let of = |start, bytes| SharedRange::new(start, bytes).unwrap_err();
    assert_eq!(of(SLOT, 0), Empty(SLOT));
    assert_eq!(of(SLOT + 8, 4096), Misaligned { start: SLOT + 8, bytes: 4096 });
    assert_eq!(of(SLOT, 4097), Misaligned { start: SLOT, bytes: 4097 });
    assert_eq!(of(0x7fff_ffff_f000, 4096), NotKernelHalf(0x7fff_ffff_f000));
    assert_eq!(of(1 << 47, 4096), NotKernelHalf(1 << 47));
    assert_eq!(of(0xffff_0000_0000_0000, 4096), NotKernelHalf(0xffff_0000_0000_0000));
    assert_eq!(of(SLOT - 4096, 8192), OutsideSlot { start: SLOT - 4096, bytes: 8192 });
    let last = u64::MAX - 4095;
    assert_eq!(of(last, 8192), OutsideSlot { start: last, bytes: 8192 });
    assert_eq!(SharedRange::new(last, 4096).unwrap().last(), u64::MAX);
    assert_eq!(SharedRange::new(SLOT, 1 << 39).unwrap().last(), u64::MAX);
}

#[test]
fn the_entry_area_is_out_of_bounds() {
    let mut set = SharedRanges::<4>::new(area());
    let end = AREA + AREA_BYTES;
    for (start, pages) in [(AREA, 1), (AREA - 4096, 2), (end - 4096, 2), (AREA - 4096, 1 << 16)] {
        assert_eq!(set.insert(range(start, pages)), Err(ShareError::OverlapsArea(AREA)));
    }
    set.insert(range(AREA - 4096, 1)).unwrap();
    set.insert(range(end, 1)).unwrap();
    assert_eq!(set.visible_bytes(), 8192);
}

#[test]
fn a_full_set_says_so_and_has_room_again() {
    let mut set = SharedRanges::<2>::new(area());
    let ranges = [0, 2, 4].map(|page| range(SLOT + page * PAGE_SIZE, 1));
    set.insert(ranges[0]).unwrap();
    set.insert(ranges[1]).unwrap();
    assert_eq!(set.insert(ranges[2]), Err(ShareError::Full(2)));
    assert_eq!(set.remove(ranges[2]), Err(ShareError::NotShared(ranges[2])));
    set.remove(ranges[0]).unwrap();
    assert_eq!(set.remove(ranges[0]), Err(ShareError::NotShared(ranges[0])));
    set.insert(ranges[2]).unwrap();
    assert_eq!(set.len(), 2);
}

#[test]
fn only_whole_ranges_come_out() {
    let mut set = SharedRanges::<4>::new(area());
    set.insert(range(SLOT, 3)).unwrap();
    set.insert(range(SLOT + 3 * PAGE_SIZE, 1)).unwrap();
    for wrong in [range(SLOT, 2), range(SLOT + PAGE_SIZE, 2), range(SLOT, 4)] {
        assert_eq!(set.remove(wrong), Err(ShareError::NotShared(wrong)));
    }
    assert_eq!(set.len(), 2);
}

#[test]
fn a_set_without_places_is_always_full() {
    let mut set = SharedRanges::<0>::new(area());
    assert_eq!(set.insert(range(SLOT, 1)), Err(ShareError::Full(0)));
    assert!(set.is_empty());
}

proptest! {
    #[test]
    fn new_is_total_and_exact(start: u64, bytes: u64, pages in 0..1u64 << 28) {
        let aligned = start & !(PAGE_SIZE - 1);
        let bytes_of = [bytes, pages * PAGE_SIZE];
        for (start, bytes) in [start, aligned, aligned | SLOT].into_iter().flat_map(|s| bytes_of.map(|b| (s, b))) {
            let inside = start >= SLOT && u128::from(start) + u128::from(bytes) <= 1 << 64;
            let fine = inside && bytes > 0 && start % PAGE_SIZE == 0 && bytes % PAGE_SIZE == 0;
            prop_assert_eq!(SharedRange::new(start, bytes).is_ok(), fine, "{:#x} {:#x}", start, bytes);
        }
    }

    #[test]
    fn pages_are_the_range(range in any_range()) {
        let pages: Vec<_> = range.pages().collect();
        prop_assert_eq!(pages.len() as u64 * PAGE_SIZE, range.bytes());
        prop_assert_eq!(pages[0], range.start());
        prop_assert_eq!(pages[pages.len() - 1] + (PAGE_SIZE - 1), range.last());
        prop_assert!(pages.is_sorted() && pages.iter().all(|page| range.contains(*page)));
    }

    #[test]
    fn the_set_is_a_set_of_pages(steps in prop::collection::vec((any::<bool>(), any_range()), 1..60)) {
        let mut set = SharedRanges::<5>::new(area());
        let (mut ranges, mut taken) = (Vec::new(), BTreeSet::new());
        for (insert, range) in steps {
            let meets = range.pages().any(|page| taken.contains(&page));
            let in_area = range.pages().any(|page| area().contains(page));
            if insert {
                let result = set.insert(range);
                let fine = !meets && !in_area && ranges.len() < 5;
                prop_assert_eq!(result.is_ok(), fine);
                match result {
                    Ok(()) => {
                        ranges.push(range);
                        taken.extend(range.pages());
                    }
                    Err(ShareError::OverlapsArea(_)) => prop_assert!(in_area),
                    Err(ShareError::Overlaps(other)) => {
                        prop_assert!(ranges.contains(&other) && other.overlaps(range));
                    }
                    Err(error) => prop_assert_eq!(error, ShareError::Full(5)),
                }
            } else {
                let known = ranges.iter().position(|other| *other == range);
                prop_assert_eq!(set.remove(range).is_ok(), known.is_some());
                if let Some(known) = known {
                    ranges.swap_remove(known);
                    range.pages().for_each(|page| assert!(taken.remove(&page)));
                }
            }
            prop_assert_eq!(set.len(), ranges.len());
            prop_assert_eq!(set.is_empty(), ranges.is_empty());
            prop_assert!(set.iter().all(|range| ranges.contains(&range)));
            let shared: BTreeSet<_> = set.iter().flat_map(SharedRange::pages).collect();
            prop_assert_eq!(&shared, &taken);
            prop_assert_eq!(set.visible_bytes(), taken.len() as u64 * PAGE_SIZE);
            for page in range.pages() {
                prop_assert_eq!(set.find(page + 7).is_some(), taken.contains(&page));
            }
        }
    }
}
