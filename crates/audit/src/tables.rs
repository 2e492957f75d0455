//! One root's translations: an address at a time, by tables that are read once.
//!
//! ```text
//!   TableCache   physical address of a table -> its entries      shared by all roots of a guest
//!      ^    ^
//!   Tables Tables   a root and what the control registers make of it
//! ```
//!
//! The guest is stopped while it is looked at, so what was read stays true. The cache is bounded: a guest can fill
//! all its memory with tables.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::PhysicalMemory;
use crate::cpu::Paging;
use crate::document::Rights;
use crate::entry::{ADDRESS, ENTRIES, Entry, Grant, canonical, decode, span};

/// Tables that are kept: 32 MiB of them. Page tables of 16 GiB in pages of 4 KiB.
const KEPT: usize = 1 << 13;

/// The entries of a table, or `None` if it lies outside of memory.
type Entries = Option<Rc<[u64; ENTRIES]>>;

/// The page tables of a guest, each read once, by physical address.
pub struct TableCache<'a> {
    memory: &'a dyn PhysicalMemory,
    kept: RefCell<HashMap<u64, Entries>>,
}

impl<'a> TableCache<'a> {
    /// An empty cache of the tables in `memory`.
    pub fn new(memory: &'a dyn PhysicalMemory) -> TableCache<'a> {
        TableCache { memory, kept: RefCell::default() }
    }

    /// The memory that the tables are in.
    pub fn memory(&self) -> &'a dyn PhysicalMemory {
        self.memory
    }

    /// The table at a physical address; `None` if it lies outside of memory.
    pub(crate) fn table(&self, physical: u64) -> Entries {
        let mut kept = self.kept.borrow_mut();
        if let Some(entries) = kept.get(&physical) {
            return entries.clone();
        }
        // Whoever needs more has no use for the oldest either: a walk goes forward.
        if kept.len() == KEPT {
            kept.clear();
        }
        let mut bytes = [0; ENTRIES * 8];
        let entries = self.memory.read(physical, &mut bytes).then(|| {
            let mut words = bytes.chunks_exact(8);
            let mut word = || words.next().and_then(|word| word.try_into().ok());
            Rc::new(std::array::from_fn(|_| word().map_or(0, u64::from_le_bytes)))
        });
        kept.insert(physical, entries.clone());
        entries
    }
}

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

impl Page {
    /// Whether the page holds this virtual address.
    pub fn contains(&self, address: u64) -> bool {
        // Not `address < end`: the end of the last page is no 64-bit number.
        address >= self.address && address - self.address < self.size
    }
}

/// One root's view of memory.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// The tables of the guest.
    pub cache: &'a TableCache<'a>,
    /// Physical address of the root.
    pub root: u64,
    /// What the control registers make of it.
    pub paging: Paging,
}

impl<'a> Tables<'a> {
    /// The view of the root that `cr3` names; its bits that are no address do not matter.
    pub fn new(cache: &'a TableCache<'a>, cr3: u64, paging: Paging) -> Tables<'a> {
        Tables { cache, root: cr3 & ADDRESS, paging }
    }

    /// The page that holds a virtual address; `None` if there is none, or if the address is not canonical.
    pub fn translate(&self, address: u64) -> Option<Page> {
        self.entry_of(address).map(|(page, _)| page)
    }

    /// The same, with where the entry that maps it stands.
    pub(crate) fn entry_of(&self, address: u64) -> Option<(Page, EntryAt)> {
        if canonical(address, self.paging.levels) != address {
            return None;
        }
        let (mut table, mut grant) = (self.root, Grant::ALL);
        for level in (1..=self.paging.levels).rev() {
            let size = span(level);
            let index = (address / size) as usize % ENTRIES;
            let entry = self.cache.table(table)?[index];
            grant = grant.and(entry);
            match decode(entry, level, &self.paging) {
                Entry::Absent | Entry::Reserved => return None,
                Entry::Table(next) => table = next,
                Entry::Page(physical) => {
                    let rights = grant.of_leaf(entry, &self.paging);
                    let page = Page { address: address & !(size - 1), physical, size, rights };
                    return Some((page, EntryAt { level, at: table + 8 * index as u64, entry }));
                }
            }
        }
        None
    }

    /// Fills `buffer` from a virtual address on, across pages; false, and an unspecified buffer, if any of it is not
    /// mapped or not in memory. What the end of the address space cuts off is not mapped.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let (mut address, mut rest) = (address, buffer);
        while !rest.is_empty() {
            let Some(page) = self.translate(address) else { return false };
            let offset = address - page.address;
            let here =
                usize::try_from(page.size - offset).map_or(rest.len(), |n| n.min(rest.len()));
            let (now, later) = rest.split_at_mut(here);
            if !self.cache.memory.read(page.physical + offset, now) {
                return false;
            }
            rest = later;
            if !rest.is_empty() {
                let Some(next) = address.checked_add(here as u64) else { return false };
                address = next;
            }
        }
        true
    }

    /// Eight bytes from a virtual address on, least significant first, if all of them are mapped and in memory.
    pub fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    /// Whether an address is mapped, and not for user mode.
    pub fn is_supervisor(&self, address: u64) -> bool {
        self.translate(address).is_some_and(|page| !page.rights.user)
    }
}

/// An entry and its place.
#[derive(Clone, Copy, Debug)]
pub struct EntryAt {
    /// Level of its table.
    pub level: u8,
    /// Its physical address.
    pub at: u64,
    /// What it says.
    pub entry: u64,
}
