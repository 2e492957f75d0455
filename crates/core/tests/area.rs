//! The entry area's arithmetic: every page in one place, every choice in range, all equally likely.

use core::ops::RangeInclusive;
use proptest::prelude::*;
use ringwall_core::area::TOP;
use ringwall_core::{
    AREA_BYTES, AREA_PAGES, AreaError, CPU_PAGES, EntryArea, MAX_CPUS, PAGE_SIZE, Page,
};
use std::collections::HashSet;

const START: u64 = 0xffff_ffff_8000_0000;
const PER_CPU: [Page; 4] = [Page::Gdt, Page::Stack, Page::Alias, Page::Data];

fn any_area() -> impl Strategy<Value = EntryArea> {
    any::<u64>().prop_map(|random| EntryArea::choose(random, &TOP).unwrap())
}

/// Ranges around the top 2 GiB, of sizes around the area's.
fn any_range() -> impl Strategy<Value = RangeInclusive<u64>> {
    let near = (START - 0x10_0000)..=u64::MAX;
    (near, 0..4 * AREA_BYTES).prop_map(|(first, bytes)| first..=first.saturating_add(bytes))
}

#[test]
fn the_numbers_of_the_design() {
    assert_eq!(AREA_PAGES, 2 + 4 * 512 + 2);
    assert_eq!(AREA_BYTES, AREA_PAGES * 4096);
    assert_eq!(EntryArea::positions(&TOP), 0x8_0000 - 1 - AREA_PAGES + 1);
    assert_eq!(EntryArea::positions(&(0..=u64::MAX)), EntryArea::positions(&TOP));
}

#[test]
fn bad_bases_are_refused_for_the_right_reason() {
    let last = u64::MAX - PAGE_SIZE - (AREA_BYTES - 1);
    assert!(EntryArea::new(START).is_ok());
    assert!(EntryArea::new(last).is_ok());
    assert_eq!(EntryArea::new(last + 4096), Err(AreaError::OutsideTop(last + 4096)));
    assert_eq!(EntryArea::new(START - 4096), Err(AreaError::OutsideTop(START - 4096)));
    assert_eq!(EntryArea::new(0), Err(AreaError::OutsideTop(0)));
    assert_eq!(EntryArea::new(START + 1), Err(AreaError::Misaligned(START + 1)));
    assert_eq!(EntryArea::new(1 << 50), Err(AreaError::NotCanonical(1 << 50)));
}

#[test]
fn a_range_of_exactly_the_area_has_one_position() {
    let exact = START..=START + (AREA_BYTES - 1);
    assert_eq!(EntryArea::positions(&exact), 1);
    assert_eq!(EntryArea::choose(u64::MAX, &exact).unwrap().base(), START);
    for tight in [START + 1..=*exact.end(), START..=*exact.end() - 1] {
        assert_eq!(EntryArea::positions(&tight), 0);
        let error = AreaError::NoRoom { first: *tight.start(), last: *tight.end() };
        assert_eq!(EntryArea::choose(0, &tight), Err(error));
    }
    #[expect(clippy::reversed_empty_ranges, reason = "what an empty range does is the question")]
    let empty = u64::MAX..=0;
    assert_eq!(EntryArea::positions(&empty), 0);
}

#[test]
fn every_position_is_reached_and_as_often_as_any_other() {
    const POSITIONS: u64 = 1000;
    const EACH: u64 = 64;
    let within = START..=START + (AREA_BYTES - 1) + (POSITIONS - 1) * PAGE_SIZE;
    assert_eq!(EntryArea::positions(&within), POSITIONS);
    let mut hits = [0; POSITIONS as usize];
    let draws = POSITIONS * EACH;
    for draw in 0..draws {
        let random = (u128::from(draw) * (1 << 64) / u128::from(draws)) as u64;
        let area = EntryArea::choose(random, &within).unwrap();
        hits[((area.base() - START) / PAGE_SIZE) as usize] += 1;
    }
    assert!(hits.iter().all(|&n: &u64| n.abs_diff(EACH) <= 1), "{hits:?}");
}

#[test]
fn places_print_for_people() {
    let area = EntryArea::new(START).unwrap();
    let cpu = area.cpu(3).unwrap();
    let text = |addr| area.describe(addr).unwrap().to_string();
    assert_eq!(text(area.idt() + 0x10), "IDT + 0x10");
    assert_eq!(text(cpu.stack() + 0xff8), "stack page of CPU 3 + 0xff8");
}

#[test]
fn errors_print_for_people() {
    assert_eq!(
        AreaError::Misaligned(0xffff_ffff_8000_0001).to_string(),
        "entry area at 0xffffffff80000001 is not page-aligned"
    );
}

proptest! {
    #[test]
    fn choices_lie_in_the_range(random: u64, within in any_range()) {
        match EntryArea::choose(random, &within) {
            Ok(area) => {
                prop_assert_eq!(EntryArea::new(area.base()), Ok(area));
                prop_assert!(within.contains(&area.base()));
                prop_assert!(within.contains(&(area.end() - 1)));
                prop_assert!(TOP.contains(&area.base()) && TOP.contains(&(area.end() - 1)));
            }
            Err(_) => prop_assert_eq!(EntryArea::positions(&within), 0),
        }
    }

    #[test]
    fn no_more_positions_than_bases_that_fit(within in any_range()) {
        let fits = |base: &u64| {
            EntryArea::new(*base).is_ok_and(|area| within.contains(&(area.end() - 1)))
        };
        let first = within.start().checked_next_multiple_of(PAGE_SIZE).unwrap_or(u64::MAX);
        let bases = (first..=*within.end()).step_by(PAGE_SIZE as usize);
        prop_assert_eq!(bases.filter(fits).count() as u64, EntryArea::positions(&within));
    }

    #[test]
    fn new_is_total(base: u64) {
        let _ = EntryArea::new(base);
        let _ = EntryArea::new(base | START);
        let _ = EntryArea::new((base | START) & !(PAGE_SIZE - 1)).map(|area| area.end());
    }

    #[test]
    fn pages_are_disjoint_and_fill_the_area(area in any_area()) {
        let mut seen = HashSet::from([area.text(), area.idt(), area.open_text(), area.open_idt()]);
        for index in 0..MAX_CPUS {
            let cpu = area.cpu(index).unwrap();
            prop_assert_eq!(cpu.index(), index);
            prop_assert_eq!(cpu.gs_base(), cpu.stack());
            let pages = [cpu.gdt(), cpu.stack(), cpu.alias(), cpu.data()];
            for (position, page) in pages.into_iter().enumerate() {
                prop_assert_eq!(page, cpu.gdt() + position as u64 * PAGE_SIZE);
                prop_assert!(seen.insert(page), "{:#x} twice", page);
            }
        }
        prop_assert_eq!(pages_of(area), seen);
        prop_assert_eq!(area.cpu(MAX_CPUS), None);
        prop_assert_eq!(area.cpu(usize::MAX), None);
    }

    #[test]
    fn describe_undoes_address(area in any_area(), cpu in 0..MAX_CPUS, offset in 0..PAGE_SIZE) {
        for page in [Page::Text, Page::Idt, Page::OpenText, Page::OpenIdt] {
            let place = area.describe(area.address(page, cpu).unwrap() + offset).unwrap();
            prop_assert_eq!((place.page, place.cpu, place.offset), (page, None, offset));
        }
        for page in PER_CPU {
            let addr = area.address(page, cpu).unwrap();
            prop_assert_eq!(area.cpu(cpu).unwrap().address(page), Some(addr));
            let place = area.describe(addr + offset).unwrap();
            prop_assert_eq!((place.page, place.cpu, place.offset), (page, Some(cpu), offset));
        }
    }

    #[test]
    fn describe_knows_exactly_what_is_contained(area in any_area(), addr: u64) {
        for addr in [addr, addr | START, area.base() - 1, area.base(), area.end() - 1, area.end()] {
            let inside = (area.base()..area.end()).contains(&addr);
            prop_assert_eq!(area.contains(addr), inside);
            prop_assert_eq!(area.describe(addr).is_some(), inside);
        }
    }

    /// What the paranoid entries rely on: any RSP on a CPU's stack page gives that CPU's GS base.
    #[test]
    fn a_stack_address_finds_its_cpu(area in any_area(), cpu in 0..MAX_CPUS, offset in 0..PAGE_SIZE) {
        let cpu = area.cpu(cpu).unwrap();
        prop_assert_eq!((cpu.stack() + offset) & !(PAGE_SIZE - 1), cpu.gs_base());
        prop_assert_eq!(cpu.data() - cpu.gs_base(), (CPU_PAGES - 2) * PAGE_SIZE);
    }
}

fn pages_of(area: EntryArea) -> HashSet<u64> {
    (0..AREA_PAGES).map(|page| area.base() + page * PAGE_SIZE).collect()
}
