//! One entry of a page table: what its bits say at its level.
//!
//! ```text
//!   63  62-59  58-52    51 ........ 12   11-9  8  7   6  5   2  1  0
//!   NX  key    ignored  physical address       G  PS  D  A  US RW  P       bit 12 of a large page is PAT
//! ```
//!
//! An entry with a reserved bit translates nothing: the CPU answers any use of it with a page fault. How many bits
//! a physical address has is not known here, so none of the 52 that the format has is taken for reserved.
//! Sources: Intel SDM vol. 3, 4.5.4 with figure 4-11, and 4.6 for rights.

use crate::cpu::Paging;
use crate::document::Rights;

/// Entries of a table.
pub const ENTRIES: usize = 512;
/// Physical address bits of an entry, and of CR3.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const KEY_SHIFT: u32 = 59;
const NO_EXECUTE: u64 = 1 << 63;
/// A large page's address begins above this bit, which is PAT.
const LARGE_PAT: u64 = 1 << 12;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Not present.
    Absent,
    /// Present, with a bit that must be zero.
    Reserved,
    /// Names a table of the next level, by physical address.
    Table(u64),
    /// Maps a page, by physical address.
    Page(u64),
}

/// Rights that all levels so far grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    user: bool,
    writable: bool,
    executable: bool,
}

impl Grant {
    /// Everything, as CR3 grants it.
    pub const ALL: Grant = Grant { user: true, writable: true, executable: true };

    /// What is left of it behind `entry`.
    pub fn and(self, entry: u64) -> Grant {
        Grant {
            user: self.user && entry & USER != 0,
            writable: self.writable && entry & WRITABLE != 0,
            executable: self.executable && entry & NO_EXECUTE == 0,
        }
    }

    /// Rights of the page that the leaf `entry` maps; `self` holds what the leaf grants already.
    pub fn of_leaf(self, entry: u64, paging: &Paging) -> Rights {
        let has_key = if self.user { paging.user_keys } else { paging.supervisor_keys };
        Rights {
            user: self.user,
            writable: self.writable,
            executable: self.executable,
            global: entry & GLOBAL != 0,
            key: if has_key { (entry >> KEY_SHIFT) as u8 & 15 } else { 0 },
        }
    }
}

/// Bytes that one entry of a table of `level` translates: 4 KiB at level 1, and 512 times more for each level.
pub fn span(level: u8) -> u64 {
    1 << (12 + 9 * u32::from(level - 1))
}

/// What `entry` of a table of `level` is.
pub fn decode(entry: u64, level: u8, paging: &Paging) -> Entry {
    if entry & PRESENT == 0 {
        return Entry::Absent;
    }
    let large = level > 1 && entry & LARGE != 0;
    let reserved = match (level, large) {
        (4.., true) => LARGE,
        (_, true) => (span(level) - 1) & ADDRESS & !LARGE_PAT,
        (_, false) => 0,
    };
    let execute = if paging.no_execute { 0 } else { NO_EXECUTE };
    if entry & (reserved | execute) != 0 {
        Entry::Reserved
    } else if large {
        Entry::Page(entry & ADDRESS & !(span(level) - 1))
    } else if level == 1 {
        Entry::Page(entry & ADDRESS)
    } else {
        Entry::Table(entry & ADDRESS)
    }
}

/// Copies the highest translated bit into all bits above it.
pub fn canonical(address: u64, levels: u8) -> u64 {
    let unused = 64 - (12 + 9 * u32::from(levels));
    (((address << unused) as i64) >> unused) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    const KEYS: u64 = 1 << 22;
    const SUPERVISOR_KEYS: u64 = 1 << 24;

    fn paging() -> Paging {
        Cpu::default().paging()
    }

    #[test]
    fn reserved_bits_are_those_of_the_manual() {
        let decode = |entry, level| decode(entry, level, &paging());
        for level in [4, 5] {
            assert_eq!(decode(0x1081, level), Entry::Reserved, "PS in a level {level} table");
        }
        assert_eq!(decode(0x4000_1081, 3), Entry::Page(0x4000_0000), "PAT of 1 GiB");
        assert_eq!(decode(0x4000_2081, 3), Entry::Reserved, "bit 13 of 1 GiB");
        assert_eq!(decode(0x6000_0081, 3), Entry::Reserved, "bit 29 of 1 GiB");
        assert_eq!(decode(0x0020_1081, 2), Entry::Page(0x20_0000), "PAT of 2 MiB");
        assert_eq!(decode(0x0030_0081, 2), Entry::Reserved, "bit 20 of 2 MiB");
        assert_eq!(decode(0x0000_1081, 1), Entry::Page(0x1000), "bit 7 of 4 KiB is PAT");
        assert_eq!(decode(0x7ff0_0000_0000_1001, 4), Entry::Table(0x1000), "ignored bits");
        assert_eq!(decode(0x1080, 4), Entry::Absent, "nothing is reserved when absent");
    }

    #[test]
    fn bit_63_is_reserved_where_efer_does_not_enable_it() {
        let entry = NO_EXECUTE | 0x1001;
        let off = Cpu { efer: Some(0x500), ..Cpu::default() }.paging();
        assert_eq!(decode(entry, 1, &paging()), Entry::Page(0x1000));
        assert_eq!(decode(entry, 1, &off), Entry::Reserved);
    }

    #[test]
    fn keys_count_where_control_register_4_enables_them() {
        let entry = 5 << KEY_SHIFT | PRESENT;
        let key = |cr4, user| {
            let paging = Cpu { cr4, ..Cpu::default() }.paging();
            Grant { user, ..Grant::ALL }.of_leaf(entry, &paging).key
        };
        assert_eq!((key(KEYS, true), key(KEYS, false)), (5, 0));
        assert_eq!((key(SUPERVISOR_KEYS, true), key(SUPERVISOR_KEYS, false)), (0, 5));
    }

    #[test]
    fn addresses_have_a_sign() {
        assert_eq!(canonical(0x8000_0000_0000, 4), 0xffff_8000_0000_0000);
        assert_eq!(canonical(0x8000_0000_0000, 5), 0x8000_0000_0000);
        assert_eq!(canonical(0x0100_0000_0000_0000, 5), 0xff00_0000_0000_0000);
    }
}
