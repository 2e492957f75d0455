//! Each rule of expectations, kept and broken.

mod form;

use super::*;
use crate::cpu::Cpu;
use crate::document::{Audit, Caught, CpuView, Filled, Kind, Place, Region, Severity};
use crate::made_up::{audit, finding, region};

pub const BASE: u64 = 0xffff_ffff_c000_0000;

pub const SOUND: &str = r#"
    [limits]
    bytes = 24576
    bytes-shared = 8192
    bytes-per-cpu = 8192
    pointers = 0

    [[visible]]
    kind = "idt"
    rights = "r--"
    global = true
    pages = 1

    [[visible]]
    kind = "entry-text"
    rights = "r-x"
    pages = 1
    address = "0xffffffff80000000..=0xffffffffffffffff"

    [[visible]]
    kind = "gdt-and-tss"
    name = "GDT, TSS*"
    rights = "r--"
    pages = 1
    per = "cpu"

    [[visible]]
    kind = "entry-stack"
    rights = "rw-"
    pages = 1
    per = "cpu"
    contents = ["0x0..=0x3f", "0xf00..=0xfff"]

    [[visible]]
    kind = "ldt"
    rights = "r--"
    pages = 2
    per = "process"
    optional = true
"#;

pub fn expectations(text: &str) -> Expectations {
    Expectations::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn with_rights(region: Region, writable: bool, executable: bool) -> Region {
    let mut region = region;
    (region.rights.writable, region.rights.executable) = (writable, executable);
    region
}

/// Two CPUs, one view, as `SOUND` declares it.
pub fn sound() -> Audit {
    let per_cpu = |cpu: u32| {
        let base = BASE + 0x10_0000 + u64::from(cpu) * 0x10_000;
        let stack = region(base + 0x1000, Kind::EntryStack, "entry stack", Some(cpu));
        [
            region(base, Kind::GdtAndTss, &format!("GDT, TSS of CPU {cpu}"), Some(cpu)),
            with_rights(stack, true, false),
        ]
    };
    let mut visible = vec![
        with_rights(region(BASE, Kind::EntryText, "entry text", None), false, true),
        region(BASE + 0x1000, Kind::Idt, "IDT", None),
    ];
    visible.extend((0..2).flat_map(per_cpu));
    let mut audit = audit(visible);
    for index in 0..2 {
        let cpu = Cpu { index, ..Cpu::default() };
        let paging = cpu.paging();
        audit.cpus.push(CpuView { cpu, paging, caught: Caught::Ring3, view: 0 });
    }
    audit
}

/// Index of a region in the first view.
fn at(audit: &mut Audit, kind: Kind) -> &mut Region {
    let is = |region: &&mut Region| region.name.as_ref().is_some_and(|name| name.kind == kind);
    audit.views[0].visible.iter_mut().find(is).expect("a region of this kind")
}

/// What is found after a change of the sound audit: identifiers, and the notes of all places.
fn found(change: impl FnOnce(&mut Audit)) -> (Vec<String>, String) {
    let mut audit = sound();
    change(&mut audit);
    let accepted = expectations(SOUND).apply(&mut audit);
    assert_eq!(accepted, []);
    let notes = audit.findings.iter().flat_map(|finding| &finding.places);
    let notes: Vec<&str> = notes.map(|place| &*place.note).collect();
    (audit.findings.iter().map(|finding| finding.id.clone()).collect(), notes.join("; "))
}

#[test]
fn what_is_as_declared_is_clean() {
    assert_eq!(found(|_| ()), (Vec::new(), String::new()));
}

#[test]
fn other_rights_are_not_declared() {
    let (ids, notes) = found(|audit| at(audit, Kind::Idt).rights.writable = true);
    assert!(ids.contains(&"not-declared".into()), "{ids:?}");
    assert!(notes.contains("rw-, where r-- is declared"), "{notes}");
    let (ids, _) = found(|audit| at(audit, Kind::EntryText).rights.executable = false);
    assert!(ids.contains(&"not-declared".into()), "{ids:?}");
}

#[test]
fn what_user_mode_may_access_must_say_so() {
    let (_, notes) = found(|audit| at(audit, Kind::EntryText).rights.user = true);
    assert!(notes.contains("user mode may access it"), "{notes}");
}

#[test]
fn only_what_is_declared_so_may_be_global() {
    assert_eq!(found(|audit| at(audit, Kind::Idt).rights.global = true).0, [""; 0]);
    let (ids, notes) = found(|audit| at(audit, Kind::EntryText).rights.global = true);
    assert!(ids.contains(&"not-declared".into()), "{ids:?}");
    assert!(notes.contains("global, which is not declared"), "{notes}");
}

#[test]
fn another_kind_another_name_and_another_place_are_not_declared() {
    let stack = region(BASE + 0x50_0000, Kind::TaskStack, "task stack", None);
    let (ids, notes) = found(|audit| audit.views[0].visible.push(stack));
    assert!(ids.contains(&"not-declared".into()), "{ids:?}");
    assert!(notes.contains("nothing declares task stack"), "{notes}");

    let unnamed = Region { name: None, ..region(BASE + 0x50_0000, Kind::Data, "", None) };
    let (_, notes) = found(|audit| audit.views[0].visible.push(unnamed));
    assert!(notes.contains("nothing tells what it is"), "{notes}");

    let (_, notes) = found(|audit| {
        at(audit, Kind::GdtAndTss).name.as_mut().expect("a name").text = "TSS of CPU 0".into();
    });
    assert!(notes.contains("nothing declares TSS of CPU 0"), "{notes}");

    let (_, notes) = found(|audit| at(audit, Kind::EntryText).address = 0xffff_8000_0000_0000);
    assert!(notes.contains("nothing declares entry text"), "{notes}");
}

#[test]
fn a_symbol_is_a_name_too() {
    let text = "[[visible]]\nname = \"entry_SYSCALL_64*\"\nrights = \"r--\"\npages = 1";
    let mut page = region(BASE, Kind::Data, "text", None);
    page.name.as_mut().expect("a name").symbol = Some("entry_SYSCALL_64+0x40".into());
    let mut audit = audit(vec![page]);
    expectations(text).apply(&mut audit);
    assert_eq!(audit.findings, []);
}

#[test]
fn more_pages_than_declared_are_not_declared() {
    let another = region(BASE + 0x2000, Kind::Idt, "IDT of CPU 1", None);
    let (ids, notes) = found(|audit| audit.views[0].visible.insert(2, another));
    assert_eq!(ids[0], "not-declared");
    assert!(notes.contains("page 2 of its kind, where 1 are declared"), "{notes}");

    let (_, notes) = found(|audit| at(audit, Kind::EntryStack).bytes = 0x2000);
    assert!(notes.contains("page 2 of its kind, where 1 for each CPU are declared"), "{notes}");
}

#[test]
fn pages_of_cpus_that_nobody_tells_apart_are_counted_together() {
    let nobodys = |audit: &mut Audit| {
        for region in &mut audit.views[0].visible {
            region.name.as_mut().expect("a name").cpu = None;
        }
    };
    assert_eq!(found(nobodys).0, [""; 0]);
    let (_, notes) = found(|audit| {
        nobodys(audit);
        at(audit, Kind::EntryStack).bytes = 0x2000;
    });
    assert!(notes.contains("page 3 of its kind, where 2 for all CPUs are declared"), "{notes}");
}

#[test]
fn each_process_has_its_own_pages() {
    let ldt = |pages: u64| {
        let ldt = region(BASE - 0x10_0000_0000, Kind::Ldt, "LDT", None);
        Region { bytes: pages * 0x1000, pages, ..ldt }
    };
    let (ids, _) = found(|audit| {
        audit.views.push(audit.views[0].clone());
        for (index, view) in audit.views.iter_mut().enumerate() {
            let physical = 0x8_0000 + index as u64 * 0x1_0000;
            view.visible.insert(0, Region { physical, ..ldt(2) });
        }
    });
    assert_eq!(ids, [""; 0]);
    let (ids, notes) = found(|audit| audit.views[0].visible.insert(0, ldt(3)));
    assert_eq!(ids[0], "not-declared");
    assert!(notes.contains("where 2 for each process are declared"), "{notes}");
}

#[test]
fn the_same_memory_in_every_view_or_under_more_addresses_is_counted_once() {
    let (ids, _) = found(|audit| {
        audit.views.push(audit.views[0].clone());
        let stack = at(audit, Kind::EntryStack).clone();
        let again = Region {
            address: BASE + 0x900_0000,
            bytes: 1 << 28,
            repeats: Some(stack.address),
            ..stack
        };
        audit.views[0].visible.push(again);
    });
    assert_eq!(ids, [""; 0]);
}

#[test]
fn what_must_be_there_and_is_not_is_missing() {
    let without = |audit: &mut Audit, kind| {
        let is = |region: &Region| region.name.as_ref().is_some_and(|name| name.kind == kind);
        let found = audit.views[0].visible.iter().position(is).expect("a region of this kind");
        audit.views[0].visible.remove(found);
    };
    let (ids, notes) = found(|audit| without(audit, Kind::Idt));
    assert_eq!((&*ids[0], &*notes), ("missing-declared", "idt is not there"));
    let (ids, notes) = found(|audit| without(audit, Kind::EntryStack));
    assert_eq!((&*ids[0], &*notes), ("missing-declared", "entry-stack of CPU 0 is not there"));
}

#[test]
fn what_stands_where_zero_is_declared_is_found() {
    let filled = |address, bytes| Filled { address, bytes };
    let stack = BASE + 0x10_1000;
    let (ids, _) = found(|audit| {
        audit.views[0].filled = vec![
            filled(BASE + 0x1000, 0x1000),
            filled(stack + 0x10, 0x30),
            filled(stack + 0xf00, 0x100),
        ];
    });
    assert_eq!(ids, [""; 0]);
    let (ids, notes) = found(|audit| audit.views[0].filled = vec![filled(stack + 0x38, 0x10)]);
    assert_eq!(ids, ["contents-not-declared"]);
    assert_eq!(notes, "not zero, at offset 0x38 of entry-stack");
    // From the page before, through all of this one, into the next.
    let (ids, _) = found(|audit| audit.views[0].filled = vec![filled(stack - 8, 0x2000)]);
    assert_eq!(ids, ["contents-not-declared"]);
}

/// A CPU that runs the kernel has its program's stack pointer in its page; one that runs the program has not.
#[test]
fn a_cpu_in_ring_0_may_show_more() {
    let relaxed = SOUND.replace(
        "contents = [\"0x0..=0x3f\", \"0xf00..=0xfff\"]",
        "contents = \"zero\"\ncontents-in-ring-0 = [\"0x0..=0x3f\"]",
    );
    let found = |stack: u64, caught: Caught, offset: u64| {
        let mut audit = sound();
        audit.views[0].filled = vec![Filled { address: BASE + stack + offset, bytes: 8 }];
        audit.cpus[1].caught = caught;
        expectations(&relaxed).apply(&mut audit);
        audit.findings.len()
    };
    let (first, second) = (0x10_1000, 0x11_1000);
    assert_eq!(found(second, Caught::PairInKernel, 0), 0);
    assert_eq!(found(second, Caught::Ring3, 0), 1, "it runs a program");
    assert_eq!(
        found(second, Caught::PairInKernel, 0x40),
        1,
        "that far into the page nothing may be"
    );
    assert_eq!(found(first, Caught::PairInKernel, 0), 1, "another CPU is in ring 0");
}

#[test]
fn limits_hold_for_sums_of_what_is_declared() {
    let (ids, notes) = found(|audit| audit.views[0].totals.pointers = 1);
    assert_eq!((&*ids[0], &*notes), ("limit-exceeded", "1, where 0 is the limit"));
    let (ids, notes) = found(|audit| audit.views[0].totals.visible_bytes = 28672);
    assert_eq!((&*ids[0], &*notes), ("limit-exceeded", "28672, where 24576 is the limit"));

    let tight = SOUND.replace("bytes-shared = 8192", "bytes-shared = 4096");
    let tight = tight.replace("bytes-per-cpu = 8192", "bytes-per-cpu = 4096");
    let mut audit = sound();
    expectations(&tight).apply(&mut audit);
    let titles: Vec<&str> = audit.findings.iter().map(|finding| &*finding.title).collect();
    let expected = [
        "shared visible bytes: 8192, where 4096 is the limit",
        "visible bytes of CPU 0: 8192, where 4096 is the limit",
        "visible bytes of CPU 1: 8192, where 4096 is the limit",
    ];
    assert_eq!(titles, expected);
}

#[test]
fn findings_about_declared_pages_go_and_others_stay() {
    let place = |address| Place { view: 0, address, bytes: 8, value: None, note: String::new() };
    let stack = BASE + 0x10_1000;
    let mut audit = sound();
    let mut of_pages = finding("writable-supervisor-page", Severity::Serious, 1);
    of_pages.places = vec![place(stack)];
    let mut one_elsewhere = finding("contents-not-declared", Severity::Warning, 2);
    one_elsewhere.places = vec![place(stack + 8), place(BASE + 0x70_0000)];
    let mut many = finding("global-supervisor-page", Severity::Note, 1000);
    many.places = vec![place(stack)];
    let mut other = finding("kernel-pointer", Severity::Serious, 1);
    other.places = vec![place(stack)];
    audit.findings = vec![other, of_pages, one_elsewhere, many];
    let without_limit = SOUND.replace("pointers = 0", "");
    expectations(&without_limit).apply(&mut audit);
    let left: Vec<_> = audit.findings.iter().map(|finding| (&*finding.id, finding.count)).collect();
    let expected =
        [("kernel-pointer", 1), ("contents-not-declared", 1), ("global-supervisor-page", 999)];
    assert_eq!(left, expected);
}

#[test]
fn findings_are_accepted_with_a_reason_and_up_to_a_number() {
    let accept = "[[accept]]\nfinding = \"malformed-tables\"\nreason = \"recursive\"\nmost = 2";
    let text = format!("{SOUND}\n{accept}");
    for (count, is_accepted) in [(2, true), (3, false)] {
        let mut audit = sound();
        audit.findings = vec![finding("malformed-tables", Severity::Warning, count)];
        let accepted = expectations(&text).apply(&mut audit);
        assert_eq!(accepted.len(), usize::from(is_accepted));
        assert_eq!(audit.findings.is_empty(), is_accepted);
        assert!(accepted.iter().all(|accepted| accepted.reason == "recursive"));
    }
}

#[test]
fn pointers_within_the_limit_are_accepted() {
    let text = SOUND.replace("pointers = 0", "pointers = 3");
    for (pointers, is_accepted) in [(3, true), (4, false)] {
        let mut audit = sound();
        audit.views[0].totals.pointers = pointers;
        audit.findings = vec![finding("kernel-pointer", Severity::Serious, pointers)];
        assert_eq!(expectations(&text).apply(&mut audit).len(), usize::from(is_accepted));
        assert_eq!(audit.findings.is_empty(), is_accepted);
    }
}
