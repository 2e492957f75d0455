//! What both views show, read back from the tables that the library made in a host's memory.

mod contents;
#[path = "../host/mod.rs"]
mod host;
mod machine;
mod shared;

use machine::{KERNEL_PAGE, Machine};
use ringwall::core::area::MAX_CPUS;
use ringwall::core::exposed::visible_bytes;
use ringwall::core::paging::{ADDRESS_MASK, GLOBAL, NO_EXECUTE, PRESENT, USER, WRITABLE};
use ringwall::{AddressSpace, Isolation, MapError, Setup, SetupError};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn the_user_view_is_the_exposed_set() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    for cpus in 1..=3 {
        machine.add_cpu(&mut isolation, cpus - 1).expect("a CPU");
        let visible = machine.visible(&isolation);
        assert_eq!(visible.len() as u64 * 4096, visible_bytes(cpus));
        for (address, leaf) in &visible {
            assert!(isolation.area().contains(*address));
            assert_eq!(leaf & USER, 0, "{address:#x}");
            assert!(leaf & WRITABLE == 0 || leaf & NO_EXECUTE != 0, "{address:#x} is W and X");
        }
    }
}

#[test]
fn the_views_split_where_the_exposed_set_says() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    machine.add_cpu(&mut isolation, 0).expect("a CPU");
    let visible = machine.visible(&isolation);
    let kernel = machine.leaves(machine.root.start_address().as_u64());
    let cpu = isolation.area().cpu(0).expect("CPU 0");
    for (address, row) in ringwall::core::exposed::pages(isolation.area(), cpu) {
        let frame =
            |leaves: &BTreeMap<u64, u64>| leaves.get(&address).map(|leaf| leaf & ADDRESS_MASK);
        match (frame(&visible), frame(&kernel)) {
            (Some(user), Some(kernel)) => assert_eq!(user != kernel, row.split, "{}", row.name),
            (None, Some(_)) => assert_eq!(row.user, ringwall::core::exposed::Access::Absent),
            other => panic!("{}: {other:?}", row.name),
        }
    }
    assert_eq!(
        kernel[&cpu.alias()] & ADDRESS_MASK,
        visible[&cpu.stack()] & ADDRESS_MASK,
        "the alias is the user view's stack page"
    );
}

/// Where a switch flushes, what is the same in both views need not go. Where PCID spares the flush, nothing is global.
#[test]
fn global_is_what_both_views_show_alike_where_there_is_no_pcid() {
    for (pcid, expected) in [(false, 2), (true, 0)] {
        let mut machine = Machine::new();
        let setup = Setup { pcid, ..machine.setup(true) };
        // SAFETY: no CPU runs on these tables.
        let isolation = unsafe { Isolation::new(&setup, &mut machine.memory) };
        let mut isolation = isolation.expect("entry area");
        machine.add_cpu(&mut isolation, 0).expect("a CPU");
        let kernel = machine.leaves(machine.root.start_address().as_u64());
        let visible = machine.visible(&isolation);
        let is_global = |leaf: &&u64| **leaf & GLOBAL != 0;
        assert_eq!(visible.values().filter(is_global).count(), expected, "PCID {pcid}");
        for (address, leaf) in kernel {
            let same = visible.get(&address).map(|shown| shown & (ADDRESS_MASK | GLOBAL));
            let split = same != Some(leaf & (ADDRESS_MASK | GLOBAL));
            assert!(leaf & GLOBAL == 0 || !split, "{address:#x} has two views");
        }
    }
}

#[test]
fn a_global_page_of_the_kernels_is_refused() {
    let mut machine = Machine::new();
    machine.map_kernel_page(PRESENT | WRITABLE | GLOBAL);
    // SAFETY: no CPU runs on these tables.
    let refused = unsafe { Isolation::new(&machine.setup(true), &mut machine.memory) }.err();
    assert_eq!(refused, Some(SetupError::GlobalPage(KERNEL_PAGE)));
    machine.isolation(false);
}

/// As many CPUs as the layout has room for, added in any order, show 8 KiB each and nothing in common.
#[test]
fn all_512_cpus_have_their_place() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    for index in 0..MAX_CPUS {
        // 5 has no factor in common with 512: every index once.
        machine.add_cpu(&mut isolation, index * 5 % MAX_CPUS).expect("a CPU");
    }
    let one_more = machine.add_cpu(&mut isolation, MAX_CPUS);
    assert_eq!(one_more, Err(SetupError::NoSuchCpu(MAX_CPUS)));
    let again = machine.add_cpu(&mut isolation, 77);
    assert!(matches!(again, Err(SetupError::Map(MapError::AlreadyMapped(_)))), "{again:?}");
    let visible = machine.visible(&isolation);
    assert_eq!(visible.len() as u64 * 4096, visible_bytes(MAX_CPUS));
    let area = isolation.area();
    let frames: BTreeSet<u64> = visible.values().map(|leaf| leaf & ADDRESS_MASK).collect();
    assert_eq!(frames.len(), visible.len(), "two of them share a frame");
    for cpu in (0..MAX_CPUS).map(|index| area.cpu(index).expect("room")) {
        assert!(visible.contains_key(&cpu.gdt()) && visible.contains_key(&cpu.stack()));
        assert!(!visible.contains_key(&cpu.alias()) && !visible.contains_key(&cpu.data()));
    }
}

/// Each CPU's counters are found from outside, and only those of CPUs that were made.
#[test]
fn a_cpu_that_was_made_has_counters() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    machine.add_cpu(&mut isolation, 2).expect("a CPU");
    let counted = |cpu| isolation.counters(cpu, &machine.memory);
    assert_eq!([0, 1, 3, 511, 512].map(counted), [None; 5]);
    let counters = counted(2).expect("CPU 2");
    assert_eq!(counters.cr3_writes(), 0);
    assert!(counters.nmis().all(|(_, count)| count == 0));
}

/// What an open process needs costs no visible byte, and without the wish for it nothing is there.
#[test]
fn the_open_text_is_in_no_user_root() {
    let mut machine = Machine::new();
    let isolation = machine.isolation(true);
    assert!(isolation.switchable());
    let open = [isolation.area().open_text(), isolation.area().open_idt()];
    let visible = machine.visible(&isolation);
    let kernel = machine.leaves(machine.root.start_address().as_u64());
    for page in open {
        assert!(!visible.contains_key(&page) && kernel.contains_key(&page), "{page:#x}");
        assert_eq!(kernel[&page] & WRITABLE, 0);
    }
    for (isolate, switchable) in [(true, false), (false, true)] {
        let mut machine = Machine::new();
        let setup = Setup { switchable, ..machine.setup(isolate) };
        // SAFETY: no CPU runs on these tables.
        let isolation = unsafe { Isolation::new(&setup, &mut machine.memory) }.expect("an area");
        assert!(!isolation.switchable());
        let kernel = machine.leaves(machine.root.start_address().as_u64());
        assert!(!kernel.contains_key(&isolation.area().open_text()));
    }
}

#[test]
fn without_isolation_there_is_one_root() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(false);
    machine.add_cpu(&mut isolation, 0).expect("a CPU");
    let space = AddressSpace::new(&isolation, &mut machine.memory).expect("memory");
    assert_eq!(space.user_root(), space.kernel_root().start_address().as_u64());
}

#[test]
fn a_cpu_for_which_there_was_no_memory_is_made_when_there_is() {
    for index in [0, 200] {
        for left in 0.. {
            let mut machine = Machine::new();
            let mut isolation = machine.isolation(true);
            let before = machine.visible(&isolation);
            let plenty = machine.memory.left;
            machine.memory.left = left;
            let made = machine.add_cpu(&mut isolation, index);
            if made.is_ok() {
                assert!(left > 4, "four pages were made of {left} frames");
                break;
            }
            assert_eq!(made, Err(SetupError::Map(MapError::NoFrame)));
            machine.memory.left = plenty;
            assert_eq!(machine.visible(&isolation), before, "with {left} frames");
            // The tables that it made by then stay, nothing else does.
            let live = machine.memory.live;
            machine.memory.left = 0;
            assert_eq!(machine.add_cpu(&mut isolation, index), made);
            assert_eq!(machine.memory.live, live, "with {left} frames");
            machine.memory.left = plenty;
            machine.add_cpu(&mut isolation, index).expect("a CPU");
            let twice = machine.add_cpu(&mut isolation, index);
            let page = isolation.area().cpu(index).expect("a place").gdt();
            assert_eq!(twice, Err(SetupError::Map(MapError::AlreadyMapped(page))));
        }
    }
}

#[test]
fn mistakes_in_the_setup_are_named() {
    let mut machine = Machine::new();
    let mut setup = machine.setup(true);
    setup.kernel_root += 1;
    let root = setup.kernel_root.start_address().as_u64();
    // SAFETY: no CPU runs on these tables.
    let unaligned = unsafe { Isolation::new(&setup, &mut machine.memory) }.err();
    assert_eq!(unaligned, Some(SetupError::RootNotAligned(root)));
    for vector in [1, 2, 8, 13, 14, 18] {
        let vectors = [3, vector];
        let setup = Setup { user_vectors: &vectors, ..machine.setup(true) };
        // SAFETY: no CPU runs on these tables.
        let refused = unsafe { Isolation::new(&setup, &mut machine.memory) }.err();
        assert_eq!(refused, Some(SetupError::BadUserVector(vector)));
    }
    // SAFETY: an entry of the test's own root.
    unsafe { *machine.memory.word(machine.root.start_address().as_u64() + 300 * 8) = PRESENT };
    for slot in [0, 255, 300, 511, 512] {
        let setup = Setup { private_slot: slot, ..machine.setup(true) };
        // SAFETY: no CPU runs on these tables.
        let refused = unsafe { Isolation::new(&setup, &mut machine.memory) }.err();
        assert_eq!(refused, Some(SetupError::PrivateSlot(slot)));
    }
    let mut isolation = machine.isolation(true);
    machine.add_cpu(&mut isolation, 0).expect("a CPU");
    assert!(matches!(machine.add_cpu(&mut isolation, 0), Err(SetupError::Map(_))), "twice");
    assert_eq!(machine.add_cpu(&mut isolation, 512), Err(SetupError::NoSuchCpu(512)));
}
