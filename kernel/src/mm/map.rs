//! Making and removing regions: mmap, munmap, brk.

use super::Mm;
use super::layout::USER_END;
use super::mapping::{MappedFile, Mapping, Protection, RegionFlags};
use super::page::PAGE;
use super::space::{MOST_REGIONS, Space};
use super::{frame, shared};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use core::ops::Range;
use linux_raw_sys::general::{
    MAP_32BIT, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_GROWSDOWN, MAP_LOCKED, MAP_NONBLOCK,
    MAP_NORESERVE, MAP_POPULATE,
};
use ringwall::AddressSpace;
use ringwall_regions::Attributes;

/// Below here nothing is placed (vm.mmap_min_addr); who asks for it by MAP_FIXED may have it.
pub(super) const LOWEST: u64 = 64 << 10;
/// Where MAP_32BIT places mappings.
const LOW_WINDOW: Range<u64> = 0x4000_0000..0x8000_0000;

/// What mmap is asked for.
pub struct Request {
    /// Where, or near where, or 0.
    pub address: u64,
    /// Bytes.
    pub length: u64,
    /// Rights.
    pub protection: Protection,
    /// MAP_ flags, the type left out.
    pub flags: u32,
    /// Whether writes are seen by all who map the object.
    pub shared: bool,
    /// The file, or none for MAP_ANONYMOUS.
    pub file: Option<Arc<MappedFile>>,
    /// Byte offset in the file.
    pub offset: u64,
    /// What mprotect may allow.
    pub limit: Protection,
}

/// `length` rounded up to pages.
///
/// # Errors
/// `ENOMEM` if that is not a number or more than a program's memory.
pub(super) fn whole_pages(length: u64) -> Result<u64> {
    length.checked_next_multiple_of(PAGE).filter(|&bytes| bytes <= USER_END).ok_or(Errno::ENOMEM)
}

/// Refuses what obviously is too much: more than the machine has at once (Linux's heuristic).
pub(super) fn check_commit(bytes: u64) -> Result<()> {
    let (total, _) = frame::totals();
    if bytes / PAGE > total as u64 { Err(Errno::ENOMEM) } else { Ok(()) }
}

impl Mm {
    /// Maps something; gives its address.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`, `EEXIST`, `EOVERFLOW`.
    pub fn map(&self, request: Request) -> Result<u64> {
        if request.length == 0 {
            return Err(Errno::EINVAL);
        }
        let length = whole_pages(request.length)?;
        let pages_end = (request.offset / PAGE).checked_add(length / PAGE);
        if pages_end.is_none_or(|end| end > u64::MAX / PAGE) {
            return Err(Errno::EOVERFLOW);
        }
        super::admit()?;
        let mut mapping = Mapping {
            protection: request.protection,
            limit: request.limit,
            flags: RegionFlags::empty(),
            offset: if request.file.is_some() { request.offset } else { 0 },
            file: request.file,
        };
        mapping.flags.set(RegionFlags::SHARED, request.shared);
        mapping.flags.set(RegionFlags::GROWS_DOWN, request.flags & MAP_GROWSDOWN != 0);
        mapping.flags.set(RegionFlags::NO_RESERVE, request.flags & MAP_NORESERVE != 0);
        if mapping.is_accounted() {
            check_commit(length)?;
        }
        if request.shared && mapping.file.is_none() {
            if request.flags & MAP_NORESERVE == 0 {
                check_commit(length)?;
            }
            mapping.file = Some(shared::new(length));
        }
        let start = {
            let mut space = self.space.lock();
            let start = space.place(request.address, length, request.flags)?;
            space.replace(self.roots(), start..start + length, mapping)?;
            start
        };
        let eager = request.flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE;
        if eager || request.flags & MAP_LOCKED != 0 {
            // What cannot be made present now is tried again when it is touched. More than the
            // machine has would only keep everybody waiting.
            if check_commit(length).is_ok() {
                let _ = self.populate(start..start + length);
            }
        }
        Ok(start)
    }

    /// Unmaps whatever is in `length` bytes at `start`.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn unmap(&self, start: u64, length: u64) -> Result<()> {
        let range = checked_range(start, length)?;
        let mut space = self.space.lock();
        if space.regions.count() >= MOST_REGIONS {
            return Err(Errno::ENOMEM);
        }
        space.unmap(self.roots(), range);
        Ok(())
    }

    /// Moves the end of the heap to `end` if that can be done; gives where it is then.
    pub fn set_heap_end(&self, end: u64) -> u64 {
        let mut space = self.space.lock();
        let heap = space.heap.clone();
        if end < heap.start || end >= USER_END {
            return heap.end;
        }
        let old = heap.end.next_multiple_of(PAGE);
        let new = end.next_multiple_of(PAGE);
        if new < old {
            space.unmap(self.roots(), new..old);
        } else if new > old && space.grow_heap(old..new).is_err() {
            return heap.end;
        }
        space.heap.end = end;
        end
    }
}

/// The pages of munmap's and mremap's arguments.
fn checked_range(start: u64, length: u64) -> Result<Range<u64>> {
    if !start.is_multiple_of(PAGE) || start > USER_END || length > USER_END - start {
        return Err(Errno::EINVAL);
    }
    match length.next_multiple_of(PAGE) {
        0 => Err(Errno::EINVAL),
        length => Ok(start..start + length),
    }
}

impl Space {
    /// Finds the place for a mapping of `length` bytes, as `flags` say.
    pub(super) fn place(&mut self, address: u64, length: u64, flags: u32) -> Result<u64> {
        if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
            if address > USER_END - length {
                return Err(Errno::ENOMEM);
            }
            if !address.is_multiple_of(PAGE) {
                return Err(Errno::EINVAL);
            }
            let keep = flags & MAP_FIXED_NOREPLACE != 0;
            if keep && !self.regions.is_free(address..address + length) {
                return Err(Errno::EEXIST);
            }
            return Ok(address);
        }
        let window = if flags & MAP_32BIT != 0 { LOW_WINDOW } else { LOWEST..USER_END };
        if address != 0 {
            let hint = (address & !(PAGE - 1)).max(LOWEST);
            if hint <= window.end.saturating_sub(length) && self.has_room(hint..hint + length) {
                return Ok(hint);
            }
        }
        if flags & MAP_32BIT != 0 {
            return self.highest(length, LOW_WINDOW.start, LOW_WINDOW.end);
        }
        let below = self.highest(length, LOWEST, self.ceiling);
        below.or_else(|error| {
            // Only above the usual window is there room: take it, if need be next to the stack.
            if self.ceiling < USER_END {
                self.highest(length, LOWEST, USER_END)
            } else {
                Err(error)
            }
        })
    }

    fn highest(&mut self, length: u64, floor: u64, ceiling: u64) -> Result<u64> {
        self.regions.highest_hole(length, floor, ceiling).ok_or(Errno::ENOMEM)
    }

    /// Whether `range` is free, and the gap that the region above wants too.
    pub(super) fn has_room(&self, range: Range<u64>) -> bool {
        self.regions.at_or_above(range.start).is_none_or(|above| {
            above.start.saturating_sub(above.attributes.gap_below()) >= range.end
        })
    }

    /// Puts a region at `range`, in place of what is there.
    pub(super) fn replace(
        &mut self,
        roots: &AddressSpace,
        range: Range<u64>,
        mapping: Mapping,
    ) -> Result<()> {
        if self.regions.count() >= MOST_REGIONS {
            return Err(Errno::ENOMEM);
        }
        self.unmap(roots, range.clone());
        self.regions.insert(range.start, range.end, mapping);
        Ok(())
    }

    fn grow_heap(&mut self, range: Range<u64>) -> Result<()> {
        super::admit()?;
        check_commit(range.end - range.start)?;
        // One page stays free, so that the heap never touches what comes next.
        if self.regions.count() >= MOST_REGIONS
            || range.end >= USER_END - PAGE
            || !self.has_room(range.start..range.end + PAGE)
        {
            return Err(Errno::ENOMEM);
        }
        let rights = Protection::READ | Protection::WRITE;
        self.regions.insert(
            range.start,
            range.end,
            Mapping::anonymous(rights, RegionFlags::empty()),
        );
        Ok(())
    }
}
