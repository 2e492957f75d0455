//! Page faults: pages appear, and are copied, when they are touched.
//!
//! ```text
//!                    nothing there                     there, not writable
//!   private, no file  read: the page of zeros           zeros: a new page; else below
//!                     write: a new page
//!   private file      read: the file's page             held by others too: a copy
//!                     write: a copy of it               held by nobody else: made writable
//!   shared            the object's page, writable       made writable
//! ```

use super::Mm;
use super::mapping::{Mapping, Protection, RegionFlags, STACK_GAP};
use super::page::{self, PAGE, Page};
use super::space::Space;
use super::table::{self, Entry, leaf};
use super::tlb::replace;
use crate::errno::Errno;
use crate::task::{BREATH, was_killed};
use core::ops::Range;
use core::sync::atomic::Ordering::{Relaxed, Release};
use ringwall::AddressSpace;
use ringwall_regions::Region;

/// What an instruction wanted of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
    /// Fetch.
    Execute,
}

/// Why a fault could not be satisfied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing is mapped there (SIGSEGV, SEGV_MAPERR).
    NotMapped,
    /// Mapped without that permission (SIGSEGV, SEGV_ACCERR).
    Denied,
    /// Past the end of the mapped file (SIGBUS, BUS_ADRERR).
    BeyondFile,
    /// No memory left.
    NoMemory,
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Fault {
        if error == Errno::ENOMEM { Fault::NoMemory } else { Fault::BeyondFile }
    }
}

impl Access {
    /// Whether a region with these rights allows it. On x86 whatever can be written or executed can
    /// be read.
    pub(super) fn is_allowed(self, protection: Protection) -> bool {
        match self {
            Access::Read => !protection.is_empty(),
            Access::Write => protection.contains(Protection::WRITE),
            Access::Execute => protection.contains(Protection::EXECUTE),
        }
    }
}

impl Mm {
    /// Resolves a page fault at `address`.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn fault(&self, address: u64, access: Access) -> Result<(), Fault> {
        let mut space = self.space.lock();
        let space = &mut *space;
        let region = match space.regions.at_or_above(address) {
            Some(region) if region.start <= address => region,
            Some(region) if region.attributes.flags.contains(RegionFlags::GROWS_DOWN) => {
                let end = region.end;
                space.grow_stack(address & !(PAGE - 1), end, self.stack_limit())?;
                space.regions.find(address).ok_or(Fault::NotMapped)?
            }
            _ => return Err(Fault::NotMapped),
        };
        if !access.is_allowed(region.attributes.protection) {
            return Err(Fault::Denied);
        }
        let write = access == Access::Write;
        space.resident += provide(self.roots(), region, address & !(PAGE - 1), write)?;
        Ok(())
    }

    /// Makes the pages of `range` present as if the program had touched them, up to the first that
    /// cannot be.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) fn populate(&self, range: Range<u64>) -> Result<(), Fault> {
        let mut address = range.start;
        while address < range.end {
            let mut space = self.space.lock();
            let region = space.regions.find(address).ok_or(Fault::NotMapped)?;
            let mapping = &region.attributes;
            let writes = mapping.protection.contains(Protection::WRITE) && !mapping.is_shared();
            if mapping.protection.is_empty() {
                return Err(Fault::Denied);
            }
            space.resident += provide(self.roots(), region, address, writes)?;
            drop(space);
            address += PAGE;
            if address.is_multiple_of(BREATH) && was_killed() {
                return Err(Fault::NoMemory);
            }
        }
        Ok(())
    }
}

impl Space {
    /// Makes the page of `address` the program's own, whatever its rights, and gives its frame. For
    /// exec, which fills pages that the program may only read.
    pub(super) fn own(&mut self, roots: &AddressSpace, address: u64) -> Result<Page, Fault> {
        let region = self.regions.find(address).ok_or(Fault::NotMapped)?;
        self.resident += provide(roots, region, address & !(PAGE - 1), true)?;
        let entry = table::slot(roots, address).ok_or(Fault::NotMapped)?.load(Relaxed);
        // SAFETY: the entry holds it, and the address space is locked.
        Ok(unsafe { Page::of_entry(table::frame_of(entry)) })
    }

    /// Grows the stack that ends at `end` down to `start`, if it may grow so far.
    #[inline(never)]
    fn grow_stack(&mut self, start: u64, end: u64, limit: u64) -> Result<(), Fault> {
        if end - start > limit || start < super::map::LOWEST {
            return Err(Fault::NotMapped);
        }
        let below = self.regions.end_below(start);
        if start - below < STACK_GAP
            && let Some(region) = below.checked_sub(1).and_then(|last| self.regions.find(last))
            && !region.attributes.protection.is_empty()
            && !region.attributes.flags.contains(RegionFlags::GROWS_DOWN)
        {
            return Err(Fault::NotMapped);
        }
        self.regions.grow_down(end, start);
        Ok(())
    }
}

/// Makes the page at `address` present, and writable if `write`. Gives 1 if the program has a page
/// more than before.
#[inline(always)]
pub(super) fn provide(
    roots: &AddressSpace,
    region: &Region<Mapping>,
    address: u64,
    write: bool,
) -> Result<usize, Fault> {
    let mapping = &region.attributes;
    let slot = table::slot_or_make(roots, address)?;
    let old = slot.load(Relaxed);
    if old != 0 {
        return if write && !table::is_writable(old) {
            unshare(roots, mapping, address, slot, old)
        } else {
            // Another CPU was faster, or this one knew less than the tables allow by now: the fault made it forget
            // that (SDM vol. 3, 4.10.4.3).
            Ok(0)
        };
    }
    let (frame, writable) = match &mapping.file {
        None if write => (Page::zeroed()?.into_entry(), true),
        None => (page::zeros()?, false),
        Some(file) => {
            let page = file.inode.page((mapping.offset + (address - region.start)) / PAGE)?;
            match (mapping.is_shared(), write) {
                (true, _) => (page.into_entry(), true),
                (false, false) => (page.into_entry(), false),
                (false, true) => (page.copied()?.into_entry(), true),
            }
        }
    };
    // Release: the CPU may use it at once, and must find it filled.
    slot.store(leaf(frame, mapping.protection, writable), Release);
    Ok(usize::from(!page::is_zeros(frame)))
}

/// Makes a page writable that is there: as it is if nobody else has it, else as a copy.
#[inline(never)]
fn unshare(
    roots: &AddressSpace,
    mapping: &Mapping,
    address: u64,
    slot: &Entry,
    old: u64,
) -> Result<usize, Fault> {
    let frame = table::frame_of(old);
    // SAFETY: the entry holds it, and the address space is locked.
    if mapping.is_shared() || unsafe { Page::is_only_entry(frame) } {
        slot.store(leaf(frame, mapping.protection, true), Relaxed);
        return Ok(0);
    }
    let from_zeros = page::is_zeros(frame);
    let new = if from_zeros {
        Page::zeroed()?
    } else {
        // SAFETY: as above.
        unsafe { Page::of_entry(frame) }.copied()?
    };
    replace(roots, address, slot, leaf(new.into_entry(), mapping.protection, true));
    // SAFETY: the entry held it and holds another now; the TLB has forgotten it.
    drop(unsafe { Page::from_entry(frame) });
    Ok(usize::from(from_zeros))
}
