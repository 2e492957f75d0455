//! Looks at made-up guests.

use super::*;
use crate::USER_ROOT;
use crate::cpu::Table;
use crate::document::{Finding, Kind};
use crate::synthetic::{Guest, NX, P, U, W};

const PROGRAM: u64 = 0x40_0000;
const IMAGE: u64 = 0xffff_ffff_8000_0000;
const ENTRY: u64 = 0xffff_ff80_f000_0000;
const USER: u64 = Guest::ROOT | USER_ROOT;
const RING_3: u8 = 3;

/// A guest that does everything right: one user page, one kernel page, one entry page.
fn isolated() -> Guest {
    let mut guest = Guest::new();
    guest.map(USER, PROGRAM, 0x8000, P | U);
    let programs = guest.table_of(USER, PROGRAM, 3);
    guest.change(Guest::ROOT, 0, |_| programs | P | W | U | NX);
    guest.map(Guest::ROOT, IMAGE, 0x9000, P | W);
    guest.map(Guest::ROOT, ENTRY, 0xa000, P);
    guest.map(USER, ENTRY, 0xb000, P);
    guest
}

fn cpu(index: u32, cr3: u64, cpl: u8) -> Cpu {
    Cpu { index, cr3, cpl, cr0: 0x8005_0033, cr4: 0x20, ..Cpu::default() }
}

fn audit(guest: &Guest, cpus: &[Cpu]) -> Result<Audit, Error> {
    let memory = guest.memory();
    look(&Subject {
        memory: &memory,
        cpus,
        source: "made up".into(),
        kernel_cr3: None,
        symbols: None,
        progress: &|done, total| assert!(done <= total),
    })
}

#[test]
fn a_pair_is_seen_from_either_root() {
    let cpus = [cpu(1, Guest::ROOT | 0x801, 0), cpu(0, USER, RING_3)];
    let audit = audit(&isolated(), &cpus).expect("tables");
    assert_eq!(audit.views.len(), 1);
    let caught: Vec<_> = audit.cpus.iter().map(|cpu| (cpu.cpu.index, cpu.caught)).collect();
    assert_eq!(caught, [(0, Caught::Ring3), (1, Caught::PairInKernel)]);
    let view = &audit.views[0];
    assert_eq!((view.user_root, view.kernel_root), (USER, Some(Guest::ROOT)));
    let addresses = |regions: &[Region]| regions.iter().map(|r| r.address).collect::<Vec<_>>();
    assert_eq!(addresses(&view.visible), [ENTRY]);
    assert_eq!(addresses(&view.user), [PROGRAM]);
    assert_eq!(addresses(&view.kernel), [ENTRY, IMAGE]);
    let totals = view.totals;
    assert_eq!((totals.visible_bytes, totals.visible_pages), (0x1000, 1));
    assert_eq!((totals.executable_bytes, totals.writable_bytes), (0x1000, 0));
    assert_eq!((totals.kernel_bytes, view.anomalies.len()), (0x2000, 0));
}

#[test]
fn a_base_that_was_cut_short_names_the_same_pages() {
    const GDT: u64 = ENTRY + 0x1000;
    const TSS: u64 = GDT + 0x80;
    let mut guest = isolated();
    guest.map(Guest::ROOT, GDT, 0xc000, P);
    guest.map(USER, GDT, 0xc000, P);
    let (low, high) = (TSS & 0xffff_ffff, TSS >> 32);
    let descriptor = 0x67 | (low & 0xff_ffff) << 16 | 0x8b << 40 | (low >> 24) << 56;
    guest.write(0xc000 + 0x40, descriptor);
    guest.write(0xc000 + 0x48, high);
    let named = |base| {
        let mut cpu = cpu(0, USER, RING_3);
        cpu.gdt = Table { base: GDT, limit: 0x7f };
        cpu.tss = Table { base, limit: 0x67 };
        audit(&guest, &[cpu]).expect("tables").views.remove(0).visible
    };
    let whole = named(TSS);
    let mut kinds = whole.iter().filter_map(|region| region.name.as_ref()).map(|name| name.kind);
    assert!(kinds.any(|kind| kind == Kind::GdtAndTss), "{whole:#?}");
    assert_eq!(named(low), whole);
}

#[test]
fn ring_3_on_the_kernel_root_sees_all_of_it() {
    let audit = audit(&isolated(), &[cpu(0, Guest::ROOT, RING_3)]).expect("tables");
    let view = &audit.views[0];
    assert_eq!((view.kernel_root, view.unused_user_root), (None, Some(USER)));
    assert_eq!(view.totals.visible_bytes, 0x2000);
}

#[test]
fn a_root_that_lies_where_a_user_root_may_is_not_taken_for_one() {
    let mut guest = Guest::new();
    guest.map(USER, PROGRAM, 0x8000, P | U);
    guest.map(USER, IMAGE, 0x9000, P | W);
    // What happens to lie below it is data, not tables.
    guest.write(Guest::ROOT, 0x13_0000_0027);
    let view = audit(&guest, &[cpu(0, USER, RING_3)]).expect("tables").views.remove(0);
    assert_eq!((view.kernel_root, view.unused_user_root), (None, None));
}

#[test]
fn two_processes_without_isolation_are_no_pair() {
    let mut guest = isolated();
    for slot in 0..512 {
        let entry = guest.word(Guest::ROOT + 8 * slot);
        guest.change(USER, slot, |_| entry);
    }
    let view = audit(&guest, &[cpu(0, USER, RING_3)]).expect("tables").views.remove(0);
    assert_eq!(view.kernel_root, None);
}

#[test]
fn a_cpu_without_tables_is_named() {
    let off = Cpu { index: 1, cr0: 0x6000_0010, ..Cpu::default() };
    let nothing_but = |cpu| audit(&isolated(), &[cpu]);
    let audit = audit(&isolated(), &[cpu(0, USER, RING_3), off.clone()]).expect("tables");
    assert_eq!((audit.cpus.len(), audit.unseen[0].index), (1, 1));
    assert_eq!(nothing_but(off).err(), Some(Error::NoTables));
}

#[test]
fn a_cpu_on_a_root_without_programs_is_named_unless_it_is_alone() {
    let mut guest = isolated();
    const SWAPPER: u64 = 0x4000;
    guest.map(SWAPPER, IMAGE, 0x9000, P | W);
    let idle = cpu(1, SWAPPER, 0);
    let busy = audit(&guest, &[cpu(0, USER, RING_3), idle.clone()]).expect("tables");
    assert_eq!((busy.views.len(), busy.unseen[0].index), (1, 1));
    let alone = audit(&guest, &[idle]).expect("tables");
    assert_eq!(alone.cpus[0].caught, Caught::RootInKernel);
}

#[test]
fn roots_outside_of_memory_are_an_error() {
    let wrong = cpu(0, 0x7_0000_0000, RING_3);
    let error = audit(&isolated(), &[wrong]).err();
    assert_eq!(error, Some(Error::Root { address: 0x7_0000_0000 }));
}

#[test]
fn a_visible_page_outside_of_memory_is_told() {
    let mut guest = isolated();
    guest.map(USER, ENTRY + 0x1000, 0x7_0000_0000, P);
    let view = audit(&guest, &[cpu(0, USER, RING_3)]).expect("tables").views.remove(0);
    let told: Vec<_> = view.anomalies.iter().map(|one| (one.kind, one.address)).collect();
    assert_eq!(told, [(AnomalyKind::PageOutsideMemory, ENTRY + 0x1000)]);
}

/// What is found in a guest whose CPU was caught in ring 3: identifiers and first addresses.
fn found(guest: &Guest) -> Vec<(String, Option<u64>)> {
    let audit = audit(guest, &[cpu(0, USER, RING_3)]).expect("tables");
    let first = |finding: &Finding| finding.places.first().map(|place| place.address);
    audit.findings.iter().map(|finding| (finding.id.clone(), first(finding))).collect()
}

#[test]
fn a_kernel_pointer_is_found_at_any_alignment_and_nothing_else_is() {
    let mut guest = isolated();
    // Into the entry area itself, to its end, into the program, to nowhere: all harmless.
    for (at, value) in [
        (0xb000, ENTRY + 8),
        (0xb018, ENTRY + 0x1000),
        (0xb008, PROGRAM),
        (0xb010, 0xffff_9999_0000_0000),
    ] {
        guest.write(at, value);
    }
    let pointers = |guest: &Guest| {
        let all = found(guest).into_iter();
        all.filter(|(id, _)| id == "kernel-pointer").map(|(_, at)| at).collect::<Vec<_>>()
    };
    assert_eq!(pointers(&guest), []);
    guest.write(0xb803, IMAGE + 0x123);
    assert_eq!(pointers(&guest), [Some(ENTRY + 0x803)]);
    // The top of a kernel stack, where nothing is mapped.
    guest.write(0xb803, IMAGE + 0x1000);
    assert_eq!(pointers(&guest), [Some(ENTRY + 0x803)]);
}

#[test]
fn memory_under_two_addresses_counts_once() {
    let mut guest = isolated();
    guest.map(USER, ENTRY + 0x10_0000, 0xb000, P);
    let audit = audit(&guest, &[cpu(0, USER, RING_3)]).expect("tables");
    let totals = audit.views[0].totals;
    assert_eq!((totals.visible_pages, totals.visible_bytes), (2, 0x1000));
}

#[test]
fn a_missing_nx_is_found() {
    let mut guest = isolated();
    let executable = ("user-half-executable".to_owned(), Some(PROGRAM));
    assert!(!found(&guest).contains(&executable));
    guest.change(Guest::ROOT, 0, |entry| entry & !NX);
    assert!(found(&guest).contains(&executable));
}

#[test]
fn more_roots_than_are_looked_at_are_named() {
    let guest = isolated();
    let cpus: Vec<Cpu> = (0..VIEWS as u32 + 1)
        .map(|index| {
            // All but the first roots lie outside of memory.
            cpu(index, USER + (u64::from(index) << 32), RING_3)
        })
        .collect();
    let audit = audit(&guest, &cpus).expect("tables");
    assert_eq!((audit.views.len(), audit.unseen.len()), (VIEWS, 1));
    assert_eq!(audit.unseen[0].index, VIEWS as u32);
}

#[test]
fn a_kernel_root_that_is_named_is_no_partner_of_what_the_kernel_runs_under() {
    const USER_ALONE: u64 = 0x4000;
    let mut guest = isolated();
    let programs = guest.table_of(USER, PROGRAM, 3);
    guest.change(USER_ALONE, 0, |_| programs | P | W | U);
    guest.map(USER_ALONE, ENTRY, 0xb000, P);
    let third = 0x6000;
    guest.map(third, IMAGE, 0x9000, P | W);
    guest.map(third, PROGRAM, 0x8000, P | U);
    let memory = guest.memory();
    let audit = look(&Subject {
        memory: &memory,
        cpus: &[cpu(0, USER_ALONE, RING_3), cpu(1, third, 0)],
        source: "made up".into(),
        kernel_cr3: Some(Guest::ROOT),
        symbols: None,
        progress: &|_, _| (),
    });
    let audit = audit.expect("tables");
    assert_eq!((audit.views.len(), audit.unseen.len()), (1, 1));
    assert_eq!(audit.views[0].kernel_root, Some(Guest::ROOT));
}
