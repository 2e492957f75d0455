//! Each finding on a guest that shows it; the sound guest, and others that come close, do not.

use super::catalogue::ALL;
use crate::PhysicalMemory;
use crate::cpu::Cpu;
use crate::document::{Audit, Finding, Severity};
use crate::sound::*;
use crate::synthetic::{Guest, LARGE, NX, P, U, W};

const G: u64 = 1 << 8;

fn of<'a>(audit: &'a Audit, id: &str) -> Vec<&'a Finding> {
    audit.findings.iter().filter(|finding| finding.id == id).collect()
}

fn ids(audit: &Audit) -> Vec<&str> {
    audit.findings.iter().map(|finding| finding.id.as_str()).collect()
}

/// The only finding of a guest that one change made unsound.
#[track_caller]
fn only(change: impl FnOnce(&mut Guest, &mut Cpu)) -> Finding {
    let (mut guest, mut cpu) = (guest(), cpu());
    change(&mut guest, &mut cpu);
    let audit = audit(&guest, &[cpu]);
    assert_eq!(audit.findings.len(), 1, "{:?}", ids(&audit));
    audit.findings[0].clone()
}

/// Maps a page for both roots.
fn map_both(guest: &mut Guest, address: u64, physical: u64, flags: u64) {
    guest.map(USER, address, physical, flags);
    guest.map(KERNEL, address, physical, flags);
}

#[test]
fn a_sound_guest_has_no_finding() {
    let audit = audit(&guest(), &[cpu()]);
    assert_eq!(audit.findings, []);
    assert_eq!(audit.views[0].totals.visible_bytes, 0x4000);
}

#[test]
fn ring_3_on_the_kernels_root_is_told_with_what_it_can_see() {
    let cpu = Cpu { cr3: KERNEL, ..cpu() };
    let audit = audit(&guest(), &[cpu]);
    assert_eq!(ids(&audit), ["kernel-root-in-ring-3", "kernel-mapped-whole"]);
    assert_eq!(audit.findings[0].severity, Severity::Critical);
    assert_eq!(audit.findings[0].places[0].value, Some(KERNEL));
}

/// An IDT and a text of its own, in the kernel root alone.
fn open(cpu: Cpu) -> (Guest, Cpu) {
    const OPEN_IDT: u64 = TEXT + 0x9000;
    let mut guest = guest();
    guest.map(KERNEL, OPEN_IDT, IDT_AT, P | NX);
    (guest, Cpu { cr3: KERNEL, idt: crate::cpu::Table { base: OPEN_IDT, ..cpu.idt }, ..cpu })
}

#[test]
fn a_process_whose_isolation_is_switched_off_is_no_kernel_without_any() {
    for cpl in [3, 0] {
        let (guest, cpu) = open(Cpu { cpl, ..cpu() });
        let audit = audit(&guest, &[cpu]);
        assert_eq!(ids(&audit), ["process-open"], "CPL {cpl}");
        let view = &audit.views[0];
        assert!(view.switched_off);
        assert_eq!((view.user_root, view.unused_user_root), (KERNEL, Some(USER)));
        let place = &audit.findings[0].places[0];
        assert_eq!(place.value, Some(KERNEL));
        assert!(place.note.contains(&format!("{USER:#x}")), "{}", place.note);
    }
}

#[test]
fn gates_of_an_unknown_place_switch_nothing_off() {
    let (guest, mut cpu) = open(cpu());
    cpu.idt.base = 0;
    assert!(!ids(&audit(&guest, &[cpu])).contains(&"process-open"));
}

#[test]
fn a_kernel_mapped_whole_is_one_finding_and_not_one_for_each_page() {
    let found = only(|guest, _| {
        // Without a pair: one root for both, with the direct map in it.
        for slot in 0..512 {
            let entry = guest.word(KERNEL + 8 * slot);
            guest.change(USER, slot, |_| entry);
            guest.change(KERNEL, slot, |_| 0);
        }
    });
    assert_eq!((found.id.as_str(), found.severity), ("kernel-mapped-whole", Severity::Critical));
    assert!(found.title.contains("4 MiB"), "{}", found.title);
}

#[test]
fn a_direct_map_in_the_user_root_of_a_pair_is_the_kernel_mapped_whole() {
    let mut guest = guest();
    let entry = guest.word(KERNEL + 8 * ((DIRECT_MAP >> 39) & 511));
    guest.change(USER, (DIRECT_MAP >> 39) & 511, |_| entry);
    assert_eq!(ids(&audit(&guest, &[cpu()]))[0], "kernel-mapped-whole");
}

#[test]
fn a_root_without_a_partner_that_hides_the_kernel_is_isolated_all_the_same() {
    let found = only(|guest, _| {
        for slot in 0..512 {
            guest.change(KERNEL, slot, |_| 0);
        }
    });
    assert_eq!(found.id, "kernel-root-unknown");
}

#[test]
fn a_root_of_a_cpu_in_the_kernel_is_not_called_user_modes() {
    let mut guest = guest();
    for slot in 0..512 {
        let entry = guest.word(KERNEL + 8 * slot);
        guest.change(KERNEL, slot, |_| 0);
        guest.change(USER, slot, |_| entry);
    }
    let cpu = Cpu { cpl: 0, rip: IMAGE, ..cpu() };
    let audit = audit(&guest, &[cpu]);
    assert_eq!(ids(&audit), ["kernel-mapped-whole", "not-seen-in-ring-3"]);
    assert_eq!(audit.findings[0].severity, Severity::Serious);
}

#[test]
fn a_third_root_in_the_kernel_accuses_nobody_who_was_seen_to_isolate() {
    const THIRD: u64 = 0x4000;
    let mut guest = guest();
    for slot in 0..512 {
        let entry = guest.word(KERNEL + 8 * slot);
        guest.change(THIRD, slot, |_| entry);
    }
    let idle = Cpu { index: 1, cpl: 0, cr3: THIRD, ..cpu() };
    let audit = audit(&guest, &[cpu(), idle]);
    assert_eq!(ids(&audit), ["not-seen-in-ring-3"]);
}

#[test]
fn a_large_page_is_searched_though_a_small_one_begins_where_it_does() {
    const LARGE_AT: u64 = 1 << 21;
    let mut guest = guest();
    let (small, large) = (STACKS + 0x2000, TEXT + LARGE_AT);
    map_both(&mut guest, small, LARGE_AT, P | NX);
    for root in [KERNEL, USER] {
        let directory = guest.table_of(root, large, 2);
        guest.change(directory, (large >> 21) & 511, |_| LARGE_AT | P | NX | LARGE);
    }
    let below = guest.memory();
    let memory = |address: u64, buffer: &mut [u8]| {
        if address < LARGE_AT {
            return below.read(address, buffer);
        }
        let pointer = (IMAGE + 0x10).to_le_bytes();
        for (byte, at) in buffer.iter_mut().zip(address..) {
            let offset = at.wrapping_sub(LARGE_AT + 0x5000) as usize;
            *byte = pointer.get(offset).copied().unwrap_or(0);
        }
        true
    };
    let audit = audit_of(&memory, &[cpu()], None);
    let found = of(&audit, "kernel-pointer");
    assert_eq!(found[0].places[0].address, large + 0x5000);
}

#[test]
fn writable_memory_is_for_stacks_alone() {
    let found = only(|guest, _| map_both(guest, STACKS + 0x2000, 0x2_8000, P | W | NX));
    assert_eq!((found.id.as_str(), found.count), ("writable-supervisor-page", 1));
    assert_eq!(found.places[0].address, STACKS + 0x2000);
    let found = only(|guest, _| map_both(guest, GDT, GDT_AT, P | W | NX));
    assert_eq!(found.places[0].note, "GDT and TSS of CPU 0");
}

#[test]
fn text_that_no_way_in_leads_to_is_told() {
    let found = only(|guest, _| map_both(guest, TEXT + 0x10_0000, 0x2_8000, P));
    assert_eq!(found.id, "executable-supervisor-page");
    // A way in leads to it: then it is entry text.
    let mut guest = guest();
    map_both(&mut guest, TEXT + 0x10_0000, 0x2_8000, P);
    let cpu = Cpu { lstar: Some(TEXT + 0x10_0040), ..cpu() };
    assert_eq!(audit(&guest, &[cpu]).findings, []);
}

/// The sound guest with its entry text at the start of a large page of INT3, and these bytes at its end.
fn large_text(code: &[u8]) -> Audit {
    const LARGE_AT: u64 = 1 << 21;
    let mut guest = guest();
    let text = TEXT + LARGE_AT;
    for root in [KERNEL, USER] {
        let directory = guest.table_of(root, text, 2);
        guest.change(directory, (text >> 21) & 511, |_| LARGE_AT | P | LARGE);
    }
    for vector in 0..32 {
        gate(&mut guest, IDT_AT, vector, text + 16 * vector, 0);
        // The old text stays visible, as nothing that can be executed.
        for root in [KERNEL, USER] {
            guest.map(root, TEXT, TEXT_AT, P | NX);
        }
    }
    let below = guest.memory();
    let memory = |address: u64, buffer: &mut [u8]| {
        if address < LARGE_AT {
            return below.read(address, buffer);
        }
        for (byte, at) in buffer.iter_mut().zip(address - LARGE_AT..) {
            let from_end = (LARGE_AT - 1).wrapping_sub(at) as usize;
            *byte = code.get(from_end).copied().unwrap_or(0xcc);
        }
        true
    };
    audit_of(&memory, &[cpu()], None)
}

#[test]
fn code_behind_entry_text_on_its_own_page_is_worse_than_padding() {
    let padding = large_text(&[0x90, 0]);
    assert_eq!(ids(&padding), ["executable-supervisor-page"]);
    assert_eq!(padding.findings[0].severity, Severity::Note);
    let code = large_text(&[0xc3, 0x08]);
    assert_eq!(code.findings[0].severity, Severity::Warning);
    let place = &code.findings[0].places[1];
    assert_eq!((place.address, place.bytes), (TEXT + (1 << 22) - 2, 2));
}

#[test]
fn writable_text_is_serious() {
    let found = only(|guest, _| map_both(guest, TEXT, TEXT_AT, P | W));
    assert_eq!((found.id.as_str(), found.severity), ("writable-and-executable", Severity::Serious));
}

#[test]
fn the_user_bit_in_the_kernel_half_is_serious_but_for_vsyscall() {
    let found = only(|guest, _| map_both(guest, IDT, IDT_AT, P | U | NX));
    assert_eq!(
        (found.id.as_str(), found.severity),
        ("kernel-half-user-accessible", Severity::Serious)
    );
    let vsyscall = |flags| {
        only(move |guest, _| map_both(guest, 0xffff_ffff_ff60_0000, 0x2_8000, P | U | flags))
    };
    assert_eq!(vsyscall(NX).severity, Severity::Note);
    assert_eq!(vsyscall(0).severity, Severity::Warning);
}

#[test]
fn pointers_are_told_by_what_they_lead_to() {
    let mut guest = guest();
    // Unaligned, into text; just past a stack; into the direct map. Not: the entry area itself, its end, nowhere.
    guest.write(GDT_AT + 0x803, IMAGE + 0x123);
    guest.write(GDT_AT + 0x810, TASK_STACK + 0x4000);
    guest.write(GDT_AT + 0x818, DIRECT_MAP + 0x8000);
    guest.write(GDT_AT + 0x820, TEXT + 8);
    guest.write(GDT_AT + 0x828, STACKS + 0x1000);
    guest.write(GDT_AT + 0x830, 0xffff_9999_0000_0000);
    let frame = [PROGRAM, 0x33, 0x202, 0x40_0ff0, 0x2b];
    for (word, offset) in frame.iter().zip((0x3fd8..).step_by(8)) {
        guest.write(TASK_STACK_AT + offset, *word);
    }
    let audit = audit(&guest, &[cpu()]);
    assert_eq!(audit.views[0].totals.pointers, 3);
    let found = of(&audit, "kernel-pointer")[0];
    assert_eq!(found.count, 3);
    let places: Vec<_> = found.places.iter().map(|place| (place.address, place.value)).collect();
    let expected = [
        (GDT + 0x803, Some(IMAGE + 0x123)),
        (GDT + 0x810, Some(TASK_STACK + 0x4000)),
        (GDT + 0x818, Some(DIRECT_MAP + 0x8000)),
    ];
    assert_eq!(places, expected);
    assert!(found.places[0].note.ends_with("points into kernel image: text"), "{found:?}");
    assert!(found.places[1].note.ends_with("the end of task stack"), "{found:?}");
    assert!(found.places[2].note.contains("offset 0x818 of GDT and TSS of CPU 0"), "{found:?}");
}

#[test]
fn a_gate_or_a_descriptor_that_leads_to_the_kernel_is_a_pointer() {
    let found = only(|guest, _| gate(guest, IDT_AT, 14, IMAGE + 0x40, 0));
    let place = &found.places[0];
    assert_eq!((found.id.as_str(), place.address), ("kernel-pointer", IDT + 14 * 16));
    assert_eq!(place.value, Some(IMAGE + 0x40));
    let found = only(|guest, _| system_descriptor(guest, GDT_AT + 0x18, 0x82, IMAGE + 0x2000));
    assert_eq!((found.places[0].address, found.count), (GDT + 0x18, 1));
}

#[test]
fn global_pages_are_as_bad_as_what_they_keep() {
    let mut same = guest();
    map_both(&mut same, IDT, IDT_AT, P | NX | G);
    let mut split = guest();
    split.map(USER, STACKS, STACKS_AT, P | W | NX | G);
    let mut hidden = guest();
    hidden.map(KERNEL, IMAGE, IMAGE_AT, P | G);
    let severity = |guest: &Guest| {
        let audit = audit(guest, &[cpu()]);
        let found = of(&audit, "global-supervisor-page");
        assert_eq!((found.len(), audit.findings.len()), (1, 1), "{:?}", ids(&audit));
        found[0].severity
    };
    assert_eq!(severity(&same), Severity::Note);
    assert_eq!(severity(&split), Severity::Serious);
    assert_eq!(severity(&hidden), Severity::Serious);
    // Without CR4.PGE the bit means nothing.
    let cpu = Cpu { cr4: 0x20, ..cpu() };
    assert_eq!(audit(&hidden, &[cpu]).findings, []);
}

#[test]
fn a_visible_task_stack_is_serious_however_it_is_told() {
    // RSP0 names a stack of four pages, as in a kernel that enters on the task's own.
    let found = only(|guest, _| {
        for page in 0..4 {
            let at = TASK_STACK_AT + page * 0x1000;
            guest.map(USER, TASK_STACK + page * 0x1000, at, P | W | NX);
        }
        guest.write(TSS_AT + 4, TASK_STACK + 0x4000);
        // The old frame would be left over.
        (0..5).for_each(|word| guest.write(STACKS_AT + 0x7d8 + 8 * word, 0));
    });
    assert_eq!((found.id.as_str(), found.severity), ("task-stack-visible", Severity::Serious));
    // Nothing names it, but it ends in a frame of ring 3.
    let mut guest = guest();
    for page in 0..4 {
        let at = TASK_STACK_AT + page * 0x1000;
        guest.map(USER, TASK_STACK + page * 0x1000, at, P | W | NX);
    }
    let frame = [PROGRAM, 0x33, 0x202, 0x40_0ff0, 0x2b];
    for (word, offset) in frame.iter().zip((0x3fd8..).step_by(8)) {
        guest.write(TASK_STACK_AT + offset, *word);
    }
    let audit = audit(&guest, &[cpu()]);
    assert_eq!(of(&audit, "task-stack-visible").len(), 1, "{:?}", ids(&audit));
}

#[test]
fn bytes_that_nothing_needs_are_counted() {
    let found = only(|guest, _| guest.write(STACKS_AT + 0x110, 0x1234));
    assert_eq!((found.id.as_str(), found.severity), ("contents-not-declared", Severity::Note));
    assert_eq!(found.title, "2 bytes on stacks are not zero, in 1 region");
    assert_eq!((found.places[0].address, found.places[0].bytes), (STACKS + 0x110, 8));
    // On a data page they are worse.
    let found = only(|guest, _| {
        map_both(guest, STACKS + 0x2000, 0x2_8000, P | NX);
        guest.write(0x2_8020, 7);
    });
    assert_eq!((found.id.as_str(), found.severity), ("contents-not-declared", Severity::Warning));
}

#[test]
fn the_frame_of_another_program_is_left_over() {
    let found = only(|guest, _| guest.write(STACKS_AT + 0x800 - 40, 0x7000_1000));
    assert_eq!(found.id, "contents-not-declared");
}

#[test]
fn user_memory_that_the_roots_map_differently_is_told() {
    const OTHER: u64 = 0x80_0000_0000;
    let found = only(|guest, _| guest.map(USER, OTHER, 0x2_8000, P | U));
    assert_eq!(found.id, "user-halves-disagree");
    assert_eq!(found.places[0].note, "mapped for user mode, not for the kernel");
    let found = only(|guest, _| {
        guest.map(USER, OTHER, 0x2_8000, P | U);
        guest.map(KERNEL, OTHER, 0x2_9000, P | U | NX);
    });
    assert_eq!(found.places[0].note, "the roots map it to different memory");
    let found = only(|guest, _| {
        guest.map(USER, OTHER, 0x2_8000, P | U);
        guest.map(KERNEL, OTHER, 0x2_8000, P | U | W | NX);
    });
    assert_eq!((found.count, found.places[0].address), (1, OTHER));
}

#[test]
fn a_kernel_root_without_nx_over_user_memory_is_told() {
    let found = only(|guest, _| guest.change(KERNEL, 0, |entry| entry & !NX));
    assert_eq!((found.id.as_str(), found.places[0].address), ("user-half-executable", PROGRAM));
}

#[test]
fn areas_of_two_cpus_are_told() {
    let (mut guest, first) = (guest(), cpu());
    let second = Cpu {
        index: 1,
        gdt: crate::cpu::Table { base: GDT + 0x1_0000, limit: 0x37 },
        tss: crate::cpu::Table { base: TSS + 0x1_0000, limit: 0x67 },
        ..cpu()
    };
    map_both(&mut guest, GDT + 0x1_0000, 0x2_8000, P | NX);
    let audit = audit(&guest, &[first, second]);
    assert_eq!(ids(&audit), ["other-cpus-visible"]);
    assert_eq!(audit.findings[0].title, "the areas of 2 CPUs are visible to each, 8 KiB each");
}

#[test]
fn entry_text_at_the_images_own_address_moves_with_it() {
    let found = only(|guest, _| {
        guest.map(USER, IMAGE, IMAGE_AT, P);
        for vector in 0..32 {
            gate(guest, IDT_AT, vector, IMAGE + 16 * vector, 0);
        }
        for root in [KERNEL, USER] {
            guest.map(root, TEXT, TEXT_AT, P | NX);
        }
    });
    assert_eq!(found.id, "moves-with-kernel");
    assert!(found.title.contains("the kernel image"), "{}", found.title);
    let found = only(|guest, _| {
        guest.map(USER, DIRECT_MAP + 0x2_8000, 0x2_8000, P | NX);
    });
    assert!(found.title.contains("the direct map"), "{}", found.title);
}

#[test]
fn malformed_entries_are_told_and_loops_only_noted() {
    let found = only(|guest, _| guest.change(USER, 300, |_| 0x7_0000_0000 | P));
    assert_eq!((found.id.as_str(), found.severity), ("malformed-tables", Severity::Warning));
    assert!(found.places[0].note.starts_with("a table outside of memory"), "{found:?}");
    let mut guest = guest();
    guest.change(KERNEL, 300, |_| KERNEL | P | W);
    let audit = audit(&guest, &[cpu()]);
    assert!(
        of(&audit, "malformed-tables").iter().all(|found| found.severity == Severity::Note),
        "{:?}",
        audit.findings
    );
}

#[test]
fn a_user_root_that_names_itself_shows_its_tables_and_not_the_kernel() {
    let mut guest = guest();
    guest.change(USER, 300, |_| USER | P | W | NX);
    let audit = audit(&guest, &[cpu()]);
    assert_eq!(of(&audit, "page-tables-visible").len(), 1, "{:?}", ids(&audit));
    assert_eq!(of(&audit, "kernel-mapped-whole").len(), 0, "{:?}", ids(&audit));
}

#[test]
fn memory_between_repetitions_is_not_shown() {
    let mut guest = guest();
    // Espfix stacks begin below the root in physical memory, and reach far beyond it in virtual memory.
    for step in 0..6 {
        guest.map(USER, 0xffff_ff00_0000_0000 + step * 0x1_0000, 0x1000, P | NX);
    }
    assert_eq!(audit(&guest, &[cpu()]).findings, []);
}

#[test]
fn handlers_all_over_the_text_do_not_make_it_entry_text() {
    // A page between two targets that are far apart.
    let found = only(|guest, _| {
        for page in 1..8 {
            for root in [KERNEL, USER] {
                guest.map(root, TEXT - 0x1_0000 + page * 0x1000, 0x2_8000 + page * 0x1000, P);
            }
        }
        gate(guest, IDT_AT, 3, TEXT - 0xf000, 0);
    });
    assert_eq!((found.id.as_str(), found.count), ("executable-supervisor-page", 1));
    assert_eq!((found.places[0].address, found.places[0].bytes), (TEXT - 0xe000, 0x6000));
}

#[test]
fn entry_text_that_goes_on_and_on_is_told() {
    let found = only(|guest, _| {
        for root in [KERNEL, USER] {
            for page in (0..66).map(|page| page * 0x1000) {
                guest.map(root, TEXT - 0x10_0000 + page, 0x3_4000 + page, P);
            }
            guest.map(root, TEXT, TEXT_AT, P | NX);
        }
        for vector in 0..32 {
            gate(guest, IDT_AT, vector, TEXT - 0x10_0000 + 0x2200 * vector, 0);
        }
    });
    assert_eq!(found.id, "executable-supervisor-page");
    assert!(found.title.starts_with("what looks like entry text"), "{}", found.title);
}

#[test]
fn every_finding_is_explained_in_the_documentation() {
    let text = include_str!("../../../../docs/findings.md");
    let headings: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("## ")).map(str::trim).collect();
    let mut ids: Vec<&str> = ALL.iter().map(|rule| rule.id).collect();
    for heading in &headings {
        assert!(ids.contains(heading), "no finding is called {heading:?}");
    }
    ids.retain(|id| !headings.contains(id));
    assert_eq!(ids, [""; 0], "findings without a heading");
    for rule in ALL {
        assert!(rule.explanation.ends_with('.') && !rule.explanation.contains("  "), "{}", rule.id);
    }
}
