//! What a region of a program's memory shows: rights, flags, and the file behind it.

use super::page::PAGE;
use crate::fs::Inode;
use crate::fs::seal::WritableMapping;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use linux_raw_sys::general::{PROT_EXEC, PROT_READ, PROT_WRITE};
use ringwall_regions::Attributes;

bitflags! {
    /// Rights, with the numbers of PROT_READ and so on.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Protection: u8 {
        /// Load.
        const READ = PROT_READ as u8;
        /// Store.
        const WRITE = PROT_WRITE as u8;
        /// Fetch.
        const EXECUTE = PROT_EXEC as u8;
    }

    /// All else that a region is.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct RegionFlags: u8 {
        /// Writes are seen by all who map the object.
        const SHARED = 1;
        /// Grows down when the program touches what is below (a stack).
        const GROWS_DOWN = 2;
        /// Fork leaves it out.
        const DONT_FORK = 4;
        /// Fork leaves it empty.
        const WIPE_ON_FORK = 8;
        /// Not counted against the machine's memory.
        const NO_RESERVE = 16;
    }
}

/// Addresses kept free below a region that grows down.
pub(super) const STACK_GAP: u64 = 256 * PAGE;

/// A file as a region shows it.
pub struct MappedFile {
    /// Where the pages come from.
    pub inode: Arc<dyn Inode>,
    /// Its name in /proc/PID/maps.
    pub path: Vec<u8>,
    /// That programs may write it through this mapping, if it is shared: seals ask.
    pub writable: Option<WritableMapping>,
}

/// The attributes of a region.
#[derive(Clone)]
pub(super) struct Mapping {
    /// What the program may do now.
    pub protection: Protection,
    /// What mprotect may allow.
    pub limit: Protection,
    /// See there.
    pub flags: RegionFlags,
    /// The file behind it; none for private memory without a name.
    pub file: Option<Arc<MappedFile>>,
    /// Byte offset in the file of the region's start; 0 without a file.
    pub offset: u64,
}

impl Mapping {
    /// Private memory without a file.
    pub fn anonymous(protection: Protection, flags: RegionFlags) -> Mapping {
        Mapping { protection, limit: Protection::all(), flags, file: None, offset: 0 }
    }

    /// Whether writes are seen by all who map the object.
    #[inline(always)]
    pub fn is_shared(&self) -> bool {
        self.flags.contains(RegionFlags::SHARED)
    }

    /// Whether Linux counts it against the machine's memory: what the program can fill by itself.
    pub fn is_accounted(&self) -> bool {
        self.protection.contains(Protection::WRITE)
            && !self.flags.intersects(RegionFlags::SHARED | RegionFlags::NO_RESERVE)
    }
}

impl Attributes for Mapping {
    fn advance(&mut self, bytes: u64) {
        if self.file.is_some() {
            self.offset += bytes;
        }
    }

    fn continues(&self, next: &Mapping, bytes: u64) -> bool {
        let same_file = match (&self.file, &next.file) {
            (None, None) => true,
            (Some(here), Some(there)) => {
                core::ptr::addr_eq(Arc::as_ptr(&here.inode), Arc::as_ptr(&there.inode))
                    && self.offset + bytes == next.offset
            }
            _ => false,
        };
        same_file
            && self.protection == next.protection
            && self.limit == next.limit
            && self.flags == next.flags
    }

    fn gap_below(&self) -> u64 {
        if self.flags.contains(RegionFlags::GROWS_DOWN) { STACK_GAP } else { 0 }
    }
}
