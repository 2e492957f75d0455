//! The bits of a page-table entry, and the parts of a linear address.
//!
//! One place for the numbers, so that no other file needs one. They hold at all four levels unless
//! the constant says otherwise.
//!
//! ```text
//!  63  62    52 51                        12 11  9  8   7   6   5        2   1   0
//! ┌──┬─────────┬────────────────────────────┬─────┬───┬───┬───┬───┬─────┬───┬───┬───┐
//! │NX│ ignored │ physical address of 4 KiB  │ ign │ G │PS │ D │ A │ ... │ U │ W │ P │
//! └──┴─────────┴────────────────────────────┴─────┴───┴───┴───┴───┴─────┴───┴───┴───┘
//! ```
//!
//! Intel SDM vol. 3, 4.5 (four-level paging), table 4-15 to 4-20; AMD APM vol. 2, 5.3 and 5.4.

/// P: the entry maps something. Clear: every other bit is the software's.
pub const PRESENT: u64 = 1 << 0;
/// R/W: writes are allowed (with CR0.WP set, for ring 0 too).
pub const WRITABLE: u64 = 1 << 1;
/// U/S: ring 3 may use it. The bit has to be set at every level on the way.
pub const USER: u64 = 1 << 2;
/// A: the CPU has used the entry. Preset it wherever the CPU must not write to the table.
pub const ACCESSED: u64 = 1 << 5;
/// D: the CPU has written to the page. Leaf entries only.
///
/// Never together with a clear [`WRITABLE`]: that pair marks a shadow stack (SDM vol. 1, 17.2).
pub const DIRTY: u64 = 1 << 6;
/// PS: the entry is a leaf of 2 MiB (level 2) or 1 GiB (level 3).
pub const HUGE: u64 = 1 << 7;
/// G: writing CR3 keeps the translation. Leaf entries only.
pub const GLOBAL: u64 = 1 << 8;
/// XD, NX: no instruction is fetched from it. Needs EFER.NXE, else the bit is reserved.
pub const NO_EXECUTE: u64 = 1 << 63;
/// The bits of an entry that hold a physical address, 4 KiB aligned, below 2^52.
pub const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// What an entry above the leaf carries on the way to the entry area: present, writable (the leaf
/// decides), accessed; never [`USER`], so that the way itself is closed to ring 3.
pub const KERNEL_TABLE: u64 = PRESENT | WRITABLE | ACCESSED;

/// Bytes that one top-level entry maps: 512 GiB.
pub const TOP_LEVEL_BYTES: u64 = 1 << 39;
/// The first address of the kernel half: `0xffff_8000_0000_0000`.
pub const KERNEL_HALF_START: u64 = 0xffff_8000_0000_0000;

/// The index of `addr` into a table of `level`: 4 is the top (PML4), 1 the last (page table).
///
/// # Panics
///
/// If `level` is not 1, 2, 3 or 4.
#[must_use]
pub const fn index(level: u8, addr: u64) -> usize {
    assert!(level >= 1 && level <= 4, "four-level paging has levels 1 to 4");
    ((addr >> (12 + 9 * (level as u32 - 1))) & 0x1ff) as usize
}

/// Whether `addr` is canonical: bits 63 to 47 are all the same (SDM vol. 1, 3.3.7.1).
#[must_use]
pub const fn canonical(addr: u64) -> bool {
    ((addr << 16) as i64 >> 16) as u64 == addr
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn indices_of_known_addresses() {
        assert_eq!(index(4, 0), 0);
        assert_eq!(index(4, KERNEL_HALF_START), 256);
        assert_eq!(index(4, 0xffff_ffff_8000_0000), 511);
        assert_eq!(index(3, 0xffff_ffff_8000_0000), 510);
        assert_eq!(index(2, 0xffff_ffff_8020_0000), 1);
        assert_eq!(index(1, 0x0000_7fff_ffff_f000), 511);
    }

    #[test]
    fn the_hole_is_not_canonical() {
        for good in [0, 0x7fff_ffff_ffff, KERNEL_HALF_START, u64::MAX] {
            assert!(canonical(good), "{good:#x}");
        }
        for bad in [0x8000_0000_0000, 0x1234_0000_0000_0000, KERNEL_HALF_START - 1] {
            assert!(!canonical(bad), "{bad:#x}");
        }
    }

    #[test]
    #[should_panic(expected = "levels 1 to 4")]
    fn level_five_is_refused() {
        let _ = index(5, 0);
    }

    proptest! {
        #[test]
        fn indices_and_offset_rebuild_the_address(addr: u64) {
            let low = (1..=4u8).map(|l| (index(l, addr) as u64) << (12 + 9 * (u32::from(l) - 1)))
                .fold(addr & 0xfff, |sum, part| sum | part);
            let whole = ((low << 16) as i64 >> 16) as u64;
            prop_assert_eq!(whole == addr, canonical(addr));
        }
    }
}
