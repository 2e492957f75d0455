//! What a guest's page tables map, without our own walk: to hold the audit against.
//!
//! Two sources, neither of which shares code or method with `ringwall-audit`:
//!
//! - [`listing`]: QEMU's own walk, which HMP's `info tlb` prints: one line for each leaf of the tables in CR3, with the
//!   leaf's own flags. It says which pages there are; it does not say what the levels above take away.
//! - [`Raw::translate`]: one address at a time, from the root down, by the bits of the manual (Intel SDM vol. 3, tables
//!   4-14 to 4-20), with the rights that all levels leave.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ringwall_emulator::GuestMemory;

/// A leaf as `info tlb` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Virtual address, canonical.
    pub address: u64,
    /// Physical address.
    pub physical: u64,
    /// The leaf's bits 63, 8, 7, 2 and 1: no fetches, global, larger than 4 KiB, user, writable.
    pub no_execute: bool,
    /// See `no_execute`.
    pub global: bool,
    /// See `no_execute`.
    pub large: bool,
    /// See `no_execute`.
    pub user: bool,
    /// See `no_execute`.
    pub writable: bool,
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Physical address of the page.
    pub physical: u64,
    /// Bytes of the page.
    pub size: u64,
    /// Every level says user.
    pub user: bool,
    /// Every level says writable.
    pub writable: bool,
    /// No level says no-execute.
    pub executable: bool,
    /// The leaf.
    pub leaf: u64,
}

/// Reads what `info tlb` prints, such as
/// `ff3abf8740000000: 0000000000000000 X--DA---W`, with the flags XGPDACTUW.
///
/// # Panics
///
/// When a line is none of QEMU's.
pub fn listing(text: &str) -> Vec<Listed> {
    text.lines().filter(|line| !line.trim().is_empty()).map(listed).collect()
}

fn listed(line: &str) -> Listed {
    let words: Vec<&str> = line.split_whitespace().collect();
    let &[address, physical, flags] = &words[..] else { panic!("no line of `info tlb`: {line:?}") };
    assert_eq!(flags.len(), 9, "flags of `info tlb`: {line:?}");
    let number = |digits: &str| {
        let number = u64::from_str_radix(digits.trim_end_matches(':'), 16);
        number.unwrap_or_else(|_| panic!("no line of `info tlb`: {line:?}"))
    };
    let flag = |letter| flags.contains(letter);
    Listed {
        address: number(address),
        physical: number(physical),
        no_execute: flag('X'),
        global: flag('G'),
        large: flag('P'),
        user: flag('U'),
        writable: flag('W'),
    }
}

/// A table as it lies in memory.
type Table = Rc<Vec<u8>>;

/// One root, read entry by entry.
pub struct Raw<'a> {
    memory: &'a GuestMemory,
    root: u64,
    shifts: &'static [u32],
    tables: RefCell<HashMap<u64, Table>>,
}

impl<'a> Raw<'a> {
    /// The tables below the root in this CR3, of 4 or 5 levels.
    ///
    /// # Panics
    ///
    /// With any other number of levels.
    pub fn new(memory: &'a GuestMemory, cr3: u64, levels: u8) -> Raw<'a> {
        let shifts: &[u32] = match levels {
            4 => &[39, 30, 21, 12],
            5 => &[48, 39, 30, 21, 12],
            _ => panic!("{levels} levels"),
        };
        Raw { memory, root: cr3 & 0x000f_ffff_ffff_f000, shifts, tables: RefCell::default() }
    }

    /// Where a virtual address leads.
    ///
    /// # Panics
    ///
    /// When a table is not in memory.
    pub fn translate(&self, address: u64) -> Option<Translation> {
        let (mut granted, mut forbidden) = (u64::MAX, 0);
        let mut table = self.root;
        for shift in self.shifts {
            let entry = self.entry(table, (address >> shift) as usize % 512);
            if entry & 1 == 0 {
                return None;
            }
            granted &= entry;
            forbidden |= entry;
            let page = *shift == 12 || entry & (1 << 7) != 0;
            if page {
                let size = 1_u64 << shift;
                return Some(Translation {
                    physical: entry % (1 << 52) / size * size,
                    size,
                    user: granted & 4 != 0,
                    writable: granted & 2 != 0,
                    executable: forbidden >> 63 == 0,
                    leaf: entry,
                });
            }
            table = entry % (1 << 52) / 4096 * 4096;
        }
        None
    }

    fn entry(&self, table: u64, index: usize) -> u64 {
        let bytes = Rc::clone(self.tables.borrow_mut().entry(table).or_insert_with(|| {
            let mut bytes = vec![0; 4096];
            assert!(self.memory.read(table, &mut bytes), "a table at {table:#x}, not in memory");
            Rc::new(bytes)
        }));
        let entry = &bytes[index * 8..index * 8 + 8];
        u64::from_le_bytes(entry.try_into().expect("eight bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_info_tlb_are_read() {
        let text = "ffffffffc02bf000: 00000000013d9000 -G-DA----\n\
                    0000000000400000: 0000000001a00000 X-PDACTUW\n\n";
        let [text, data] = listing(text)[..] else { panic!("two lines") };
        assert_eq!((text.address, text.physical), (0xffff_ffff_c02b_f000, 0x13d_9000));
        assert!(text.global && !text.no_execute && !text.large && !text.user && !text.writable);
        assert_eq!((data.address, data.physical), (0x40_0000, 0x1a0_0000));
        assert!(!data.global && data.no_execute && data.large && data.user && data.writable);
    }

    #[test]
    #[should_panic(expected = "no line of `info tlb`")]
    fn another_line_is_no_leaf() {
        listing("Address space is not mapped\n");
    }
}
