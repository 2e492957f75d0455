//! Root pairs: the identities of bits that the entry code computes with.

use proptest::prelude::*;
use ringwall_core::paging::{NO_EXECUTE, PRESENT, USER};
use ringwall_core::root::{
    ADDRESS_MASK, ENTRY_SLOT, KERNEL_HALF, NO_FLUSH, PCID_MASK, ROOT_PAIR_BYTES, Tlb, USER_HALF,
    USER_PCID_BIT, USER_ROOT_BIT, is_user, to_kernel, to_kernel_keep, user_half_entries,
    user_half_index_ok,
};
use ringwall_core::{Pcid, RootError, RootPair};

fn any_pair() -> impl Strategy<Value = RootPair> {
    (0..(1u64 << 52) / ROOT_PAIR_BYTES).prop_map(|n| RootPair::new(n * ROOT_PAIR_BYTES).unwrap())
}

fn any_pcid() -> impl Strategy<Value = Pcid> {
    (0..Pcid::COUNT).prop_map(|value| Pcid::new(value).unwrap())
}

fn any_tlb() -> impl Strategy<Value = Tlb> {
    prop_oneof![Just(Tlb::Keep), Just(Tlb::Flush)]
}

#[test]
fn the_bits_of_the_manual() {
    assert_eq!((USER_ROOT_BIT, USER_PCID_BIT, NO_FLUSH), (1 << 12, 1 << 11, 1 << 63));
    assert_eq!((PCID_MASK, ADDRESS_MASK), (0xfff, 0xf_ffff_ffff_f000));
    assert_eq!((USER_HALF, KERNEL_HALF, ENTRY_SLOT), (0..256, 256..512, 511));
}

#[test]
fn bad_pairs_are_refused() {
    assert_eq!(RootPair::new(0x1000), Err(RootError::Misaligned(0x1000)));
    assert_eq!(RootPair::new(0x2008), Err(RootError::Misaligned(0x2008)));
    assert_eq!(RootPair::new(1 << 52), Err(RootError::TooHigh(1 << 52)));
    assert!(RootPair::new((1 << 52) - 8192).is_ok());
    assert_eq!(RootError::Misaligned(0x1000).to_string(), "root pair at 0x1000 is not aligned");
    assert_eq!(RootPair::single(0x1000).map(|root| root.user_cr3(false)), Ok(0x1000));
    assert_eq!(RootPair::single(0x1008), Err(RootError::Misaligned(0x1008)));
    assert_eq!(RootPair::single(1 << 52), Err(RootError::TooHigh(1 << 52)));
}

#[test]
fn pcids_have_eleven_bits() {
    assert!(Pcid::new(2047).is_some());
    assert!(Pcid::new(2048).is_none() && Pcid::new(u16::MAX).is_none());
}

#[test]
fn half_entries_at_the_edges() {
    let pair = |entry| {
        let halves = user_half_entries(entry);
        (halves.kernel, halves.user)
    };
    assert_eq!(pair(0), (0, 0));
    assert_eq!(pair(!PRESENT), (0, 0), "not present");
    assert_eq!(pair(0x5007), (0x5007 | NO_EXECUTE, 0x5007));
    assert_eq!(pair(0x5003), (0x5003, 0), "supervisor only");
}

proptest! {
    #[test]
    fn new_is_total_and_exact(phys: u64) {
        for phys in [phys, phys & ADDRESS_MASK, phys & ADDRESS_MASK & !USER_ROOT_BIT] {
            let fine = phys < 1 << 52 && phys % 8192 == 0;
            prop_assert_eq!(RootPair::new(phys).is_ok(), fine);
        }
    }

    #[test]
    fn the_roots_are_the_halves_of_the_block(pair in any_pair()) {
        prop_assert_eq!(pair.user_root(), pair.kernel_root() + ROOT_PAIR_BYTES / 2);
        prop_assert_eq!(pair.kernel_root() ^ pair.user_root(), USER_ROOT_BIT);
        prop_assert_eq!(pair.kernel_cr3(), pair.kernel_root());
        prop_assert_eq!(pair.user_cr3(true), pair.user_root());
        prop_assert_eq!(pair.user_cr3(false), pair.kernel_cr3());
        prop_assert_eq!(pair.user_root() & !ADDRESS_MASK, 0);
    }

    /// The entry code, from either side, with and without PCID. Reading CR3 gives bit 63 clear.
    #[test]
    fn entry_finds_the_kernel_half(pair in any_pair(), pcid in any_pcid(), tlb in any_tlb()) {
        prop_assert_eq!(to_kernel(pair.user_cr3(true)), pair.kernel_cr3());
        prop_assert_eq!(to_kernel(pair.kernel_cr3()), pair.kernel_cr3());
        let inside = pair.user_cr3_with(true, pcid, tlb) & !NO_FLUSH;
        let kernel = pair.kernel_cr3_with(pcid, Tlb::Flush);
        prop_assert_eq!(to_kernel(inside), kernel);
        prop_assert_eq!(to_kernel(kernel), kernel);
        prop_assert_eq!(to_kernel_keep(inside), pair.kernel_cr3_with(pcid, Tlb::Keep));
        prop_assert!(is_user(inside) && !is_user(kernel));
        prop_assert_eq!(RootPair::of_cr3(inside), pair);
        prop_assert_eq!(RootPair::of_cr3(pair.kernel_cr3_with(pcid, tlb)), pair);
    }

    #[test]
    fn the_halves_of_a_pcid_never_meet(a in any_pcid(), b in any_pcid()) {
        prop_assert_ne!(a.kernel(), b.user());
        prop_assert_eq!(u64::from(a.kernel()) | USER_PCID_BIT, u64::from(a.user()));
        prop_assert_eq!(u64::from(a.user()) & !PCID_MASK, 0);
        prop_assert_eq!(a == b, a.user() == b.user());
    }

    #[test]
    fn cr3_fields_stay_apart(pair in any_pair(), pcid in any_pcid(), tlb in any_tlb(), on: bool) {
        let cr3 = pair.user_cr3_with(on, pcid, tlb);
        prop_assert_eq!(cr3 & NO_FLUSH != 0, tlb == Tlb::Keep);
        prop_assert_eq!(cr3 & ADDRESS_MASK, pair.user_cr3(on));
        prop_assert_eq!(cr3 & PCID_MASK, u64::from(if on { pcid.user() } else { pcid.kernel() }));
        prop_assert_eq!(cr3 & !(NO_FLUSH | ADDRESS_MASK | PCID_MASK), 0);
    }

    #[test]
    fn to_kernel_is_idempotent_and_only_clears(cr3: u64) {
        prop_assert_eq!(to_kernel(to_kernel(cr3)), to_kernel(cr3));
        prop_assert_eq!(cr3 & !to_kernel(cr3), cr3 & (USER_ROOT_BIT | USER_PCID_BIT));
        prop_assert_eq!(to_kernel(cr3) & !cr3, 0);
    }

    /// Ring 3 never fetches under the kernel root; the user root shows nothing that is not ring 3's.
    #[test]
    fn half_entries_are_closed(entry: u64) {
        let halves = user_half_entries(entry);
        for half in [halves.kernel, halves.user] {
            prop_assert!(half == 0 || half & ADDRESS_MASK == entry & ADDRESS_MASK);
            prop_assert!(half == 0 || half & PRESENT != 0);
        }
        prop_assert!(halves.kernel & USER == 0 || halves.kernel & NO_EXECUTE != 0);
        prop_assert!(halves.user == 0 || halves.user & USER != 0);
        prop_assert!(halves.user == 0 || halves.user == entry);
        prop_assert_eq!(halves.kernel & !NO_EXECUTE, if entry & 1 == 0 { 0 } else { entry & !NO_EXECUTE });
    }

    #[test]
    fn user_indices(index: usize) {
        for index in [index, index % 512] {
            prop_assert_eq!(user_half_index_ok(index), USER_HALF.contains(&index));
        }
    }
}
