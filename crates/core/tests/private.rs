//! The layout of the private slot.

use proptest::prelude::*;
use ringwall_core::area::{MAX_CPUS, PAGE_SIZE};
use ringwall_core::paging::{self, canonical, index};
use ringwall_core::private::{
    DEFAULT_SLOT, LDT_BYTES, LEAF, Place, USER_BITS, Which, base, describe, espfix_address,
    espfix_page, ldt_base, slot_ok,
};

#[test]
fn known_addresses() {
    assert_eq!(base(DEFAULT_SLOT), 0xffff_ff00_0000_0000);
    assert_eq!(espfix_page(DEFAULT_SLOT, 0), 0xffff_ff00_0000_0000);
    assert_eq!(espfix_page(DEFAULT_SLOT, 17), 0xffff_ff01_0000_1000);
    assert_eq!(espfix_address(espfix_page(510, 1), 0x1234_5678, 0xfc0), 0xffff_ff00_1234_1fc0);
    assert_eq!(ldt_base(DEFAULT_SLOT, Which::A), 0xffff_ff7f_c000_0000);
    assert_eq!(ldt_base(DEFAULT_SLOT, Which::B), 0xffff_ff7f_c002_0000);
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
        let (start, other) = (ldt_base(300, which), ldt_base(300, which.other()));
        assert!(start + LDT_BYTES <= other || other + LDT_BYTES <= start);
        assert_eq!(which.other().other(), which);
    }
}

proptest! {
    #[test]
    fn espfix_keeps_the_users_bits_and_names_the_page(
        slot in 256_usize..511, cpu in 0..MAX_CPUS, rsp: u64, offset in 0..PAGE_SIZE,
    ) {
        let address = espfix_address(espfix_page(slot, cpu), rsp, offset);
        prop_assert_eq!(address & USER_BITS, rsp & USER_BITS);
        prop_assert_eq!(describe(slot, address), Some(Place::Espfix { cpu, offset }));
        prop_assert!(canonical(address));
        prop_assert_eq!(index(4, address), slot);
    }

    #[test]
    fn an_ldts_addresses_are_its_own(slot in 256_usize..511, offset in 0..LDT_BYTES) {
        for which in [Which::A, Which::B] {
            let address = ldt_base(slot, which) + offset;
            prop_assert_eq!(describe(slot, address), Some(Place::Ldt { which, offset }));
            prop_assert_eq!(index(4, address), slot);
        }
    }

    #[test]
    fn outside_of_the_slot_there_is_nothing(slot in 256_usize..511, address: u64) {
        if index(4, address) != slot || !canonical(address) {
            prop_assert_eq!(describe(slot, address), None);
        }
    }
}
