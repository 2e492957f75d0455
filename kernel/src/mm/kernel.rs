//! Pages of the kernel half that come and go after boot: task stacks.
//!
//! Invariant: the top-level entry was there from boot on, so every kernel root sees the change below
//! it. Tables are never taken back.

use super::layout::direct;
use super::page::{PAGE, Page};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use core::ops::Range;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use ringwall::core::paging::{
    ACCESSED, ADDRESS_MASK, DIRTY, KERNEL_TABLE, NO_EXECUTE, PRESENT, WRITABLE, index,
};
use ringwall::core::tlb::Pages;

/// Held while a table is added, so that two CPUs do not add the same.
static TABLES: Mutex<()> = Mutex::new(());

/// Maps the frame at `physical` to `address`, for the kernel to read and write. Where a page is
/// already, that stays, and the frame is given back.
///
/// # Errors
/// `ENOMEM`; the frame stays the caller's.
pub fn map(address: u64, physical: u64) -> Result<()> {
    let _guard = TABLES.lock();
    let mut table = crate::boot::kernel_root();
    for level in [4, 3, 2] {
        let entry = entry(table, index(level, address));
        table = match entry.load(Relaxed) {
            0 if level == 4 => return Err(Errno::ENOMEM),
            0 => {
                let new = Page::zeroed()?.into_entry();
                entry.store(new | KERNEL_TABLE, Release);
                new
            }
            present => present & ADDRESS_MASK,
        };
    }
    let leaf = entry(table, index(1, address));
    if leaf.load(Relaxed) == 0 {
        let flags = PRESENT | WRITABLE | NO_EXECUTE | ACCESSED | DIRTY;
        leaf.store(physical | flags, Release);
    } else {
        // SAFETY: the caller hands the frame over, and it was not mapped.
        unsafe { super::frame::free(physical, 0) };
    }
    Ok(())
}

/// Most pages that [`unmap`] takes at a time.
const MOST: usize = 16;

/// Takes away the pages of `range`, at most [`MOST`], as far as there are any, and frees their frames when no CPU
/// knows them any more.
pub fn unmap(range: Range<u64>) {
    let mut frames = [0; MOST];
    let mut pages = Pages::NONE;
    {
        let _guard = TABLES.lock();
        for (address, frame) in range.step_by(PAGE as usize).zip(&mut frames) {
            if let Some(leaf) = leaf(address) {
                // Before the look at which CPUs are online: one that comes up says so, and flushes after that.
                *frame = leaf.swap(0, SeqCst) & ADDRESS_MASK;
                pages.add(address);
            }
        }
    }
    if pages.is_empty() {
        return;
    }
    super::tlb::retire_kernel(pages);
    for frame in frames.into_iter().filter(|frame| *frame != 0) {
        // SAFETY: it was mapped there alone, and every CPU has flushed that.
        unsafe { super::frame::free(frame, 0) };
    }
}

/// The last-level entry of `address`, if it has tables.
fn leaf(address: u64) -> Option<&'static AtomicU64> {
    let mut table = crate::boot::kernel_root();
    for level in [4, 3, 2] {
        match entry(table, index(level, address)).load(Relaxed) {
            0 => return None,
            present => table = present & ADDRESS_MASK,
        }
    }
    Some(entry(table, index(1, address)))
}

fn entry(table: u64, index: usize) -> &'static AtomicU64 {
    // SAFETY: a table of the kernel half: in the direct map, never freed, and read and written by
    // whole words alone.
    unsafe { &*direct(table).cast::<AtomicU64>().wrapping_add(index) }
}
