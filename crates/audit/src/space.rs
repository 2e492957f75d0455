//! Virtual memory as one root shows it: what naming and searching need to know of page tables.
//!
//! Invariant: nothing here says more than the tables do. An address that is not mapped, or whose page lies
//! outside of the guest's memory, has no contents.

use crate::document::Rights;

/// One page, of any of the three sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// First virtual address, canonical.
    pub address: u64,
    /// Its physical address.
    pub physical: u64,
    /// 4 KiB, 2 MiB or 1 GiB, in bytes.
    pub size: u64,
    /// What all levels together leave.
    pub rights: Rights,
}

/// Memory seen through one root.
pub trait Space {
    /// The page that translates `address`, user's or supervisor's; `None` where nothing is mapped.
    fn page(&self, address: u64) -> Option<Page>;

    /// Fills `buffer` from virtual `address`; false if any of it is not mapped, or not memory.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// Eight bytes at `address`, least significant first.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// Whether `address` is mapped, and not for user mode.
    fn is_supervisor(&self, address: u64) -> bool {
        self.page(address).is_some_and(|page| !page.rights.user)
    }
}
