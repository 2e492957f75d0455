//! LDTs in a host's memory: where they are mapped, when they go, what is freed.

mod host;

use host::{Memory, setup};
use ringwall::core::paging::{ADDRESS_MASK, NO_EXECUTE, PRESENT, USER, WRITABLE, index};
use ringwall::core::private::{DEFAULT_SLOT, LDT_ENTRIES};
use ringwall::core::segment::{Descriptor, Kind, Segment};
use ringwall::{AddressSpace, Frames, Isolation, Ldt, MapError, Setup};

const ENTRY: usize = 8;

fn space(memory: &mut Memory, isolate: bool) -> AddressSpace {
    let setup = Setup { isolate, ..setup(memory.allocate_pair().expect("memory")) };
    // SAFETY: no CPU runs on these tables.
    let isolation = unsafe { Isolation::new(&setup, memory) }.expect("entry area");
    AddressSpace::new(&isolation, memory).expect("memory")
}

fn descriptor(base: u32) -> Descriptor {
    let segment = Segment {
        base,
        limit: 0xffff,
        kind: Kind::Data,
        full: true,
        present: true,
        pages: false,
        wide: true,
        available: false,
    };
    Descriptor::for_ldt(&segment).expect("data")
}

/// The roots, kernel first.
fn roots(space: &AddressSpace) -> Vec<u64> {
    let mut roots = vec![space.kernel_root().start_address().as_u64(), space.user_root()];
    roots.dedup();
    roots
}

/// The leaf that maps `address` below a root, with the rights of the whole walk.
fn leaf(memory: &Memory, root: u64, address: u64) -> Option<u64> {
    let (mut table, mut rights) = (root & ADDRESS_MASK, WRITABLE | USER);
    let mut no_execute = 0;
    for level in [4, 3, 2, 1] {
        // SAFETY: a word of a table in the test's memory.
        let entry = unsafe { *memory.word(table + index(level, address) as u64 * 8) };
        if entry & PRESENT == 0 {
            return None;
        }
        rights &= entry;
        no_execute |= entry & NO_EXECUTE;
        table = entry & ADDRESS_MASK;
    }
    Some(table | PRESENT | rights | no_execute)
}

/// What the CPU would read as entry `entry` of an LDT at `base`.
fn seen(memory: &Memory, root: u64, base: u64, entry: usize) -> Option<u64> {
    let address = base + (entry * ENTRY) as u64;
    let page = leaf(memory, root, address)? & ADDRESS_MASK;
    // SAFETY: a word of a frame in the test's memory.
    Some(unsafe { *memory.word(page + address % 4096) })
}

fn set(space: &AddressSpace, ldt: Option<Ldt>, memory: &mut Memory) -> Result<(), MapError> {
    // SAFETY: nobody else uses the address space.
    let retired = unsafe { space.set_ldt(ldt, memory) }?;
    // SAFETY: no CPU runs it.
    let unmapped = unsafe { retired.unmap(space, memory) };
    if let Some(old) = unmapped.flushed() {
        old.release(memory);
    }
    Ok(())
}

#[test]
fn an_ldt_is_read_only_in_both_roots_and_as_long_as_it_has_to_be() {
    for isolate in [true, false] {
        let mut memory = Memory::new();
        let space = space(&mut memory, isolate);
        let mut ldt = Ldt::new(600, &mut memory).expect("memory");
        ldt.set(599, descriptor(0x1234), &memory);
        set(&space, Some(ldt), &mut memory).expect("memory");
        assert_eq!(space.ldt_entries(), 600);
        let base = space.ldt_address().expect("there is one");
        for root in roots(&space) {
            let bits = descriptor(0x1234).bits();
            assert_eq!(seen(&memory, root, base, 599), Some(bits));
            assert_eq!(seen(&memory, root, base, 0), Some(0));
            for page in 0..16 {
                let address = base + page * 4096;
                let rights =
                    leaf(&memory, root, address).map(|leaf| leaf & (WRITABLE | USER | NO_EXECUTE));
                assert_eq!(rights, (page < 2).then_some(NO_EXECUTE), "page {page}");
            }
        }
    }
}

#[test]
fn the_new_one_is_mapped_before_the_old_one_goes() {
    let mut memory = Memory::new();
    let space = space(&mut memory, true);
    set(&space, Some(Ldt::new(1, &mut memory).expect("memory")), &mut memory).expect("memory");
    let mut old = space.ldt_address().expect("there is one");
    for round in 1..5 {
        // SAFETY: nobody else uses the address space.
        let copy = unsafe { space.copy_ldt(round + 1, &mut memory) };
        let mut copy = copy.expect("memory");
        copy.set(round, descriptor(round as u32), &memory);
        // SAFETY: as above.
        let retired = unsafe { space.set_ldt(Some(copy), &mut memory) }.expect("memory");
        let new = space.ldt_address().expect("there is one");
        for root in roots(&space) {
            assert!(seen(&memory, root, old, round - 1).is_some(), "the old one");
            let bits = seen(&memory, root, new, round);
            assert_eq!(bits, Some(descriptor(round as u32).bits()));
        }
        // SAFETY: no CPU runs it.
        let unmapped = unsafe { retired.unmap(&space, &memory) };
        for root in roots(&space) {
            assert_eq!(seen(&memory, root, old, 0), None);
        }
        unmapped.flushed().expect("the old one").release(&mut memory);
        old = new;
    }
    for entry in 1..5 {
        let bits = seen(&memory, space.user_root(), old, entry);
        assert_eq!(bits, Some(descriptor(entry as u32).bits()), "copied all along");
    }
}

#[test]
fn what_is_read_is_what_was_written_and_zeros_behind_it() {
    let mut memory = Memory::new();
    let space = space(&mut memory, true);
    let mut bytes = vec![0xff; 9000];
    // SAFETY: nobody changes the LDT, here and below.
    unsafe { space.read_ldt(0, &mut bytes, &memory) };
    assert!(bytes.iter().all(|byte| *byte == 0), "there is none");
    let mut ldt = Ldt::new(1000, &mut memory).expect("memory");
    for entry in 0..1000 {
        ldt.set(entry, descriptor(entry as u32), &memory);
    }
    set(&space, Some(ldt), &mut memory).expect("memory");
    let expected: Vec<u8> = (0..1000)
        .flat_map(|entry| descriptor(entry).bits().to_le_bytes())
        .chain(core::iter::repeat_n(0, 1000))
        .collect();
    for start in [0, 1, 4095, 4096, 7999, 8000, 8500] {
        let mut bytes = vec![0xff; 500];
        // SAFETY: as above.
        unsafe { space.read_ldt(start, &mut bytes, &memory) };
        assert_eq!(bytes, expected[start..start + 500], "from {start}");
    }
}

#[test]
fn without_an_ldt_the_slot_is_empty_again() {
    let mut memory = Memory::new();
    let space = space(&mut memory, true);
    let slot = |memory: &Memory, root: u64| {
        // SAFETY: a word of a root in the test's memory.
        unsafe { *memory.word((root & ADDRESS_MASK) + DEFAULT_SLOT as u64 * 8) }
    };
    for root in roots(&space) {
        assert_eq!(slot(&memory, root), 0);
    }
    for _ in 0..2 {
        let ldt = Ldt::new(LDT_ENTRIES, &mut memory).expect("memory");
        set(&space, Some(ldt), &mut memory).expect("memory");
        for root in roots(&space) {
            assert_ne!(slot(&memory, root), 0);
        }
        set(&space, None, &mut memory).expect("nothing to allocate");
        assert_eq!(space.ldt_entries(), 0);
        for root in roots(&space) {
            assert_eq!(slot(&memory, root), 0);
        }
    }
}

#[test]
fn everything_is_freed_with_the_address_space() {
    for last in [true, false] {
        let mut memory = Memory::new();
        let first = space(&mut memory, true);
        // What the entry area has stays.
        // SAFETY: no CPU runs on it.
        unsafe { first.release(&mut memory) };
        let before = memory.live;
        let space = space(&mut memory, true);
        let area = memory.live - before - 2;
        for entries in [1, 5000, 600] {
            let ldt = Ldt::new(entries, &mut memory).expect("memory");
            set(&space, Some(ldt), &mut memory).expect("memory");
        }
        if last {
            set(&space, None, &mut memory).expect("nothing to allocate");
        }
        // SAFETY: no CPU runs on it.
        unsafe { space.release(&mut memory) };
        assert_eq!(memory.live, before + area);
    }
}

/// With any number of frames left, a change happens or does not; nothing leaks.
#[test]
fn out_of_memory_changes_nothing() {
    for left in 0..25 {
        let mut memory = Memory::new();
        let space = space(&mut memory, true);
        let before = memory.live;
        let all = memory.left;
        memory.left = left;
        let made =
            Ldt::new(LDT_ENTRIES, &mut memory).and_then(|ldt| set(&space, Some(ldt), &mut memory));
        memory.left = all;
        // 16 pages and 3 tables.
        assert_eq!(made.is_ok(), left >= 19, "{left} frames left");
        assert_eq!(space.ldt_entries(), if made.is_ok() { LDT_ENTRIES } else { 0 });
        // SAFETY: no CPU runs on it.
        unsafe { space.release(&mut memory) };
        assert_eq!(memory.live, before - 2, "{left} frames left");
    }
}

#[test]
#[should_panic(expected = "no entry 1 in an LDT of 1")]
fn there_is_no_entry_behind_the_last() {
    let mut memory = Memory::new();
    let mut ldt = Ldt::new(1, &mut memory).expect("memory");
    ldt.set(1, Descriptor::EMPTY, &memory);
}
