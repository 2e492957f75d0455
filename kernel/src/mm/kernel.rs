//! Pages of the kernel half that come and go after boot: task stacks.
//!
//! Invariant: the top-level entry was there from boot on, so every kernel root sees the change below
//! it. Tables are never taken back.

use super::layout::direct;
use super::page::Page;
use crate::errno::{Errno, Result};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};
use ringwall::core::paging::{
    ACCESSED, ADDRESS_MASK, DIRTY, KERNEL_TABLE, NO_EXECUTE, PRESENT, WRITABLE, index,
};
use spin::Mutex;

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

/// Takes away the page at `address`, if there is one; gives its frame.
///
/// Its translation is flushed on this CPU, which is enough: one CPU runs, and without PCID no other
/// root's translations outlive the switch to it. (More CPUs, or PCID, have to be told before the frame
/// is used again.)
pub fn unmap(address: u64) -> Option<u64> {
    let _guard = TABLES.lock();
    let mut table = crate::boot::kernel_root();
    for level in [4, 3, 2] {
        match entry(table, index(level, address)).load(Relaxed) {
            0 => return None,
            present => table = present & ADDRESS_MASK,
        }
    }
    let present = entry(table, index(1, address)).swap(0, Relaxed);
    x86_64::instructions::tlb::flush(x86_64::VirtAddr::new(address));
    (present != 0).then_some(present & ADDRESS_MASK)
}

fn entry(table: u64, index: usize) -> &'static AtomicU64 {
    // SAFETY: a table of the kernel half: in the direct map, never freed, and read and written by
    // whole words alone.
    unsafe { &*direct(table).cast::<AtomicU64>().wrapping_add(index) }
}
