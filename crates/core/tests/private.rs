//! The layout of the private slot.

use proptest::prelude::*;
use ringwall_core::area::{MAX_CPUS, PAGE_SIZE};
use ringwall_core::paging::{self, canonical, index};
use ringwall_core::private::{
    DEFAULT_SLOT, GROUP_CPUS, GROUP_PLACES, LDT_BYTES, LEAF, USER_BITS, Which, base, espfix_index,
    espfix_page, ldt_base, slot_ok,
};

#[test]
fn known_addresses() {
    assert_eq!(base(DEFAULT_SLOT), 0xffff_ff00_0000_0000);
    assert_eq!(espfix_page(DEFAULT_SLOT, 0, 0), 0xffff_ff00_0000_0000);
    assert_eq!(espfix_page(DEFAULT_SLOT, 0, 17), 0xffff_ff01_0000_1000);
    assert_eq!(espfix_page(DEFAULT_SLOT, 3 << 32 | 2, 17), 0xffff_ff03_0000_2000);
    assert_eq!(ldt_base(DEFAULT_SLOT, 0, Which::A), 0xffff_ff7f_c000_0000);
    assert_eq!(ldt_base(DEFAULT_SLOT, 0, Which::B), 0xffff_ff7f_c002_0000);
    assert_eq!(ldt_base(DEFAULT_SLOT, !0, Which::B), 0xffff_ff7f_fffe_0000);
}

#[test]
fn a_slot_is_in_the_kernel_half_and_not_the_entry_areas() {
    assert!(slot_ok(256) && slot_ok(510));
    assert!(!slot_ok(0) && !slot_ok(255) && !slot_ok(511) && !slot_ok(512));
}

#[test]
#[should_panic(expected = "beside the entry area's")]
fn the_entry_areas_slot_is_refused() {
    let _ = base(511);
}

#[test]
fn leaves_can_be_read_and_nothing_else() {
    for bit in [paging::WRITABLE, paging::USER, paging::DIRTY, paging::GLOBAL] {
        assert_eq!(LEAF & bit, 0);
    }
    assert_eq!(LEAF & paging::NO_EXECUTE, paging::NO_EXECUTE);
}

#[test]
fn the_two_ldts_share_no_address() {
    for which in [Which::A, Which::B] {
        let (start, other) = (ldt_base(300, 7 << 36, which), ldt_base(300, 7 << 36, which.other()));
        assert!(start + LDT_BYTES <= other || other + LDT_BYTES <= start);
        assert_eq!(which.other().other(), which);
    }
}

proptest! {
    #[test]
    fn espfix_leaves_the_users_bits_free(slot in 256_usize..511, cpu in 0..MAX_CPUS, random: u64) {
        let page = espfix_page(slot, random, cpu);
        prop_assert_eq!(page & USER_BITS, 0);
        prop_assert_eq!(page / PAGE_SIZE % GROUP_CPUS as u64, espfix_index(random, cpu) as u64);
        prop_assert!(canonical(page | USER_BITS));
        prop_assert_eq!(index(4, page | USER_BITS), slot);
        prop_assert!((page | USER_BITS) + PAGE_SIZE <= ldt_base(slot, random, Which::A));
    }

    #[test]
    fn no_two_cpus_share_an_espfix_page(cpus in [0..MAX_CPUS, 0..MAX_CPUS], random: u64) {
        let [one, other] = cpus.map(|cpu| espfix_page(DEFAULT_SLOT, random, cpu));
        prop_assert_eq!(one == other, cpus[0] == cpus[1]);
    }

    #[test]
    fn an_ldts_addresses_are_its_own(slot in 256_usize..511, random: u64, offset in 0..LDT_BYTES) {
        let bases = [Which::A, Which::B].map(|which| ldt_base(slot, random, which));
        for base in bases {
            prop_assert_eq!(index(4, base + offset), slot);
            prop_assert_eq!(base % LDT_BYTES, 0);
        }
        prop_assert_eq!(bases[0] >> 21, (bases[1] + offset) >> 21, "one table for both");
    }
}

#[test]
fn chance_reaches_every_place() {
    let mut pages: Vec<_> = (0..GROUP_PLACES)
        .flat_map(|group| (0..GROUP_CPUS as u64).map(move |page| page << 32 | group))
        .map(|random| espfix_page(DEFAULT_SLOT, random, 0))
        .collect();
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len() as u64, GROUP_PLACES * GROUP_CPUS as u64);
}
