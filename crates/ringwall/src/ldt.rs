//! A process's LDT: its frames, its place in both roots, the way from an old one to a new one.
//!
//! ```text
//!   Ldt ── set_ldt ──► mapped beside the old one
//!                      RetiredLdt: every CPU that runs the process reloads LDTR
//!                       └─ unmap ─► UnmappedLdt: every such CPU flushes
//!                                    └─ flushed ─► the old Ldt, to release
//! ```
//!
//! A table is never changed while it is mapped: each change is a new table in the other one of the two
//! places of [`ringwall_core::private`]. So there is no moment in which LDTR names nothing, and no
//! CPU reads half a descriptor.
//!
//! Invariants: every descriptor in a table is a [`Descriptor`], which cannot do harm; every leaf in
//! the private slot is read-only in both roots; the slot is present in no other process's roots.
//!
//! Intel SDM vol. 3, 3.5.1 (LDT), 4.10.4 (what a change of tables leaves behind).

use crate::address_space::AddressSpace;
use crate::breaks::Break;
use crate::frames::Frames;
use crate::tables::{self, MapError, Table};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};
use ringwall_core::paging::{ACCESSED, KERNEL_TABLE, PRESENT, WRITABLE, index};
use ringwall_core::private::{self, LDT_ENTRIES, LDT_PAGES, Which};
use ringwall_core::segment::Descriptor;
use ringwall_core::tlb::Pages;
use x86_64::structures::paging::PhysFrame;

const PAGE: usize = 4096;
const ENTRY: usize = size_of::<Descriptor>();

/// The bits of a leaf that maps a page of an LDT.
fn leaf_bits() -> u64 {
    match Break::LdtWritable.is_on() {
        true => private::LEAF | WRITABLE,
        false => private::LEAF,
    }
}
const _: () = assert!(private::LEAF & ACCESSED != 0, "the CPU has nothing to write to the tables");

/// A table of descriptors in frames of its own, mapped nowhere but in the direct map. What is not set is
/// empty. It has to be given to [`AddressSpace::set_ldt`] or to [`Ldt::release`]: dropping it leaks
/// its frames.
#[derive(Debug)]
pub struct Ldt {
    frames: [Option<PhysFrame>; LDT_PAGES],
    entries: usize,
}

impl Ldt {
    /// A table of `entries` empty descriptors.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    ///
    /// # Panics
    /// If there are none, or more than [`LDT_ENTRIES`].
    pub fn new(entries: usize, frames: &mut impl Frames) -> Result<Ldt, MapError> {
        assert!((1..=LDT_ENTRIES).contains(&entries), "an LDT of {entries} entries");
        let mut ldt = Ldt { frames: [None; LDT_PAGES], entries };
        for page in 0..pages(entries) {
            match tables::zeroed(frames) {
                Ok(frame) => ldt.frames[page] = Some(frame),
                Err(error) => {
                    ldt.release(frames);
                    return Err(error);
                }
            }
        }
        Ok(ldt)
    }

    /// How many descriptors it has room for.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Sets a descriptor.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn set(&mut self, entry: usize, descriptor: Descriptor, frames: &impl Frames) {
        assert!(entry < self.entries, "no entry {entry} in an LDT of {}", self.entries);
        if let Some(frame) = self.frames[entry * ENTRY / PAGE] {
            let words = tables::table(frames, frame);
            words[entry % (PAGE / ENTRY)].store(descriptor.bits(), Ordering::Relaxed);
        }
    }

    /// Gives its frames back.
    pub fn release(self, frames: &mut impl Frames) {
        for frame in self.frames.into_iter().flatten() {
            // SAFETY: allocated by `new`; the value owned it, and nothing maps it any more.
            unsafe { frames.free(frame) };
        }
    }
}

fn pages(entries: usize) -> usize {
    (entries * ENTRY).div_ceil(PAGE)
}

/// What an address space has in the private slot.
#[derive(Debug)]
pub(crate) struct Private {
    slot: usize,
    random: u64,
    /// Physical address of the slot's level-3 table, 0 as long as there is none.
    physical: AtomicU64,
    level_3: AtomicPtr<Table>,
    /// [`word`] of the LDT, 0 for none.
    word: AtomicU64,
}

/// Place and size of an LDT in one word: its base, which is a multiple of 64 KiB, and the number of its
/// last entry.
fn word(base: u64, entries: usize) -> u64 {
    base | (entries as u64 - 1)
}

/// Base and number of entries of the LDT that a word stands for.
pub(crate) fn from_word(word: u64) -> (u64, usize) {
    (word & !0xffff, (word & 0xffff) as usize + 1)
}

impl Private {
    pub(crate) fn new(slot: usize, random: u64) -> Private {
        Private {
            slot,
            random,
            physical: AtomicU64::new(0),
            level_3: AtomicPtr::default(),
            word: AtomicU64::new(0),
        }
    }

    /// The word of the LDT that a CPU has to name in LDTR while it runs this address space.
    #[inline(always)]
    pub(crate) fn word(&self) -> u64 {
        self.word.load(Ordering::Acquire)
    }

    fn level_3(&self) -> Option<&'static Table> {
        // SAFETY: null, or a table that `make` put here; it stays until the address space is released.
        unsafe { self.level_3.load(Ordering::Acquire).as_ref() }
    }

    /// Makes the stack pages of a CPU and its group reachable here. `page`: one of the group's, as
    /// [`private::espfix_page`] gives it, `group`: what [`crate::Isolation`] made of them.
    pub(crate) fn show_stack_pages(&self, page: u64, group: u64) {
        let Some(level_3) = self.level_3() else { return };
        // An entry of level 3 is 1 GiB.
        let entries = (private::GROUP_BYTES >> 30) as usize;
        let first = index(3, page) / entries * entries;
        for slot in &level_3[first..first + entries] {
            slot.store(group, Ordering::Release);
        }
    }

    fn base(&self, which: Which) -> u64 {
        private::ldt_base(self.slot, self.random, which)
    }

    fn which(&self) -> Option<Which> {
        let base = match self.word() {
            0 => return None,
            word => from_word(word).0,
        };
        let is_a = base == self.base(Which::A);
        Some(if is_a { Which::A } else { Which::B })
    }

    /// The level-3 table, made if there is none yet.
    fn make(&self, frames: &mut impl Frames) -> Result<&'static Table, MapError> {
        if let Some(table) = self.level_3() {
            return Ok(table);
        }
        let frame = tables::zeroed(frames)?;
        let table = tables::table(frames, frame);
        self.physical.store(frame.start_address().as_u64(), Ordering::Relaxed);
        self.level_3.store(core::ptr::from_ref(table).cast_mut(), Ordering::Release);
        Ok(table)
    }

    /// Maps `ldt` at `which`.
    fn map(&self, ldt: &Ldt, which: Which, frames: &mut impl Frames) -> Result<(), MapError> {
        let level_3 = self.make(frames)?;
        let base = self.base(which);
        for (page, frame) in ldt.frames.iter().flatten().enumerate() {
            // All pages are in one table of the last level: only the first can fail for want of a frame.
            let leaf = frame.start_address().as_u64() | leaf_bits();
            tables::map_below(level_3, base + (page * PAGE) as u64, leaf, frames)?;
        }
        Ok(())
    }

    /// Takes the table at `base` out.
    fn unmap(&self, base: u64, entries: usize, frames: &impl Frames) -> Ldt {
        let mut ldt = Ldt { frames: [None; LDT_PAGES], entries };
        let Some(level_3) = self.level_3() else { return ldt };
        for page in 0..pages(entries) {
            let leaf = tables::leaf(level_3, base + (page * PAGE) as u64, frames);
            ldt.frames[page] = leaf.map(|leaf| tables::frame_of(leaf.swap(0, Ordering::AcqRel)));
        }
        ldt
    }

    /// Frees everything. Nothing refers to it any more.
    pub(crate) fn release(&self, frames: &mut impl Frames) {
        let Some(level_3) = self.level_3() else { return };
        if self.word() != 0 {
            let (base, entries) = from_word(self.word());
            self.unmap(base, entries, frames).release(frames);
        }
        let base = self.base(Which::A);
        let mut tables = [None; 3];
        tables[0] = Some(self.physical.load(Ordering::Relaxed));
        let level_2 = level_3[index(3, base)].load(Ordering::Relaxed);
        if level_2 & PRESENT != 0 {
            let table = tables::table(frames, tables::frame_of(level_2));
            let level_1 = table[index(2, base)].load(Ordering::Relaxed);
            tables[1] = Some(level_2);
            tables[2] = (level_1 & PRESENT != 0).then_some(level_1);
        }
        for table in tables.into_iter().flatten() {
            // SAFETY: made by `make` and `map` for this address space alone, which is no more. (The
            // tables for espfix are everyone's, and stay.)
            unsafe { frames.free(tables::frame_of(table)) };
        }
    }
}

impl AddressSpace {
    /// How many entries the LDT has, 0 without one.
    pub fn ldt_entries(&self) -> usize {
        match self.private().word() {
            0 => 0,
            word => from_word(word).1,
        }
    }

    /// Where the LDT is: what LDTR has for a base while the address space is loaded.
    pub fn ldt_address(&self) -> Option<u64> {
        let word = self.private().word();
        (word != 0).then(|| from_word(word).0)
    }

    /// Reads the LDT's bytes from `offset` on; what is not there reads as zeros.
    ///
    /// # Safety
    /// Nobody changes the LDT at the same time.
    pub unsafe fn read_ldt(&self, offset: usize, into: &mut [u8], frames: &impl Frames) {
        into.fill(0);
        let word = self.private().word();
        let Some(level_3) = self.private().level_3().filter(|_| word != 0) else { return };
        let (base, entries) = from_word(word);
        let mut done = 0;
        while done < into.len() && offset + done < entries * ENTRY {
            let at = offset + done;
            let part = (PAGE - at % PAGE).min(entries * ENTRY - at).min(into.len() - done);
            let Some(leaf) = tables::leaf(level_3, base + at as u64, frames) else { return };
            let page = frames.pointer(tables::frame_of(leaf.load(Ordering::Relaxed)));
            let start = page.as_ptr().wrapping_add(at % PAGE);
            // SAFETY: inside a frame of the LDT, which nobody writes while it is mapped, and which stays
            // by this function's contract.
            let bytes = unsafe { core::slice::from_raw_parts(start, part) };
            into[done..done + part].copy_from_slice(bytes);
            done += part;
        }
    }

    /// A table with the LDT's descriptors and room for at least `entries`: to change, or for a child.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    ///
    /// # Panics
    /// If `entries` is greater than [`LDT_ENTRIES`], or there is no LDT and it is 0.
    ///
    /// # Safety
    /// Nobody changes the LDT at the same time.
    pub unsafe fn copy_ldt(
        &self,
        entries: usize,
        frames: &mut impl Frames,
    ) -> Result<Ldt, MapError> {
        let copy = Ldt::new(entries.max(self.ldt_entries()), frames)?;
        for (page, frame) in copy.frames.iter().flatten().enumerate() {
            // SAFETY: by this function's contract.
            unsafe { self.read_ldt(page * PAGE, tables::bytes(frames, *frame), frames) };
        }
        Ok(copy)
    }

    /// Gives the process this LDT, or takes its LDT away. The new one is mapped beside the old one; the
    /// CPUs that run the process go on with the old one until they call [`crate::reload_ldt`].
    ///
    /// # Errors
    /// [`MapError::NoFrame`]; everything is as before, and `ldt` is released.
    ///
    /// # Safety
    /// Nobody else reads or changes the LDT before the returned obligation is met.
    pub unsafe fn set_ldt(
        &self,
        ldt: Option<Ldt>,
        frames: &mut impl Frames,
    ) -> Result<RetiredLdt, MapError> {
        let private = self.private();
        let old = private.word();
        let new = match ldt {
            None => 0,
            Some(ldt) => {
                let which = private.which().map_or(Which::A, Which::other);
                if let Err(error) = private.map(&ldt, which, frames) {
                    ldt.release(frames);
                    return Err(error);
                }
                let entry = private.physical.load(Ordering::Relaxed) | KERNEL_TABLE;
                self.set_private_entry(private.slot, entry);
                // The page tables own its frames now.
                word(private.base(which), ldt.entries)
            }
        };
        private.word.store(new, Ordering::Release);
        Ok(RetiredLdt { old, ends: new == 0 })
    }
}

/// An LDT that is no longer the process's, but that CPUs may still have in LDTR.
#[must_use = "the old table stays in use until each CPU has reloaded LDTR"]
#[derive(Debug)]
pub struct RetiredLdt {
    old: u64,
    ends: bool,
}

impl RetiredLdt {
    /// Whether there was no LDT before: then nothing is left to be done, and the next two steps do nothing.
    pub fn is_nothing(&self) -> bool {
        self.old == 0
    }

    /// Indices of the CPUs that have `space` in CR3 and so may have the old table in LDTR. One that loads it later finds the
    /// new one.
    pub fn targets(&self, space: &AddressSpace) -> impl Iterator<Item = usize> {
        // A CPU adds itself to the set before it reads which LDT there is. Here it is the other way round: without the
        // fence both could read what was before.
        fence(Ordering::SeqCst);
        space.tlb.loaded().iter()
    }

    /// Takes the old table out of both roots of `space`, the address space that it was.
    ///
    /// # Safety
    /// Every CPU that runs `space` has called [`crate::reload_ldt`] since.
    pub unsafe fn unmap(self, space: &AddressSpace, frames: &impl Frames) -> UnmappedLdt {
        if self.old == 0 {
            return UnmappedLdt { ldt: None, pages: Pages::NONE };
        }
        let private = space.private();
        let (base, entries) = from_word(self.old);
        let ldt = private.unmap(base, entries, frames);
        let mut stale = Pages::NONE;
        if self.ends {
            space.set_private_entry(private.slot, 0);
            // The whole slot went, with 64 Ki pages in it.
            stale = Pages::ALL;
        } else {
            (0..pages(entries)).for_each(|page| stale.add(base + (page * PAGE) as u64));
        }
        UnmappedLdt { ldt: Some(ldt), pages: stale }
    }
}

/// An LDT that is mapped no more, but that TLBs may still know.
#[must_use = "the old table stays readable until it is flushed"]
#[derive(Debug)]
pub struct UnmappedLdt {
    ldt: Option<Ldt>,
    pages: Pages,
}

impl UnmappedLdt {
    /// What to retire ([`AddressSpace::retire`]).
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// Gives the old table to release: every CPU has flushed it, or none can know it because the address space runs
    /// nowhere.
    pub fn flushed(self) -> Option<Ldt> {
        self.ldt
    }
}

#[cfg(test)]
mod tests;
