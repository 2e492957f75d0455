//! Findings of whole views: the kernel mapped whole, roots that disagree, areas of others.

use super::*;

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
