//! The page walk: every page that a root maps, with the rights that all levels together leave.
//!
//! A right holds only if every level grants it: writable and user need the bit set at each level,
//! executable needs NX clear at each level. NX is taken as enabled (EFER.NXE), as any kernel that
//! isolates itself has it.

use crate::{Error, PhysicalMemory};

pub const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Physical address bits of an entry, and of CR3.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ENTRIES: usize = 512;
const TABLE_BYTES: usize = ENTRIES * 8;

/// Guests of a few GiB map fewer than a million pages.
const PAGE_LIMIT: usize = 1 << 22;

/// One page, of any of the three sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Virtual address, canonical.
    pub address: u64,
    /// Physical address.
    pub physical: u64,
    /// 4 KiB, 2 MiB or 1 GiB, in bytes.
    pub size: u64,
    /// Stores are allowed.
    pub writable: bool,
    /// User mode may use it.
    pub user: bool,
    /// Fetches are allowed.
    pub executable: bool,
}

impl Leaf {
    /// Whether the page holds this virtual address.
    pub fn contains(&self, address: u64) -> bool {
        // Not `address < end`: the end of the last page is no 64-bit number.
        address >= self.address && address - self.address < self.size
    }

    /// Rights in the form `rwx`, `-` for each that is not there. What is present can be read.
    pub fn rights(&self) -> String {
        let write = if self.writable { 'w' } else { '-' };
        let execute = if self.executable { 'x' } else { '-' };
        format!("r{write}{execute}")
    }
}

/// The pages that the root at `root` (a physical address, or a CR3 value) maps, in ascending order.
/// `levels` is 4, or 5 with CR4.LA57.
///
/// # Errors
///
/// [`Error::Table`] for a table outside of memory, [`Error::TooManyPages`] for garbage.
pub fn leaves(memory: &dyn PhysicalMemory, root: u64, levels: u8) -> Result<Vec<Leaf>, Error> {
    let mut walk = Walk { memory, root: root & ADDRESS, levels, leaves: Vec::new() };
    let all = Leaf {
        address: 0,
        physical: walk.root,
        size: 0,
        writable: true,
        user: true,
        executable: true,
    };
    walk.table(levels, all)?;
    Ok(walk.leaves)
}

struct Walk<'a> {
    memory: &'a dyn PhysicalMemory,
    root: u64,
    levels: u8,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    /// Lists what one table maps. `above` has the table's physical address, the virtual address
    /// of its first entry and the rights that the levels above leave.
    fn table(&mut self, level: u8, above: Leaf) -> Result<(), Error> {
        let mut table = [0; TABLE_BYTES];
        if !self.memory.read(above.physical, &mut table) {
            return Err(Error::Table { level, address: above.physical });
        }
        // 4 KiB at level 1, and 512 times more for each level.
        let size = 1_u64 << (12 + 9 * u32::from(level - 1));
        for (entry, index) in table.chunks_exact(8).zip(0..) {
            let entry = u64::from_le_bytes(entry.try_into().expect("chunks of eight"));
            if entry & PRESENT == 0 {
                continue;
            }
            let leaf = Leaf {
                address: self.canonical(above.address + index * size),
                physical: entry & ADDRESS,
                size,
                writable: above.writable && entry & WRITABLE != 0,
                user: above.user && entry & USER != 0,
                executable: above.executable && entry & NO_EXECUTE == 0,
            };
            let is_page = level == 1 || (level <= 3 && entry & LARGE != 0);
            if !is_page {
                self.table(level - 1, leaf)?;
            } else if self.leaves.len() == PAGE_LIMIT {
                return Err(Error::TooManyPages { root: self.root, limit: PAGE_LIMIT });
            } else {
                // Bit 12 of a large page's entry is PAT and not part of the address.
                self.leaves.push(Leaf { physical: leaf.physical & !(size - 1), ..leaf });
            }
        }
        Ok(())
    }

    /// Copies the highest translated bit into all bits above it.
    fn canonical(&self, address: u64) -> u64 {
        let unused = 64 - (12 + 9 * u32::from(self.levels));
        (((address << unused) as i64) >> unused) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{Guest, NX, P, U, W};

    #[test]
    fn rights_are_those_that_every_level_grants() {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, 0x40_0000, 0x9000, P | U | W);
        guest.map(Guest::ROOT, 0xffff_ffff_8000_0000, 0xa000, P | NX);
        // The root's entry takes what the page's entry gives.
        guest.change(Guest::ROOT, 0, |entry| (entry & !W) | NX);

        let leaves = leaves(&guest.memory(), Guest::ROOT, 4).expect("sane tables");
        let user = Leaf {
            address: 0x40_0000,
            physical: 0x9000,
            size: 0x1000,
            writable: false,
            user: true,
            executable: false,
        };
        let kernel = Leaf { address: 0xffff_ffff_8000_0000, physical: 0xa000, user: false, ..user };
        assert_eq!(leaves, [user, kernel]);
        assert_eq!(kernel.rights(), "r--");
    }

    #[test]
    fn large_pages_are_one_leaf() {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, 0xffff_8000_0020_0000, 0x9000, P);
        let directory = guest.table_of(Guest::ROOT, 0xffff_8000_0020_0000, 2);
        guest.change(directory, 1, |_| P | W | LARGE | (1 << 12) | 0x60_0000);

        let leaves = leaves(&guest.memory(), Guest::ROOT, 4).expect("sane tables");
        assert_eq!(leaves.len(), 1);
        assert_eq!((leaves[0].physical, leaves[0].size), (0x60_0000, 0x20_0000));
        assert!(leaves[0].contains(0xffff_8000_003f_ffff));
        assert!(!leaves[0].contains(0xffff_8000_0040_0000));
    }

    #[test]
    fn a_table_outside_of_memory_is_an_error() {
        let mut guest = Guest::new();
        guest.change(Guest::ROOT, 7, |_| P | 0x7_0000_0000);
        let walked = leaves(&guest.memory(), Guest::ROOT, 4);
        assert_eq!(walked, Err(Error::Table { level: 3, address: 0x7_0000_0000 }));
    }

    #[test]
    fn tables_that_point_to_themselves_end() {
        let mut guest = Guest::new();
        for index in 0..512 {
            guest.change(Guest::ROOT, index, |_| P | Guest::ROOT);
        }
        let walked = leaves(&guest.memory(), Guest::ROOT, 4);
        assert!(matches!(walked, Err(Error::TooManyPages { .. })));
    }
}
