//! Growing, shrinking and moving regions: mremap.

use super::Mm;
use super::layout::USER_END;
use super::map::{check_commit, whole_pages};
use super::mapping::Mapping;
use super::page::PAGE;
use super::space::{MOST_REGIONS, Space};
use super::table;
use super::tlb::Stale;
use crate::errno::{Errno, Result};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general::{MAP_FIXED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE};
use ringwall::AddressSpace;
use ringwall_regions::Attributes;

impl Mm {
    /// Makes `old_length` bytes at `old` `new_length` long, there or elsewhere; gives the address.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`, `ENOMEM`.
    pub fn remap(
        &self,
        old: u64,
        old_length: u64,
        new_length: u64,
        flags: u32,
        new: u64,
    ) -> Result<u64> {
        let known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        let may_move = flags & MREMAP_MAYMOVE != 0;
        let keep = flags & MREMAP_DONTUNMAP != 0;
        if flags & !known != 0
            || (flags & MREMAP_FIXED != 0 && !may_move)
            || (keep && (!may_move || old_length != new_length))
            || !old.is_multiple_of(PAGE)
            || new_length == 0
        {
            return Err(Errno::EINVAL);
        }
        // As Linux rounds it: what is no number of pages is 0.
        let mut old_length = old_length.checked_next_multiple_of(PAGE).unwrap_or(0);
        let new_length = whole_pages(new_length).map_err(|_| Errno::EINVAL)?;
        super::admit()?;
        let mut space = self.space.lock();
        let space = &mut *space;
        if space.regions.find(old).is_none() {
            return Err(Errno::EFAULT);
        }
        // What is cut off has to be a program's memory, mapped or not.
        if old_length > new_length && old_length > USER_END - old {
            return Err(Errno::EINVAL);
        }
        let fixed = flags & MREMAP_FIXED != 0;
        if fixed {
            space.make_way(self.roots(), old..old + old_length, new, new_length)?;
        }
        if old_length > new_length {
            space.unmap(self.roots(), old + new_length..old + old_length);
            if !fixed {
                return Ok(old);
            }
            old_length = new_length;
        }
        let source = space.source(old, old_length, new_length)?;
        if fixed || keep {
            let at = if fixed { new } else { space.place(new, new_length, 0)? };
            return space.shift(self.roots(), old..old + old_length, at, new_length, source, keep);
        }
        if old_length == new_length && old_length != 0 {
            return Ok(old);
        }
        if space.grow_in_place(old, old_length, new_length, &source) {
            return Ok(old);
        }
        if !may_move {
            return Err(Errno::ENOMEM);
        }
        let at = space.place(0, new_length, 0)?;
        space.shift(self.roots(), old..old + old_length, at, new_length, source, false)
    }
}

impl Space {
    /// Clears the place that MREMAP_FIXED names.
    fn make_way(
        &mut self,
        roots: &AddressSpace,
        old: Range<u64>,
        new: u64,
        length: u64,
    ) -> Result<()> {
        if !new.is_multiple_of(PAGE) || new > USER_END - length {
            return Err(Errno::EINVAL);
        }
        if old.start < new + length && new < old.end {
            return Err(Errno::EINVAL);
        }
        if self.regions.count() + 6 > MOST_REGIONS {
            return Err(Errno::ENOMEM);
        }
        self.unmap(roots, new..new + length);
        Ok(())
    }

    /// The attributes of the memory at `old`, which has to be one region.
    fn source(&self, old: u64, old_length: u64, new_length: u64) -> Result<Mapping> {
        let region = self.regions.find(old).ok_or(Errno::EFAULT)?;
        if old_length == 0 && !region.attributes.is_shared() {
            return Err(Errno::EINVAL);
        }
        if old_length > region.end - old {
            return Err(Errno::EFAULT);
        }
        let growth = new_length.saturating_sub(old_length);
        if region.attributes.is_accounted() {
            check_commit(growth)?;
        }
        let mut mapping = region.attributes.clone();
        mapping.advance(old - region.start);
        mapping.offset.checked_add(new_length).ok_or(Errno::EINVAL)?;
        Ok(mapping)
    }

    fn grow_in_place(&mut self, old: u64, from: u64, to: u64, source: &Mapping) -> bool {
        let added = old + from..old.saturating_add(to);
        let ends_here = self.regions.find(old).is_some_and(|region| region.end == added.start);
        if from == 0 || !ends_here || added.end > USER_END || !self.has_room(added.clone()) {
            return false;
        }
        let mut mapping = source.clone();
        mapping.advance(from);
        self.regions.insert(added.start, added.end, mapping);
        true
    }

    /// Makes a region of `length` bytes at `new` of what is in `old`, pages and all. `keep`: the
    /// old region stays, empty.
    fn shift(
        &mut self,
        roots: &AddressSpace,
        old: Range<u64>,
        new: u64,
        length: u64,
        source: Mapping,
        keep: bool,
    ) -> Result<u64> {
        if self.regions.count() + 3 > MOST_REGIONS {
            return Err(Errno::ENOMEM);
        }
        let new = self.place(new, length, MAP_FIXED)?;
        // All tables first: after that nothing can fail.
        let ready = table::try_for_each(roots, old.clone(), |address, _| {
            table::slot_or_make(roots, new + (address - old.start)).map(drop)
        });
        if let Err(error) = ready {
            self.prune(roots, new..new + length, &mut Stale::new(roots));
            return Err(error);
        }
        self.regions.insert(new, new + length, source);
        let mut stale = Stale::new(roots);
        table::for_each(roots, old.clone(), |address, entry| {
            if let Some(target) = table::slot(roots, new + (address - old.start)) {
                target.store(entry.load(Relaxed), Relaxed);
                entry.store(0, Relaxed);
                stale.touch(address);
            }
        });
        if !keep && !old.is_empty() {
            self.regions.remove(old.clone(), drop);
            self.prune(roots, old, &mut stale);
        }
        Ok(new)
    }
}
