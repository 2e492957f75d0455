//! Page tables, and what a walk through them gives.
//!
//! ```text
//!   root of a space ──► its table ──┬─ region 0 (2 MiB): pages 0, 1        all of it one frame: the directory and the
//!                                   └─ region 1 (2 MiB): pages 2, 3        page tables below it come and go together
//! ```
//!
//! Invariant: a frame that was freed is never given out again, so whoever still reaches it is noticed; and whoever
//! reaches what another space has.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ringwall_core::root::{RootPair, is_user};

use crate::machine::{Structure, Translation};

/// More than a CPU has slots for here.
pub const SPACES: usize = 5;
pub const PAGES: usize = 4;
pub const REGIONS: usize = 2;
const PER_REGION: usize = PAGES / REGIONS;
pub const PAGE_BYTES: u64 = 4096;
pub const REGION_BYTES: u64 = 1 << 21;
/// Pages of the kernel half that user roots map too, so far apart that both together are not flushed by page; where
/// nothing tells PCIDs apart they are global.
pub const SHARED_PAGES: usize = 2;

/// Address of a page of the kernel half that only kernel roots map, and that is never taken out.
const KERNEL_ONLY: u64 = 1 << 40;
/// Stands for NX being clear in the user half of an open space's kernel root.
const EXECUTABLE: u64 = 1 << 41;

/// What nobody takes out.
const KERNEL_FRAME: u64 = 0;

pub fn address(page: usize) -> u64 {
    (page / PER_REGION) as u64 * REGION_BYTES + (page % PER_REGION) as u64 * PAGE_BYTES
}

pub fn shared_address(page: usize) -> u64 {
    (1 << 42) + page as u64 * 1024 * PAGE_BYTES
}

pub fn is_user_page(address: u64) -> bool {
    address < PAGES as u64 * REGION_BYTES || address == EXECUTABLE
}

pub fn roots(space: usize) -> RootPair {
    RootPair::new((space as u64 + 1) << 13).expect("8 KiB aligned")
}

/// The tables of one space.
#[derive(Clone, Copy, Debug, Default)]
pub struct Root {
    /// Frame of the table.
    pub table: Option<u64>,
    /// While it is open: a number that stands for that.
    pub open: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Memory {
    pub roots: [Root; SPACES],
    /// What each table that was not freed holds. It is not cleared when it is taken out.
    pub tables: HashMap<u64, [Option<u64>; PAGES]>,
    pub shared: [Option<u64>; SHARED_PAGES],
    /// Which space frames were given to.
    owners: HashMap<u64, usize>,
    next: u64,
    free: HashSet<u64>,
}

impl Memory {
    pub fn allocate(&mut self, owner: Option<usize>) -> u64 {
        self.next += 1;
        self.owners.extend(owner.map(|owner| (self.next, owner)));
        self.next
    }

    pub fn free(&mut self, frame: u64) {
        self.tables.remove(&frame);
        self.free.insert(frame);
    }

    /// The pages of a space that are mapped.
    pub fn pages(&self, space: usize) -> [Option<u64>; PAGES] {
        let table = self.roots[space].table;
        table.and_then(|table| self.tables.get(&table)).copied().unwrap_or_default()
    }

    pub fn map(&mut self, space: usize, page: usize) {
        if self.roots[space].table.is_none() {
            let table = self.allocate(Some(space));
            self.tables.insert(table, [None; PAGES]);
            self.roots[space].table = Some(table);
        }
        if self.pages(space)[page].is_none() {
            let frame = self.allocate(Some(space));
            self.set(space, page, Some(frame));
        }
    }

    pub fn set(&mut self, space: usize, page: usize, frame: Option<u64>) {
        let pages = self.roots[space].table.and_then(|table| self.tables.get_mut(&table));
        pages.expect("a table is there")[page] = frame;
    }

    /// Maps `frame`, if there still is a table, and nothing there.
    pub fn put(&mut self, space: usize, page: usize, frame: u64) {
        if self.roots[space].table.is_some() && self.pages(space)[page].is_none() {
            self.set(space, page, Some(frame));
        }
    }

    /// What is at an address of the user half now.
    fn present(&self, space: usize, at: u64) -> Option<u64> {
        let page = ALL_PAGES.into_iter().find(|page| address(*page) == at)?;
        self.pages(space)[page]
    }

    /// The space that a value of CR3 belongs to.
    pub fn space(cr3: u64) -> Option<usize> {
        let number = (RootPair::of_cr3(cr3).kernel_root() >> 13) as usize;
        (1..=SPACES).contains(&number).then(|| number - 1)
    }

    /// Every upper entry on the way to pages of the user half.
    pub fn structures(&self, cr3: u64, pcid: u16) -> impl Iterator<Item = Structure> + use<> {
        let table = Memory::space(cr3).and_then(|space| self.roots[space].table);
        let each = (0..REGIONS as u64).map(move |region| Some((pcid, region, table?)));
        each.flatten()
    }

    /// Every page that a cached upper entry leads to. A table that is free may hold anything: see [`Memory::fault`].
    pub fn below(&self, &(pcid, region, table): &Structure) -> impl Iterator<Item = Translation> {
        let pages = self.tables.get(&table).into_iter().flatten().enumerate();
        pages.skip(region as usize * PER_REGION).take(PER_REGION).filter_map(
            move |(page, frame)| {
                let frame = (*frame)?;
                Some((pcid, address(page), frame))
            },
        )
    }

    /// Every page of the kernel half, and what else the root itself says. `shared` is what shared pages are tagged with.
    pub fn kernel_half(
        &self,
        cr3: u64,
        pcid: u16,
        shared: u16,
    ) -> impl Iterator<Item = Translation> {
        let pages = self.shared.iter().enumerate();
        let pages = pages.filter_map(move |(page, frame)| {
            frame.map(|frame| (shared, shared_address(page), frame))
        });
        let in_kernel = (!is_user(cr3)).then_some((pcid, KERNEL_ONLY, KERNEL_FRAME));
        let open = Memory::space(cr3).and_then(|space| self.roots[space].open);
        let open = open.filter(|_| !is_user(cr3)).map(|open| (pcid, EXECUTABLE, open));
        pages.chain(in_kernel).chain(open)
    }

    /// Why `frame` must not be reached at `address` under `cr3`.
    pub fn fault(&self, cr3: u64, address: u64, frame: u64) -> Option<String> {
        let owner = self.owners.get(&frame).copied();
        if self.free.contains(&frame) {
            Some(format!("reaches the free frame {frame} at {address:#x}"))
        } else if owner.is_some() && owner != Memory::space(cr3) {
            Some(format!("reaches frame {frame} of space {owner:?} at {address:#x}"))
        } else if address == KERNEL_ONLY && is_user(cr3) {
            Some("reaches the kernel's own page under a user root".to_owned())
        } else {
            // Others store to that one already.
            let other = self.present(owner?, address).filter(|present| *present != frame);
            other.map(|other| {
                format!("reaches frame {frame} at {address:#x}, where {other} is by now")
            })
        }
    }

    /// Why a walk must not go through `table` under `cr3`.
    pub fn fault_of_walk(&self, cr3: u64, table: u64) -> Option<String> {
        if self.free.contains(&table) {
            Some(format!("walks through the free table {table}"))
        } else if self.owners.get(&table).copied() != Memory::space(cr3) {
            Some(format!("walks through table {table} of another space"))
        } else {
            None
        }
    }
}

/// Regions of the user half, to say what covers an address.
pub fn region(address: u64) -> u64 {
    address / REGION_BYTES
}

pub const ALL_PAGES: Range<usize> = 0..PAGES;
