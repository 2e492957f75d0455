//! Page tables of the user half, below the top level.
//!
//! ```text
//!   roots (library) ── level 3 ── level 2 ── level 1 ── page
//!     512 GiB an entry   1 GiB      2 MiB      4 KiB
//! ```
//!
//! Both roots share everything below the top level, so there is one of each. The address space's
//! lock is held by whoever changes or walks them; the CPU walks them at any time.
//!
//! Invariants: a table exists only while a region shares an address with what it maps. A leaf is 0,
//! or it holds a frame: present for the program, or not present if the region has no rights. A
//! private page is writable only for its one holder. DIRTY goes with WRITABLE (without it, it would
//! mark a shadow stack).

use super::layout::direct;
use super::mapping::Protection;
use super::page::{PAGE, Page, is_zeros};
use super::tlb::Stale;
use crate::errno::{Errno, Result};
use crate::sync::cross;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};
use ringwall::AddressSpace;
use ringwall::core::paging::{
    ACCESSED, ADDRESS_MASK, DIRTY, NO_EXECUTE, PRESENT, USER, WRITABLE, index,
};
use ringwall::core::tlb::Pages;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// A page-table entry.
pub(super) type Entry = AtomicU64;
type Table = [Entry; 512];

const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED;
/// Set in leaves that hold a page without rights, so that they never are 0 nor present.
const HELD: u64 = 1 << 9;
/// Bytes that a level-1 table maps.
const LEAF_SPAN: u64 = span(2);

/// Bytes that an entry of a table of `level` maps.
const fn span(level: u8) -> u64 {
    PAGE << (9 * (level as u32 - 1))
}

/// The physical address in an entry.
#[inline(always)]
pub(super) fn frame_of(entry: u64) -> u64 {
    entry & ADDRESS_MASK
}

/// Whether an entry lets the program write.
#[inline(always)]
pub(super) fn is_writable(entry: u64) -> bool {
    entry & WRITABLE != 0
}

/// Whether an entry that was `old` and is `new`, for the same frame, forbids something that it allowed.
#[inline(always)]
pub(super) fn weakens(old: u64, new: u64) -> bool {
    old & !new & (PRESENT | WRITABLE) != 0 || old & PRESENT != 0 && new & !old & NO_EXECUTE != 0
}

/// The leaf for a frame. `write`: the program may write now, if the region lets it at all.
#[inline(always)]
pub(super) fn leaf(frame: u64, protection: Protection, write: bool) -> u64 {
    if protection.is_empty() {
        return frame | HELD;
    }
    let mut entry = frame | PRESENT | USER | ACCESSED;
    if write && protection.contains(Protection::WRITE) {
        entry |= WRITABLE | DIRTY;
    }
    if !protection.contains(Protection::EXECUTE) {
        entry |= NO_EXECUTE;
    }
    entry
}

fn table(physical: u64) -> &'static Table {
    // SAFETY: the frames of page tables are in the direct map, 4 KiB of atomics are valid for any
    // contents, and the address space's lock keeps the table from being freed while it is used.
    unsafe { &*direct(physical).cast::<Table>() }
}

/// The level-1 table for `address`, or how many bytes from the start of the absent entry are absent.
#[inline(always)]
fn leaves(roots: &AddressSpace, address: u64) -> core::result::Result<&'static Table, u64> {
    let Some(top) = roots.user_table(index(4, address)) else { return Err(span(4)) };
    let mut at = top.start_address().as_u64();
    for level in [3, 2] {
        let entry = table(at)[index(level, address)].load(Relaxed);
        if entry & PRESENT == 0 {
            return Err(span(level));
        }
        at = frame_of(entry);
    }
    Ok(table(at))
}

/// The leaf of `address`, if there is a table for it.
pub(super) fn slot(roots: &AddressSpace, address: u64) -> Option<&'static Entry> {
    leaves(roots, address).ok().map(|table| &table[index(1, address)])
}

/// The leaf of `address`; makes the tables on the way.
///
/// # Errors
/// `ENOMEM`.
#[inline(always)]
pub(super) fn slot_or_make(roots: &AddressSpace, address: u64) -> Result<&'static Entry> {
    match leaves(roots, address) {
        Ok(table) => Ok(&table[index(1, address)]),
        Err(_) => make(roots, address),
    }
}

#[inline(never)]
fn make(roots: &AddressSpace, address: u64) -> Result<&'static Entry> {
    let mut at = match roots.user_table(index(4, address)) {
        Some(frame) => frame.start_address().as_u64(),
        None => {
            let new = Page::zeroed()?.into_entry();
            let frame = PhysFrame::containing_address(PhysAddr::new(new));
            // SAFETY: an empty table; `prune` takes it out before it is freed.
            let stale = unsafe { roots.set_user_table(index(4, address), Some(frame)) };
            debug_assert!(stale.is_empty(), "the slot was empty");
            new
        }
    };
    for level in [3, 2] {
        let entry = &table(at)[index(level, address)];
        at = match entry.load(Relaxed) {
            0 => {
                let new = Page::zeroed()?.into_entry();
                // Release: the CPU may walk it at once, and must find it cleared.
                entry.store(new | TABLE, Release);
                new
            }
            present => frame_of(present),
        };
    }
    Ok(&table(at)[index(1, address)])
}

/// Calls `visit` for each entry from `first` to `last` that is not empty. Most are, so eight are
/// looked at together.
#[inline(always)]
fn try_for_each_in(
    table: &Table,
    first: usize,
    last: usize,
    mut visit: impl FnMut(usize, &Entry) -> Result<()>,
) -> Result<()> {
    const GROUP: usize = 8;
    let mut each = |first, entries: &[Entry]| -> Result<()> {
        for (place, entry) in entries.iter().enumerate() {
            if entry.load(Relaxed) != 0 {
                visit(first + place, entry)?;
            }
        }
        Ok(())
    };
    let (groups, rest) = table[first..=last].as_chunks::<GROUP>();
    for (number, group) in groups.iter().enumerate() {
        if group.iter().fold(0, |all, entry| all | entry.load(Relaxed)) != 0 {
            each(first + number * GROUP, group)?;
        }
    }
    each(first + groups.len() * GROUP, rest)
}

/// Between two tables of a long way: others must not wait until its end. The address space is locked, so that is all that
/// can be done for them.
#[inline(always)]
fn serve_before(more: bool) {
    if more {
        cross::serve();
    }
}

/// Calls `visit` for each leaf in `range` that holds a frame. Absent tables are skipped whole.
///
/// # Errors
/// The first that `visit` gives.
#[inline(always)]
pub(super) fn try_for_each(
    roots: &AddressSpace,
    range: Range<u64>,
    mut visit: impl FnMut(u64, &Entry) -> Result<()>,
) -> Result<()> {
    let mut address = range.start;
    while address < range.end {
        match leaves(roots, address) {
            Ok(table) => {
                let end = range.end.min((address | (LEAF_SPAN - 1)) + 1);
                let base = address & !(LEAF_SPAN - 1);
                try_for_each_in(
                    table,
                    index(1, address),
                    index(1, end - PAGE),
                    |number, entry| visit(base + number as u64 * PAGE, entry),
                )?;
                address = end;
                serve_before(address < range.end);
            }
            Err(absent) => address = (address | (absent - 1)) + 1,
        }
    }
    Ok(())
}

/// [`try_for_each`] for what cannot fail.
#[inline(always)]
pub(super) fn for_each(
    roots: &AddressSpace,
    range: Range<u64>,
    mut visit: impl FnMut(u64, &Entry),
) {
    let all: Result<()> = try_for_each(roots, range, |address, entry| {
        visit(address, entry);
        Ok(())
    });
    debug_assert!(all.is_ok());
}

/// Empties all leaves in `range`; gives how many held a page of the program's own.
#[inline(always)]
pub(super) fn clear(roots: &AddressSpace, range: Range<u64>, stale: &mut Stale) -> usize {
    clear_if(roots, range, |_, _| true, stale)
}

/// [`clear`] for leaves of which `wanted` says so, given the address and the frame.
#[inline(always)]
pub(super) fn clear_if(
    roots: &AddressSpace,
    range: Range<u64>,
    wanted: impl Fn(u64, u64) -> bool,
    stale: &mut Stale,
) -> usize {
    let mut pages = 0;
    for_each(roots, range, |address, entry| {
        let frame = frame_of(entry.load(Relaxed));
        if !wanted(address, frame) {
            return;
        }
        entry.store(0, Relaxed);
        pages += usize::from(!is_zeros(frame));
        // SAFETY: the entry held it and is empty now.
        stale.release(address, unsafe { Page::from_entry(frame) });
    });
    pages
}

/// Frees the tables for `range` that no region needs: those that lie in `hole`, the addresses
/// around it without regions. The leaves are empty already.
pub(super) fn prune(roots: &AddressSpace, range: Range<u64>, hole: &Range<u64>, stale: &mut Stale) {
    for top in index(4, range.start)..=index(4, range.end - PAGE) {
        let Some(frame) = roots.user_table(top) else { continue };
        let base = top as u64 * span(4);
        let physical = frame.start_address().as_u64();
        let inside = range.start.max(base)..range.end.min(base + span(4));
        prune_below(physical, 3, inside, hole, stale);
        if hole.start <= base && base + span(4) <= hole.end {
            // SAFETY: nothing is put there.
            let _: Pages = unsafe { roots.set_user_table(top, None) };
            // SAFETY: the top-level entry held it.
            stale.release_table(base, unsafe { Page::from_entry(physical) });
        }
    }
}

fn prune_below(physical: u64, level: u8, range: Range<u64>, hole: &Range<u64>, stale: &mut Stale) {
    let span = span(level);
    let mut base = range.start & !(span - 1);
    while base < range.end {
        let entry = &table(physical)[index(level, base)];
        let lower = frame_of(entry.load(Relaxed));
        if lower != 0 {
            if level == 3 {
                let inside = range.start.max(base)..range.end.min(base + span);
                prune_below(lower, 2, inside, hole, stale);
                serve_before(base + span < range.end);
            }
            if hole.start <= base && base + span <= hole.end {
                entry.store(0, Relaxed);
                // SAFETY: the entry held it and is empty now.
                stale.release_table(base, unsafe { Page::from_entry(lower) });
            }
        }
        base += span;
    }
}

/// Shares the pages of `range` with another address space. Private pages lose the right to be
/// written, on both sides. Gives how many of the program's own pages there are.
///
/// # Errors
/// `ENOMEM`; what was copied by then stays.
pub(super) fn share(
    from: &AddressSpace,
    to: &AddressSpace,
    range: Range<u64>,
    private: bool,
    stale: &mut Stale,
) -> Result<usize> {
    let mut pages = 0;
    let mut address = range.start;
    while address < range.end {
        let source = match leaves(from, address) {
            Ok(table) => table,
            Err(absent) => {
                address = (address | (absent - 1)) + 1;
                continue;
            }
        };
        let end = range.end.min((address | (LEAF_SPAN - 1)) + 1);
        let (first, last) = (index(1, address), index(1, end - PAGE));
        let base = address & !(LEAF_SPAN - 1);
        let mut target = None;
        try_for_each_in(source, first, last, |number, entry| {
            let mut leaf = entry.load(Relaxed);
            let into = match target {
                Some(into) => into,
                None => {
                    slot_or_make(to, address)?;
                    let Ok(into) = leaves(to, address) else { return Err(Errno::ENOMEM) };
                    *target.insert(into)
                }
            };
            if private && is_writable(leaf) {
                leaf &= !(WRITABLE | DIRTY);
                entry.store(leaf, Relaxed);
                stale.touch(base + number as u64 * PAGE);
            }
            // SAFETY: the entry holds it, and its address space is locked.
            let page = unsafe { Page::of_entry(frame_of(leaf)) };
            pages += usize::from(!is_zeros(page.address()));
            into[number].store(page.into_entry() | (leaf & !ADDRESS_MASK), Relaxed);
            Ok(())
        })?;
        address = end;
        serve_before(address < range.end);
    }
    Ok(pages)
}
