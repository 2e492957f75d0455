//! The walk against another one that is too simple to be wrong: no memory of tables, no runs, page by page.
//!
//! Random graphs of tables, with aliases, loops, large pages, reserved bits and tables outside of memory.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use crate::cpu::Cpu;
use crate::document::Rights;
use crate::tables::{Page, TableCache, Tables};
use crate::walk::{Budget, Run, walk};

/// Frames that are memory; entries name a few more.
const FRAMES: u64 = 12;

/// A table's entries: frame, first index, how many in a row, and their value.
type Written = (u64, u64, u64, u64);

fn written() -> impl Strategy<Value = Written> {
    // Few indices, so that tables have neighbouring entries and the halves meet.
    let index = prop_oneof![Just(0), Just(1), Just(2), Just(255), Just(256), Just(511)];
    let target =
        prop_oneof![8 => 0..FRAMES, 1 => Just(FRAMES + 3), 1 => Just(512_u64), 1 => Just(1 << 18)];
    let flags = [1 << 1, 1 << 2, 1 << 7, 1 << 8, 1 << 12, 1 << 59, 1 << 63];
    let flags = proptest::sample::subsequence(flags.to_vec(), 0..=4);
    let value = (target, flags, proptest::bool::weighted(0.9));
    let value = value.prop_map(|(frame, flags, present)| {
        frame << 12 | flags.iter().fold(u64::from(present), |all, flag| all | flag)
    });
    let row = prop_oneof![3 => Just(1_u64), 1 => 2..5_u64];
    (0..FRAMES, index, row, value)
}

fn memory(entries: &[Written]) -> Vec<u8> {
    let mut memory = vec![0; (FRAMES * 4096) as usize];
    for (frame, index, row, value) in entries {
        for index in *index..(index + row).min(512) {
            let at = (frame * 4096 + index * 8) as usize;
            memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
    }
    memory
}

/// Every page below a table, by the words of the manual.
fn pages(memory: &[u8], cpu: &Cpu, table: u64, level: u8, base: u64, above: Rights) -> Vec<Page> {
    let mut found = Vec::new();
    let size = [0, 1 << 12, 1 << 21, 1 << 30, 1 << 39, 1 << 48][usize::from(level)];
    for index in 0..512 {
        let at = (table + 8 * index) as usize;
        let Some(bytes) = memory.get(at..at + 8) else { return found };
        let entry = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let bit = |bit: u32| entry >> bit & 1 == 1;
        let no_execute = cpu.efer.is_none_or(|efer| efer >> 11 & 1 == 1);
        let address = base + index * size;
        let rights = Rights {
            user: above.user && bit(2),
            writable: above.writable && bit(1),
            executable: above.executable && !bit(63),
            ..Rights::default()
        };
        let physical = entry & 0x000f_ffff_ffff_f000;
        let large = bit(7) && level > 1;
        let misaligned = match level {
            2 => physical & 0x1f_e000 != 0,
            3 => physical & 0x3fff_e000 != 0,
            _ => true,
        };
        if !bit(0) || bit(63) && !no_execute || large && misaligned {
            continue;
        }
        if level > 1 && !large {
            found.extend(pages(memory, cpu, physical, level - 1, address, rights));
            continue;
        }
        let keys = cpu.cr4 >> if rights.user { 22 } else { 24 } & 1 == 1;
        let key = if keys { (entry >> 59 & 15) as u8 } else { 0 };
        let sign = if level_of_root(cpu) == 5 { 7 } else { 16 };
        found.push(Page {
            address: ((address << sign) as i64 >> sign) as u64,
            physical: physical & !(size - 1),
            size,
            rights: Rights { global: bit(8), key, ..rights },
        });
    }
    found
}

fn level_of_root(cpu: &Cpu) -> u8 {
    if cpu.cr4 >> 12 & 1 == 1 { 5 } else { 4 }
}

fn parts(run: &Run) -> impl Iterator<Item = Page> {
    let Run { physical, page_size: size, rights, .. } = *run;
    (0..run.pages).map(move |page| Page {
        address: run.address + page * size,
        physical: physical + page * size,
        size,
        rights,
    })
}

fn check(entries: &[Written], cpu: &Cpu, probes: &[u64]) {
    let bytes = memory(entries);
    let read = |address: u64, buffer: &mut [u8]| {
        let held = bytes.get(address as usize..).and_then(|rest| rest.get(..buffer.len()));
        held.inspect(|held| buffer.copy_from_slice(held)).is_some()
    };
    let cache = TableCache::new(&read);
    let tables = Tables::new(&cache, cpu.cr3, cpu.paging());
    let walked = walk(&tables, &Budget::default(), &mut HashSet::new(), &|_| ());
    let all = Rights { user: true, writable: true, executable: true, ..Rights::default() };
    let truth = pages(&bytes, cpu, cpu.cr3, level_of_root(cpu), 0, all);
    let truth: BTreeMap<u64, Page> = truth.into_iter().map(|page| (page.address, page)).collect();

    let (first, again): (Vec<&Run>, Vec<&Run>) =
        walked.runs.iter().partition(|run| run.repeats.is_none());
    let mut shown = BTreeMap::new();
    for page in first.iter().flat_map(|run| parts(run)) {
        assert_eq!(truth.get(&page.address), Some(&page), "a run that is not there");
        assert!(shown.insert(page.address, page).is_none(), "{page:x?} is in two runs");
    }
    for page in truth.values() {
        assert_eq!(tables.translate(page.address).as_ref(), Some(page));
        assert_eq!(tables.translate(page.address + (page.size - 1)).as_ref(), Some(page));
        let holders = again.iter().filter(|run| {
            run.region().contains(page.address) && run.rights.user == page.rights.user
        });
        let holders: Vec<_> = holders.collect();
        match shown.contains_key(&page.address) {
            true => assert!(holders.is_empty(), "{page:x?} is repeated where it is first"),
            false => assert_eq!(holders.len(), 1, "{page:x?} is in {} runs", holders.len()),
        }
        for run in holders {
            assert!(run.page_size <= page.size);
            assert!(run.rights.writable || !page.rights.writable);
            assert!(run.rights.executable || !page.rights.executable);
            let same = |other: &Page| {
                (other.physical, other.size, other.rights)
                    == (page.physical, page.size, page.rights)
            };
            assert!(shown.values().any(same), "{page:x?} repeats what is not shown");
        }
    }
    for run in &again {
        let original = tables.translate(run.repeats.expect("a repetition"));
        let page = tables.translate(run.address).expect("a run begins with a page");
        assert_eq!(original.map(|page| page.physical), Some(page.physical));
        assert_eq!((page.address, page.physical), (run.address, run.physical));
    }
    assert!(walked.runs.is_sorted_by_key(|run| run.address));
    assert_eq!(walked.runs.iter().map(|run| run.pages).sum::<u64>(), truth.len() as u64);
    let supervisor = truth.values().filter(|page| !page.rights.user);
    assert_eq!(walked.supervisor_bytes, supervisor.map(|page| page.size).sum::<u64>());
    for probe in probes {
        let below = truth.range(..=probe).next_back();
        let page = below.map(|(_, page)| page).filter(|page| page.contains(*probe));
        assert_eq!(tables.translate(*probe).as_ref(), page, "at {probe:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_walk_is_the_simple_one(
        entries in proptest::collection::vec(written(), 0..30),
        root in 0..FRAMES,
        control in proptest::sample::subsequence(vec![1_u64 << 12, 1 << 22, 1 << 24], 0..=3),
        no_execute in any::<bool>(),
        probes in proptest::collection::vec(any::<u64>(), 8),
    ) {
        let cr4 = control.iter().fold(0, |all, bit| all | bit);
        let efer = Some(if no_execute { 0xd00 } else { 0x500 });
        check(&entries, &Cpu { cr3: root << 12, cr4, efer, ..Cpu::default() }, &probes);
    }
}
