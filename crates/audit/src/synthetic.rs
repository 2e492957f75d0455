//! A made-up guest for tests: a few pages of physical memory with page tables built by hand.

use crate::PhysicalMemory;

pub const P: u64 = 1;
pub const W: u64 = 1 << 1;
pub const U: u64 = 1 << 2;
pub const LARGE: u64 = 1 << 7;
pub const NX: u64 = 1 << 63;

const SIZE: usize = 1 << 20;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// One MiB of memory. Tables grow from its middle; pages below that are the test's.
pub struct Guest {
    bytes: Vec<u8>,
    next_table: u64,
    levels: u64,
}

impl Guest {
    /// The kernel root of the pair, its user root right above.
    pub const ROOT: u64 = 0x2000;

    pub fn new() -> Guest {
        Guest::with_levels(4)
    }

    pub fn with_levels(levels: u64) -> Guest {
        Guest { bytes: vec![0; SIZE], next_table: SIZE as u64 / 2, levels }
    }

    pub fn memory(&self) -> impl PhysicalMemory {
        |address: u64, buffer: &mut [u8]| {
            let start = address as usize;
            match self.bytes.get(start..start.saturating_add(buffer.len())) {
                Some(bytes) => {
                    buffer.copy_from_slice(bytes);
                    true
                }
                None => false,
            }
        }
    }

    /// Maps one 4 KiB page; the levels above grant everything.
    pub fn map(&mut self, root: u64, address: u64, physical: u64, flags: u64) {
        let table = self.table_of(root, address, 1);
        self.change(table, (address >> 12) & 511, |_| physical | flags);
    }

    /// The table of `level` that translates `address`, made where it is not there yet.
    pub fn table_of(&mut self, root: u64, address: u64, level: u64) -> u64 {
        let mut table = root;
        for above in (level + 1..=self.levels).rev() {
            let index = (address >> (12 + 9 * (above - 1))) & 511;
            if self.word(table + index * 8) & P == 0 {
                let new = self.next_table;
                self.next_table += 0x1000;
                self.write(table + index * 8, new | P | W | U);
            }
            table = self.word(table + index * 8) & ADDRESS;
        }
        table
    }

    /// Changes entry `index` of a table.
    pub fn change(&mut self, table: u64, index: u64, change: impl Fn(u64) -> u64) {
        let old = self.word(table + index * 8);
        self.write(table + index * 8, change(old));
    }

    /// Writes eight bytes, aligned or not.
    pub fn write(&mut self, physical: u64, value: u64) {
        let start = physical as usize;
        self.bytes[start..start + 8].copy_from_slice(&value.to_le_bytes());
    }

    pub fn word(&self, physical: u64) -> u64 {
        let start = physical as usize;
        u64::from_le_bytes(self.bytes[start..start + 8].try_into().expect("eight bytes"))
    }
}
