//! Walks of made-up tables, sound and malformed.

use super::*;
use crate::PhysicalMemory;
use crate::cpu::Cpu;
use crate::synthetic::{Guest, LARGE, NX, P, U, W};
use crate::tables::TableCache;

const IMAGE: u64 = 0xffff_ffff_8000_0000;

fn walked(guest: &Guest, cpu: &Cpu) -> Walk {
    let memory = guest.memory();
    let cache = TableCache::new(&memory);
    let tables = Tables::new(&cache, cpu.cr3, cpu.paging());
    let walk = walk(&tables, &Budget::default(), &mut HashSet::new(), &|_| ());
    for run in &walk.runs {
        let page = tables.translate(run.address).expect("a run begins with a page");
        assert_eq!(page.physical, run.physical);
    }
    walk
}

fn four_levels(guest: &Guest) -> Walk {
    walked(guest, &Cpu { cr3: Guest::ROOT, ..Cpu::default() })
}

#[test]
fn rights_are_those_that_every_level_grants() {
    let mut guest = Guest::new();
    guest.map(Guest::ROOT, 0x40_0000, 0x9000, P | U | W);
    guest.map(Guest::ROOT, IMAGE, 0xa000, P | NX);
    // The root's entry takes what the page's entry gives.
    guest.change(Guest::ROOT, 0, |entry| (entry & !W) | NX);
    let runs = four_levels(&guest).runs;
    let rights: Vec<_> = runs.iter().map(|run| (run.address, run.rights)).collect();
    let user = Rights { user: true, ..Rights::default() };
    assert_eq!(rights, [(0x40_0000, user), (IMAGE, Rights::default())]);
}

#[test]
fn neighbours_are_one_run_if_nothing_tells_them_apart() {
    let mut guest = Guest::new();
    for page in 0..3 {
        guest.map(Guest::ROOT, IMAGE + page * 0x1000, 0x9000 + page * 0x1000, P);
    }
    guest.map(Guest::ROOT, IMAGE + 0x3000, 0xc000, P | W);
    guest.map(Guest::ROOT, IMAGE + 0x4000, 0x9000, P | W);
    let pages: Vec<_> = four_levels(&guest).runs.iter().map(|run| run.pages).collect();
    assert_eq!(pages, [3, 1, 1]);
}

#[test]
fn the_last_page_of_the_address_space_ends_no_run_too_late() {
    let mut guest = Guest::new();
    guest.map(Guest::ROOT, 0, 0xa000, P);
    guest.map(Guest::ROOT, !0xfff, 0x9000, P);
    let runs = four_levels(&guest).runs;
    assert_eq!(runs.iter().map(|run| run.bytes).collect::<Vec<_>>(), [0x1000, 0x1000]);
}

#[test]
fn large_pages_and_five_levels() {
    let mut guest = Guest::with_levels(5);
    let directory = guest.table_of(Guest::ROOT, 0xff00_0000_0000_0000, 2);
    guest.change(directory, 1, |_| P | W | LARGE | (1 << 12) | 0x60_0000);
    let upper = guest.table_of(Guest::ROOT, 0xff00_0000_0000_0000, 3);
    guest.change(upper, 2, |_| P | LARGE | 0x4000_0000);
    const LA57: u64 = 1 << 12;
    let runs = walked(&guest, &Cpu { cr3: Guest::ROOT, cr4: LA57, ..Cpu::default() }).runs;
    let pages: Vec<_> = runs.iter().map(|run| (run.address, run.physical, run.page_size)).collect();
    assert_eq!(
        pages,
        [
            (0xff00_0000_0020_0000, 0x60_0000, 0x20_0000),
            (0xff00_0000_8000_0000, 0x4000_0000, 0x4000_0000)
        ]
    );
}

#[test]
fn what_is_malformed_is_told_and_not_followed() {
    let mut guest = Guest::new();
    guest.map(Guest::ROOT, IMAGE, 0x9000, P);
    guest.change(Guest::ROOT, 7, |_| P | 0x7_0000_0000);
    guest.change(Guest::ROOT, 8, |_| P | LARGE | 0x9000);
    let walk = four_levels(&guest);
    assert_eq!(walk.runs.len(), 1);
    let told: Vec<_> = walk.anomalies.iter().map(|one| (one.kind, one.entry_at)).collect();
    let at = |slot: u64| Guest::ROOT + 8 * slot;
    assert_eq!(told, [(AnomalyKind::TableOutsideMemory, at(7)), (AnomalyKind::ReservedBit, at(8))]);
    assert_eq!(walk.anomalies[0].address, 7 << 39);
}

#[test]
fn a_recursive_slot_is_told_and_shows_the_tables() {
    let mut guest = Guest::new();
    guest.map(Guest::ROOT, IMAGE, 0x9000, P | W);
    guest.change(Guest::ROOT, 256, |_| P | W | Guest::ROOT);
    let walk = four_levels(&guest);
    assert!(walk.anomalies.iter().all(|one| one.kind == AnomalyKind::Loop));
    assert!(walk.anomalies.iter().any(|one| one.entry_at == Guest::ROOT + 8 * 256));
    // The root itself is the page at the slot's own index at every level.
    let own = 0xffff_8000_0000_0000 | 256 << 30 | 256 << 21 | 256 << 12;
    assert!(walk.runs.iter().any(|run| (run.address, run.physical) == (own, Guest::ROOT)));
    // Root, three tables of the image.
    let pages: u64 = walk.runs.iter().map(|run| run.pages).sum();
    assert_eq!(pages, 4 + 1);
}

#[test]
fn tables_full_of_themselves_end_at_once() {
    let mut guest = Guest::new();
    for index in 0..512 {
        guest.change(Guest::ROOT, index, |_| P | U | Guest::ROOT);
    }
    let walk = four_levels(&guest);
    let pages: u64 = walk.runs.iter().map(|run| run.pages).sum();
    assert_eq!(pages, 1 << 36);
    assert!(walk.runs.len() < 4096, "{} runs", walk.runs.len());
}

#[test]
fn a_table_met_again_is_one_run() {
    let mut guest = Guest::new();
    let base = 0xffff_ff00_0000_0000;
    guest.map(Guest::ROOT, base + 0x3000, 0x9000, P);
    guest.map(Guest::ROOT, base + 0x5000, 0x9000, P);
    let directory = guest.table_of(Guest::ROOT, base, 2);
    let table = guest.table_of(Guest::ROOT, base, 1);
    for index in 1..512 {
        guest.change(directory, index, |_| P | W | U | table);
    }
    let runs = four_levels(&guest).runs;
    assert_eq!(runs.len(), 3);
    let again = runs[2];
    assert_eq!(again.repeats, Some(base + 0x3000));
    assert_eq!((again.address, again.physical), (base + 0x20_3000, 0x9000));
    assert_eq!(again.address + again.bytes, base + 511 * 0x20_0000 + 0x6000);
    assert_eq!(again.pages, 511 * 2);
}

#[test]
fn other_rights_above_are_no_repetition() {
    let mut guest = Guest::new();
    guest.map(Guest::ROOT, IMAGE, 0x9000, P | W);
    let directory = guest.table_of(Guest::ROOT, IMAGE, 2);
    let table = guest.table_of(Guest::ROOT, IMAGE, 1);
    guest.change(directory, 1, |_| P | table);
    let runs = four_levels(&guest).runs;
    assert_eq!(runs.iter().map(|run| run.rights.writable).collect::<Vec<_>>(), [true, false]);
    assert!(runs.iter().all(|run| run.repeats.is_none()));
}

#[test]
fn a_user_half_full_of_tables_hides_no_kernel_half() {
    let mut guest = Guest::new();
    guest.map(Guest::ROOT, IMAGE, 0x9000, P | W);
    let memory = guest.memory();
    // Tables without end above the guest's own, each entry another page.
    const ABOVE: u64 = 1 << 20;
    let endless = |address: u64, buffer: &mut [u8]| {
        if address < ABOVE {
            return memory.read(address, buffer);
        }
        for (word, at) in buffer.chunks_mut(8).zip(address / 8..) {
            let next = ABOVE + (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24 << 12 & 0xffff_f000);
            word.copy_from_slice(&(next | P | W | U).to_le_bytes());
        }
        true
    };
    let read = |address: u64, buffer: &mut [u8]| match address {
        // The user half's first entry.
        Guest::ROOT => {
            let read = memory.read(address, buffer);
            buffer[..8].copy_from_slice(&(ABOVE | P | W | U).to_le_bytes());
            read
        }
        _ => endless(address, buffer),
    };
    let cache = TableCache::new(&read);
    let tables = Tables::new(&cache, Guest::ROOT, Cpu::default().paging());
    let walk = walk(&tables, &Budget::default(), &mut HashSet::new(), &|_| ());
    assert_eq!(walk.runs.len(), RUNS);
    assert!(walk.runs.is_sorted_by_key(|run| run.address));
    assert_eq!(walk.runs.last().map(|run| run.address), Some(IMAGE));
    assert!(walk.anomalies.iter().any(|one| one.kind == AnomalyKind::TooMuch));
}
