//! Kernel ranges that a kernel maps into the shared user view on purpose, beside the entry area.
//!
//! Debug stores and the like have to be reachable under every user root. Each such range is supervisor
//! memory that user mode's tables show, so the set is small, refuses what it cannot take back exactly,
//! and can be listed: an audit shows every use.
//!
//! ```text
//!   top-level slot 511 of a user root   ffff_ff80_0000_0000 ... ffff_ffff_ffff_ffff
//!   ├────────────┤ range ├──────────┤ entry area ├───────┤ range ├──────────────┤
//! ```
//!
//! Invariants: every range is whole pages inside slot 511, the one kernel-half slot that a user root
//! has, so that a new range is in every user root without writing to any; no two ranges overlap, and
//! none overlaps the entry area, so that removing one never takes away a page that something else
//! needs.
//!
//! Intel SDM vol. 3, 4.5 (top-level entries); 17.4.9 (debug store areas).

use crate::area::{AREA_BYTES, EntryArea, PAGE_SIZE};
use crate::paging::{KERNEL_HALF_START, canonical, index};
use crate::root::ENTRY_SLOT;
use core::fmt;

/// Why a range is refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareError {
    /// The range has no bytes.
    Empty(u64),
    /// Start or size is no multiple of [`PAGE_SIZE`].
    Misaligned {
        /// First address.
        start: u64,
        /// Size in bytes.
        bytes: u64,
    },
    /// The range starts in the user half, or where no address is canonical.
    NotKernelHalf(u64),
    /// The range leaves top-level slot 511: user roots have no other kernel-half slot.
    OutsideSlot {
        /// First address.
        start: u64,
        /// Size in bytes.
        bytes: u64,
    },
    /// The range overlaps the entry area that starts here.
    OverlapsArea(u64),
    /// The range overlaps one that is shared already.
    Overlaps(SharedRange),
    /// All places of the set, this many, are taken.
    Full(usize),
    /// To remove: no range with exactly this start and size is shared.
    NotShared(SharedRange),
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty(start) => write!(f, "shared range at {start:#x} is empty"),
            Self::Misaligned { start, bytes } => {
                write!(f, "shared range of {bytes:#x} bytes at {start:#x} is not whole pages")
            }
            Self::NotKernelHalf(start) => {
                write!(f, "shared range at {start:#x} is not in the kernel half")
            }
            Self::OutsideSlot { start, bytes } => write!(
                f,
                "shared range of {bytes:#x} bytes at {start:#x} leaves the top 512 GiB, \
                 all that user roots have of the kernel half"
            ),
            Self::OverlapsArea(base) => {
                write!(f, "shared range overlaps the entry area at {base:#x}")
            }
            Self::Overlaps(other) => write!(f, "shared range overlaps {other}"),
            Self::Full(places) => write!(f, "all {places} places for shared ranges are taken"),
            Self::NotShared(range) => write!(f, "{range} is not shared as such"),
        }
    }
}

impl core::error::Error for ShareError {}

/// Whole pages of slot 511.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SharedRange {
    start: u64,
    bytes: u64,
}

impl SharedRange {
    /// The range of `bytes` bytes from `start`.
    ///
    /// # Errors
    ///
    /// [`ShareError`] unless it is one page or more, page-aligned, and inside top-level slot 511.
    /// That it does not overlap is for [`SharedRanges::insert`] to check.
    pub const fn new(start: u64, bytes: u64) -> Result<Self, ShareError> {
        if bytes == 0 {
            return Err(ShareError::Empty(start));
        }
        if !start.is_multiple_of(PAGE_SIZE) || !bytes.is_multiple_of(PAGE_SIZE) {
            return Err(ShareError::Misaligned { start, bytes });
        }
        if start < KERNEL_HALF_START || !canonical(start) {
            return Err(ShareError::NotKernelHalf(start));
        }
        // From slot 511 on, an end past the slot is an end past the last address.
        match start.checked_add(bytes - 1) {
            Some(_) if index(4, start) == ENTRY_SLOT => Ok(Self { start, bytes }),
            _ => Err(ShareError::OutsideSlot { start, bytes }),
        }
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Size in bytes, a multiple of [`PAGE_SIZE`], never 0.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bytes
    }

    /// Last address. (The one after it may not exist.)
    #[must_use]
    pub const fn last(self) -> u64 {
        self.start + (self.bytes - 1)
    }

    /// Whether `addr` is in it.
    #[must_use]
    pub const fn contains(self, addr: u64) -> bool {
        self.start <= addr && addr <= self.last()
    }

    /// Whether the two have a page in common.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.last() && other.start <= self.last()
    }

    /// The addresses of its pages, ascending.
    pub fn pages(self) -> impl Iterator<Item = u64> {
        (0..self.bytes / PAGE_SIZE).map(move |page| self.start + page * PAGE_SIZE)
    }
}

impl fmt::Display for SharedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shared range {:#x}..={:#x}", self.start, self.last())
    }
}

/// The ranges that are shared now, at most `N`.
#[derive(Clone, Debug)]
pub struct SharedRanges<const N: usize> {
    area: EntryArea,
    ranges: [Option<SharedRange>; N],
}

impl<const N: usize> SharedRanges<N> {
    /// No range yet, beside `area`.
    #[must_use]
    pub const fn new(area: EntryArea) -> Self {
        Self { area, ranges: [None; N] }
    }

    /// Adds `range`. Check and book-keeping in one: map its pages after it succeeded.
    ///
    /// # Errors
    ///
    /// [`ShareError::OverlapsArea`], [`ShareError::Overlaps`] or [`ShareError::Full`].
    pub fn insert(&mut self, range: SharedRange) -> Result<(), ShareError> {
        let area = SharedRange { start: self.area.base(), bytes: AREA_BYTES };
        if range.overlaps(area) {
            return Err(ShareError::OverlapsArea(self.area.base()));
        }
        if let Some(other) = self.iter().find(|other| other.overlaps(range)) {
            return Err(ShareError::Overlaps(other));
        }
        let free = self.ranges.iter_mut().find(|place| place.is_none());
        *free.ok_or(ShareError::Full(N))? = Some(range);
        Ok(())
    }

    /// Removes `range`, which must be one that was inserted, not a part and not a union. Unmap its
    /// pages, and flush them on every CPU, before the memory is used for anything else.
    ///
    /// # Errors
    ///
    /// [`ShareError::NotShared`].
    pub fn remove(&mut self, range: SharedRange) -> Result<(), ShareError> {
        let place = self.ranges.iter_mut().find(|place| **place == Some(range));
        *place.ok_or(ShareError::NotShared(range))? = None;
        Ok(())
    }

    /// The ranges, in no order.
    pub fn iter(&self) -> impl Iterator<Item = SharedRange> {
        self.ranges.iter().copied().flatten()
    }

    /// The range that `addr` is in.
    #[must_use]
    pub fn find(&self, addr: u64) -> Option<SharedRange> {
        self.iter().find(|range| range.contains(addr))
    }

    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of supervisor memory that they add to every user root.
    #[must_use]
    pub fn visible_bytes(&self) -> u64 {
        self.iter().map(SharedRange::bytes).sum()
    }
}
