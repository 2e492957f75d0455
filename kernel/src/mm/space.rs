//! A program's memory: its regions and its page tables.
//!
//! ```text
//!   0 ─ program ─ heap (brk) ─→     ... ←─ placed mappings ─ gap ─ stack ─ USER_END
//! ```
//!
//! Invariant: a page is mapped only inside a region, with no more rights than the region gives.
//! Regions, tables and the count of pages change together, under one lock.

use super::layout::USER_END;
use super::mapping::{Mapping, RegionFlags};
use super::page::{PAGE, Page};
use super::tlb::Stale;
use super::truncate::Membership;
use super::{roots, table};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::sync::Arc;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use ringwall::AddressSpace;
use ringwall_regions::Regions;

/// Most regions of one program (Linux's vm.max_map_count).
pub(super) const MOST_REGIONS: usize = 65530;
/// End of the user half of the tables: [`USER_END`] and the page that programs cannot have.
const TABLES_END: u64 = 1 << 47;
/// How big a stack may become, unless the program's limit says otherwise.
const STACK_LIMIT: u64 = 8 << 20;

/// A user address space. Shared by threads, and by vfork and CLONE_VM children.
///
/// Where the last handle is dropped, no thread may touch its memory any more. CPUs that still have its page tables in
/// CR3 then load others.
pub struct Mm {
    /// No two ever have the same one.
    number: u64,
    roots: ManuallyDrop<AddressSpace>,
    pub(super) space: Mutex<Space>,
    /// Held while the LDT is read or changed. Never together with `space`.
    pub(super) ldt: Mutex<()>,
    /// RLIMIT_STACK, in bytes.
    stack_limit: AtomicU64,
    /// Bits of a [`ringwall_rules::isolation::Setting`].
    pub(super) isolation: AtomicU32,
    pub(super) listed: Membership,
}

/// What an [`Mm`]'s lock protects.
pub(super) struct Space {
    pub regions: Regions<Mapping>,
    /// Pages mapped now, those of zeros left out.
    pub resident: usize,
    /// The most that were, as far as [`Space::lose_pages`] has noted.
    peak: usize,
    /// The heap: where it starts, and where the program said that it ends.
    pub heap: Range<u64>,
    /// New mappings are placed below here.
    pub ceiling: u64,
    /// An address in the first thread's stack.
    pub stack: u64,
    /// Where exec put the arguments.
    pub arguments: Range<u64>,
    /// Where exec put the environment.
    pub environment: Range<u64>,
}

impl Mm {
    /// Memory with nothing in it.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(super) fn empty() -> Result<Arc<Mm>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mm = Arc::new(Mm {
            number: NEXT.fetch_add(1, Relaxed),
            roots: ManuallyDrop::new(roots::make()?),
            space: Mutex::new(Space {
                regions: Regions::new(),
                resident: 0,
                peak: 0,
                heap: 0..0,
                ceiling: USER_END,
                stack: 0,
                arguments: 0..0,
                environment: 0..0,
            }),
            ldt: Mutex::new(()),
            stack_limit: AtomicU64::new(STACK_LIMIT),
            isolation: AtomicU32::new(0),
            listed: Membership::new(),
        });
        // SAFETY: new; what is in an `Arc` stays where it is, and `drop` unlists it first of all.
        unsafe { mm.list() };
        Ok(mm)
    }

    /// A copy-on-write copy.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        // All regions are copied, each a small allocation or a part of one.
        const REGION: usize = 192;
        super::frame::admit_bytes(self.space.lock().regions.count() * REGION)?;
        let child = Mm::empty()?;
        child.stack_limit.store(self.stack_limit.load(Relaxed), Relaxed);
        child.isolation.store(self.isolation.load(Relaxed), Relaxed);
        {
            let parent_space = self.space.lock();
            let mut child_space = child.space.lock();
            parent_space.fork_into(&self.roots, &mut child_space, &child.roots)?;
        }
        if self.roots.ldt_entries() != 0 {
            self.copy_ldt_to(&child)?;
        }
        Ok(child)
    }

    /// Tells it from every other, those that are gone included.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The library's address space: both roots.
    #[inline(always)]
    pub fn roots(&self) -> &AddressSpace {
        &self.roots
    }

    /// Pages mapped in regions and pages present, for /proc/PID/status and statm.
    pub fn sizes(&self) -> (usize, usize) {
        let space = self.space.lock();
        ((space.regions.bytes() / PAGE) as usize, space.resident)
    }

    /// The most pages that were ever present at a time, for getrusage.
    pub fn peak(&self) -> usize {
        let space = self.space.lock();
        space.peak.max(space.resident)
    }

    /// Where exec put the arguments and the environment, for /proc/PID/cmdline and environ.
    pub fn arguments(&self) -> (Range<u64>, Range<u64>) {
        let space = self.space.lock();
        (space.arguments.clone(), space.environment.clone())
    }

    /// The heap (brk) now, for /proc/PID/stat.
    pub fn heap(&self) -> Range<u64> {
        self.space.lock().heap.clone()
    }

    /// How big a stack may become (RLIMIT_STACK), in bytes.
    pub fn stack_limit(&self) -> u64 {
        self.stack_limit.load(Relaxed)
    }

    /// Sets [`Mm::stack_limit`].
    pub fn set_stack_limit(&self, bytes: u64) {
        self.stack_limit.store(bytes, Relaxed);
    }

    /// Reads another process's memory (for /proc/PID/cmdline and tracers), without faulting it in.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn peek(&self, address: u64, into: &mut [u8]) -> Result<()> {
        let space = self.space.lock();
        let mut done = 0;
        while done < into.len() {
            let at = address.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            space.regions.find(at).ok_or(Errno::EFAULT)?;
            let entry = table::slot(&self.roots, at).ok_or(Errno::EFAULT)?.load(Relaxed);
            if entry == 0 {
                return Err(Errno::EFAULT);
            }
            // SAFETY: the entry holds it, and the address space is locked.
            let page = unsafe { Page::of_entry(table::frame_of(entry)) };
            let offset = (at % PAGE) as usize;
            let part = (PAGE as usize - offset).min(into.len() - done);
            page.read(offset, &mut into[done..done + part]);
            done += part;
        }
        Ok(())
    }

    /// What a shared futex word is known by everywhere: a number for the object that a shared region
    /// shows, and the offset in it; none if the region is private.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn shared_identity(&self, address: u64) -> Result<Option<(u64, u64)>> {
        let space = self.space.lock();
        let region = space.regions.find(address).ok_or(Errno::EFAULT)?;
        let mapping = &region.attributes;
        Ok(mapping.file.as_ref().filter(|_| mapping.is_shared()).map(|file| {
            let (device, number) = file.inode.identity();
            (device.rotate_left(40) ^ number, mapping.offset + (address - region.start))
        }))
    }
}

impl Space {
    fn fork_into(
        &self,
        roots: &AddressSpace,
        child: &mut Space,
        child_roots: &AddressSpace,
    ) -> Result<()> {
        child.heap = self.heap.clone();
        child.ceiling = self.ceiling;
        child.stack = self.stack;
        child.arguments = self.arguments.clone();
        child.environment = self.environment.clone();
        child.regions = self.regions.clone();
        let mut stale = Stale::new(roots);
        let mut left_out = false;
        for region in self.regions.iter() {
            let flags = region.attributes.flags;
            if flags.intersects(RegionFlags::DONT_FORK | RegionFlags::WIPE_ON_FORK) {
                left_out |= flags.contains(RegionFlags::DONT_FORK);
                continue;
            }
            let range = region.start..region.end;
            let private = !flags.contains(RegionFlags::SHARED);
            child.resident += table::share(roots, child_roots, range, private, &mut stale)?;
        }
        if left_out {
            for region in self.regions.iter() {
                if region.attributes.flags.contains(RegionFlags::DONT_FORK) {
                    child.regions.remove(region.start..region.end, drop);
                }
            }
        }
        Ok(())
    }

    /// Takes everything in `range` out: regions, pages, and the tables nobody needs any more.
    pub(super) fn unmap(&mut self, roots: &AddressSpace, range: Range<u64>) {
        let mut any = false;
        self.regions.remove(range.clone(), |_| any = true);
        if !any {
            return;
        }
        let mut stale = Stale::of_unmap(roots, &range);
        let lost = table::clear(roots, range.clone(), &mut stale);
        self.lose_pages(lost);
        self.prune(roots, range, &mut stale);
    }

    /// Counts pages that are present no more.
    pub(super) fn lose_pages(&mut self, pages: usize) {
        self.peak = self.peak.max(self.resident);
        self.resident -= pages;
    }

    /// Frees the tables for `range`, which has no pages, as far as no region needs them.
    pub(super) fn prune(&self, roots: &AddressSpace, range: Range<u64>, stale: &mut Stale) {
        let hole =
            self.regions.end_below(range.start)..self.regions.start_above(range.start, TABLES_END);
        table::prune(roots, range, &hole, stale);
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        self.unlist();
        super::tlb::evict(&self.roots);
        let space = self.space.get_mut();
        // Loaded nowhere, as the library asserts when it gets the roots back.
        let mut stale = Stale::of_none();
        let mut regions = space.regions.iter().peekable();
        while let Some(region) = regions.next() {
            let range = region.start..region.end;
            let above = regions.peek().map_or(TABLES_END, |next| next.start);
            table::clear(&self.roots, range.clone(), &mut stale);
            // All below is gone already.
            table::prune(&self.roots, range, &(0..above), &mut stale);
        }
        // SAFETY: this is the end of the value, and nothing uses the field after it.
        let roots = unsafe { ManuallyDrop::take(&mut self.roots) };
        // SAFETY: no CPU has it in CR3 or will load it, because no thread has it, and all tables below are freed.
        unsafe { roots::release(roots) };
    }
}
