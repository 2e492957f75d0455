//! Findings of contents: pointers, stacks, and what nothing needs.

use super::*;

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
