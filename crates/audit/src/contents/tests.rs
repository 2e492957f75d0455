//! Memory at the edges is searched like any other; a descriptor's bytes are no pointers.

use crate::PhysicalMemory;
use crate::cpu::{Cpu, Table};
use crate::sound::*;
use crate::synthetic::{Guest, LARGE, NX, P, W};

#[test]
fn the_last_page_of_all_is_searched_to_its_end() {
    const LAST_PAGE: u64 = 0xffff_ffff_ffff_f000;
    let mut guest = guest();
    for root in [KERNEL, USER] {
        guest.map(root, LAST_PAGE, 0x2_8000, P | NX);
    }
    guest.write(0x2_8ff8, u64::MAX);
    let audit = audit(&guest, &[cpu()]);
    let found = audit.findings.iter().find(|found| found.id == "contents-not-declared");
    assert_eq!(found.expect("bytes").places[0].address, LAST_PAGE + 0xff8);
    let filled = audit.views[0].filled.last().expect("a stretch");
    assert_eq!((filled.address, filled.bytes), (LAST_PAGE + 0xff8, 8));
}

#[test]
fn a_large_page_is_searched_though_its_first_part_was_seen_as_a_small_one() {
    const SMALL: u64 = STACKS + 0x2000;
    const BIG: u64 = TEXT + 0x20_0000;
    let mut guest = guest();
    guest.map(USER, SMALL, 0, P | NX);
    let directory = guest.table_of(USER, BIG, 2);
    guest.change(directory, (BIG >> 21) & 511, |_| P | NX | LARGE);
    guest.write(0x2_8100, IMAGE + 0x2008);
    let audit = audit(&guest, &[cpu()]);
    let found = audit.findings.iter().find(|found| found.id == "kernel-pointer");
    let places = &found.expect("the pointer").places;
    assert!(places.iter().any(|place| place.address == BIG + 0x2_8100), "{places:x?}");
}

/// Another CPU, whose TSS is where bytes 4 to 11 of its descriptor read as the address of a kernel-only page: of what is
/// in those bytes, only the type and the base's bits 16 to 31 are anything but ones.
fn with_a_misleading_descriptor() -> (Guest, Cpu) {
    const BLOCK: u64 = 0xffff_ffff_b300_0000;
    const OTHER_GDT: u64 = BLOCK + 0x2000;
    const OTHER_AT: u64 = 0x2_9000;
    let mut guest = guest();
    for root in [KERNEL, USER] {
        guest.map(root, OTHER_GDT, OTHER_AT, P | NX);
    }
    // Where the bytes lead, and where they would with other flags in them.
    for hidden in [0x8000, 0xe000, 0x80_8000] {
        guest.map(KERNEL, BLOCK + hidden, 0x2_a000, P | W | NX);
    }
    system_descriptor(&mut guest, OTHER_AT + 0x40, 0x8b, OTHER_GDT + 0x80);
    // As it was seen in one of 200 boots.
    assert_eq!(word(&guest, OTHER_AT + 0x44), BLOCK + 0x8b00);
    let table = |base, limit| Table { base, limit };
    let (gdt, tss) = (table(OTHER_GDT, 0x7f), table(OTHER_GDT + 0x80, 0x67));
    (guest, Cpu { index: 1, gdt, tss, ..cpu() })
}

fn word(guest: &Guest, at: u64) -> u64 {
    let mut bytes = [0; 8];
    assert!(guest.memory().read(at, &mut bytes));
    u64::from_le_bytes(bytes)
}

fn pointers(guest: &Guest, cpus: &[Cpu]) -> Vec<(u64, Option<u64>)> {
    let audit = audit(guest, cpus);
    let found = audit.findings.iter().filter(|found| found.id == "kernel-pointer");
    found.flat_map(|found| &found.places).map(|place| (place.address, place.value)).collect()
}

#[test]
fn bytes_of_a_descriptor_are_no_pointer_whether_its_cpu_is_known_or_not() {
    let (guest, other) = with_a_misleading_descriptor();
    assert_eq!(pointers(&guest, &[cpu(), other]), []);
    assert_eq!(pointers(&guest, &[cpu()]), []);
}

#[test]
fn what_only_looks_like_a_descriptor_is_a_pointer() {
    const LOW: u64 = 0x2_9040;
    const HIGH: u64 = 0x2_9048;
    // A limit that is no TSS's; a page's granularity; a program's; something where zeros must be; a TSS that nobody sees.
    let changes = [(LOW, 1), (LOW, 1 << 55), (LOW, 3 << 45), (HIGH, 1 << 40), (LOW, 0x1000 << 16)];
    for (at, bits) in changes {
        let (mut guest, other) = with_a_misleading_descriptor();
        guest.write(at, word(&guest, at) ^ bits);
        let found = pointers(&guest, &[cpu()]);
        let expected = (other.gdt.base + 0x44, Some(word(&guest, LOW + 4)));
        assert_eq!(found, [expected], "{at:#x} with {bits:#x}");
    }
}

#[test]
fn a_pointer_beside_a_descriptor_is_found() {
    let (mut guest, other) = with_a_misleading_descriptor();
    for at in [0x38_u64, 0x100] {
        guest.write(0x2_9000 + at, IMAGE + 0x2008);
        let found = [(other.gdt.base + at, Some(IMAGE + 0x2008))];
        assert_eq!(pointers(&guest, &[cpu()]), found);
        guest.write(0x2_9000 + at, 0);
    }
}
