//! Memory at the edges is searched like any other.

use crate::sound::*;
use crate::synthetic::{LARGE, NX, P};

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
