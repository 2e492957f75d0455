//! Where everything is in the kernel half.
//!
//! ```text
//!   slots 256..383   direct map of physical memory     512 GiB, somewhere (4-level paging)
//!   slots 383..510   task stacks, each with its guard  512 GiB, somewhere
//!   slot  510        LDT and espfix of a process that has an LDT
//!   slot  511        lower GiB: kernel image, somewhere; upper GiB: the entry area, somewhere
//! ```
//!
//! `boot::place` chooses, before anything else runs (`nokaslr`: the first of each, and the image where it was
//! linked). `ringwall_rules::places` has the windows and the arithmetic.
//!
//! Invariant: the kernel half's top-level entries are all made at boot and never change, so that
//! every root can copy them once. Slot 510 alone is a process's own.

pub use ringwall_rules::places::{DIRECT_MAP_BYTES, STACKS_BYTES};

use core::cell::UnsafeCell;
use ringwall_rules::places::{IMAGE_BASE, IMAGE_WINDOW, Places, STACKS_WINDOW};

/// Link base of the image: virtual = physical + this, before it slides.
pub const IMAGE: u64 = IMAGE_BASE;
/// First address of the region that the entry area is placed in.
pub const ENTRY_REGION: u64 = IMAGE_WINDOW.end;
/// Top-level slot that the library fills for a process with an LDT.
pub const PRIVATE_SLOT: usize = ringwall::core::private::DEFAULT_SLOT;
/// First address past the memory a program can have (one page below the canonical end, so that no
/// SYSCALL can return to a non-canonical address).
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;

const _: () = assert!(ringwall::core::paging::index(4, STACKS_WINDOW.end) == PRIVATE_SLOT);

/// Written once, before the image slides and before any other CPU runs; read by everybody.
struct Chosen(UnsafeCell<Places>);

// SAFETY: `set` is called at a time when nobody else is there to read.
unsafe impl Sync for Chosen {}

static PLACES: Chosen = Chosen(UnsafeCell::new(Places::FIXED));

/// Sets the places, and with them the meaning of every function here.
///
/// # Safety
/// This is the boot CPU, alone; no pointer that [`direct`] gave is used any more.
pub unsafe fn set(places: Places) {
    // SAFETY: the caller's promise.
    unsafe { *PLACES.0.get() = places };
}

/// The places: plain loads, which the compiler may put into the instruction that uses them.
#[inline(always)]
fn places() -> &'static Places {
    // SAFETY: nobody writes after `set`.
    unsafe { &*PLACES.0.get() }
}

/// Physical address 0 as the kernel sees it.
#[inline(always)]
pub fn direct_map() -> u64 {
    places().direct_map
}

/// The task stacks' region.
#[inline(always)]
pub fn stacks() -> u64 {
    places().stacks
}

/// What was added to the image's addresses as linked; wraps.
pub fn slide() -> u64 {
    places().slide
}

/// Whether the places were chosen at random.
pub fn is_random() -> bool {
    places().random
}

/// The kernel's pointer to physical address `physical`.
#[inline(always)]
pub fn direct(physical: u64) -> *mut u8 {
    (direct_map() + physical) as *mut u8
}

/// The physical address behind a pointer into the direct map.
#[inline(always)]
pub fn physical(pointer: *const u8) -> u64 {
    pointer as u64 - direct_map()
}

/// The physical address of a part of the image.
pub fn image_physical(address: u64) -> u64 {
    address.wrapping_sub(slide()) - IMAGE
}
