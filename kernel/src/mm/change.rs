//! Changing regions: mprotect, madvise, mincore.

use super::Mm;
use super::fault::{Access, Fault};
use super::map::check_commit;
use super::mapping::{Mapping, Protection, RegionFlags};
use super::page::{PAGE, Page};
use super::space::{MOST_REGIONS, Space};
use super::table;
use super::tlb::Stale;
use crate::errno::{Errno, Result};
use crate::task::{BREATH, was_killed};
use core::ops::Range;
use core::sync::atomic::Ordering::Relaxed;
use linux_raw_sys::general as linux;
use ringwall::AddressSpace;

/// `length` bytes at `start` as whole pages; `error` if they are no part of a program's memory.
pub(super) fn pages(start: u64, length: u64, error: Errno) -> Result<Range<u64>> {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let end = length.checked_next_multiple_of(PAGE).and_then(|bytes| start.checked_add(bytes));
    Ok(start..end.ok_or(error)?)
}

impl Mm {
    /// Changes the rights of `length` bytes at `start`. What comes before the first obstacle is
    /// changed even if there is one. `grows_down`: PROT_GROWSDOWN, from the start of the stack.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`, `EACCES`.
    pub fn protect(
        &self,
        start: u64,
        length: u64,
        protection: Protection,
        grows_down: bool,
    ) -> Result<()> {
        let mut range = pages(start, length, Errno::ENOMEM)?;
        if range.is_empty() {
            return Ok(());
        }
        super::admit()?;
        let mut space = self.space.lock();
        if grows_down {
            let region = space.regions.find(start).ok_or(Errno::ENOMEM)?;
            if !region.attributes.flags.contains(RegionFlags::GROWS_DOWN) {
                return Err(Errno::EINVAL);
            }
            range.start = region.start;
        }
        if space.regions.count() + 2 > MOST_REGIONS {
            return Err(Errno::ENOMEM);
        }
        let (end, result) = space.protectable(&range, protection);
        space.protect(self.roots(), range.start..end, protection);
        result
    }

    /// Takes advice about `length` bytes at `start`.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`, `EFAULT`.
    pub fn advise(&self, start: u64, length: u64, advice: u32) -> Result<()> {
        let change = match advice {
            linux::MADV_NORMAL | linux::MADV_RANDOM | linux::MADV_SEQUENTIAL => Advice::Nothing,
            linux::MADV_WILLNEED | linux::MADV_COLD | linux::MADV_PAGEOUT => Advice::Nothing,
            linux::MADV_HUGEPAGE | linux::MADV_NOHUGEPAGE => Advice::Nothing,
            linux::MADV_MERGEABLE | linux::MADV_UNMERGEABLE => Advice::Nothing,
            linux::MADV_DODUMP | linux::MADV_DONTDUMP => Advice::Nothing,
            linux::MADV_DONTNEED => Advice::Drop,
            linux::MADV_FREE => Advice::Free,
            linux::MADV_DONTFORK => Advice::Set(RegionFlags::DONT_FORK),
            linux::MADV_DOFORK => Advice::Clear(RegionFlags::DONT_FORK),
            linux::MADV_WIPEONFORK => Advice::Set(RegionFlags::WIPE_ON_FORK),
            linux::MADV_KEEPONFORK => Advice::Clear(RegionFlags::WIPE_ON_FORK),
            linux::MADV_POPULATE_READ => Advice::Populate(Access::Read),
            linux::MADV_POPULATE_WRITE => Advice::Populate(Access::Write),
            _ => return Err(Errno::EINVAL),
        };
        let range = pages(start, length, Errno::EINVAL)?;
        if range.is_empty() {
            return Ok(());
        }
        if let Advice::Populate(access) = change {
            return self.touch(range, access);
        }
        // Giving memory back has to work when there is none.
        if matches!(change, Advice::Set(_) | Advice::Clear(_)) {
            super::admit()?;
        }
        self.space.lock().advise(self.roots(), range, change)
    }

    /// Faults in every page of `range`.
    fn touch(&self, range: Range<u64>, access: Access) -> Result<()> {
        check_commit(range.end - range.start)?;
        for address in range.step_by(PAGE as usize) {
            self.fault(address, access).map_err(|fault| match fault {
                Fault::NotMapped | Fault::NoMemory => Errno::ENOMEM,
                Fault::Denied => Errno::EINVAL,
                Fault::BeyondFile => Errno::EFAULT,
            })?;
            if address.is_multiple_of(BREATH) && was_killed() {
                return Err(Errno::EINTR);
            }
        }
        Ok(())
    }

    /// Whether every address of `length` bytes at `start` is mapped; gives the whole pages.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn check_mapped(&self, start: u64, length: u64) -> Result<Range<u64>> {
        let range = pages(start, length, Errno::EINVAL)?;
        if self.space.lock().regions.covers(range.clone()) { Ok(range) } else { Err(Errno::ENOMEM) }
    }

    /// Makes `length` bytes at `start` present (mlock). The start need not be a page's.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn lock(&self, start: u64, length: u64) -> Result<()> {
        let range = self.lockable(start, length)?;
        check_commit(range.end - range.start)?;
        self.populate(range).map_err(|fault| match fault {
            Fault::Denied => Errno::EAGAIN,
            _ => Errno::ENOMEM,
        })
    }

    /// The pages that mlock and munlock mean; all must be mapped.
    ///
    /// # Errors
    /// `EINVAL`, `ENOMEM`.
    pub fn lockable(&self, start: u64, length: u64) -> Result<Range<u64>> {
        let first = start & !(PAGE - 1);
        let bytes = length.checked_add(start - first).ok_or(Errno::EINVAL)?;
        self.check_mapped(first, bytes)
    }

    /// For each page of `into`, from `start` on: 1 if it is present (mincore).
    ///
    /// # Errors
    /// `ENOMEM` if one is not mapped.
    pub fn present(&self, start: u64, into: &mut [u8]) -> Result<()> {
        let range = start..start + into.len() as u64 * PAGE;
        let space = self.space.lock();
        if !space.regions.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
        into.fill(0);
        table::for_each(self.roots(), range, |address, _| {
            into[((address - start) / PAGE) as usize] = 1;
        });
        Ok(())
    }
}

/// What advice comes down to.
#[derive(Clone, Copy)]
enum Advice {
    Nothing,
    /// Forget the pages: they are read again from the file, or are zeros.
    Drop,
    /// The same, for private memory without a file alone.
    Free,
    Set(RegionFlags),
    Clear(RegionFlags),
    Populate(Access),
}

impl Space {
    /// How far in `range` mprotect gets, and what stops it.
    fn protectable(&self, range: &Range<u64>, protection: Protection) -> (u64, Result<()>) {
        let mut reached = range.start;
        for region in self.regions.overlapping(range.clone()) {
            if region.start > reached {
                break;
            }
            if !region.attributes.limit.contains(protection) {
                return (reached, Err(Errno::EACCES));
            }
            reached = region.end.min(range.end);
        }
        let whole = reached >= range.end;
        (reached, if whole { Ok(()) } else { Err(Errno::ENOMEM) })
    }

    pub(super) fn protect(
        &mut self,
        roots: &AddressSpace,
        range: Range<u64>,
        protection: Protection,
    ) {
        self.regions.update(range.clone(), |mapping| mapping.protection = protection);
        let mut stale = Stale::new(roots);
        for region in self.regions.overlapping(range.clone()) {
            let part = range.start.max(region.start)..range.end.min(region.end);
            let shared = region.attributes.is_shared();
            table::for_each(roots, part, |address, entry| {
                let old = entry.load(Relaxed);
                let frame = table::frame_of(old);
                // SAFETY: the entry holds it, and the address space is locked.
                let write = shared || unsafe { Page::is_only_entry(frame) };
                let new = table::leaf(frame, protection, write);
                entry.store(new, Relaxed);
                if table::weakens(old, new) {
                    stale.touch(address);
                }
            });
        }
    }

    fn advise(&mut self, roots: &AddressSpace, range: Range<u64>, advice: Advice) -> Result<()> {
        let mut reached = range.start;
        let mut hole = false;
        while let Some(region) = self.regions.at_or_above(reached) {
            if region.start >= range.end {
                break;
            }
            hole |= region.start > reached;
            let part = region.start.max(reached)..region.end.min(range.end);
            let mapping = &region.attributes;
            let refused = match advice {
                Advice::Free => mapping.file.is_some(),
                Advice::Set(RegionFlags::WIPE_ON_FORK) => mapping.file.is_some(),
                _ => false,
            };
            if refused {
                return Err(Errno::EINVAL);
            }
            reached = part.end;
            self.advise_region(roots, part, advice);
            if reached >= range.end {
                break;
            }
        }
        if hole || reached < range.end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    fn advise_region(&mut self, roots: &AddressSpace, part: Range<u64>, advice: Advice) {
        let update: fn(&mut Mapping, RegionFlags, bool) = |mapping, flags, on| {
            mapping.flags.set(flags, on);
        };
        match advice {
            Advice::Drop | Advice::Free => {
                let mut stale = Stale::new(roots);
                let lost = table::clear(roots, part, &mut stale);
                self.lose_pages(lost);
            }
            Advice::Set(flags) => {
                self.regions.update(part, |mapping| update(mapping, flags, true));
            }
            Advice::Clear(flags) => {
                self.regions.update(part, |mapping| update(mapping, flags, false));
            }
            Advice::Nothing | Advice::Populate(_) => {}
        }
    }
}
