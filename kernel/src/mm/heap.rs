//! The kernel's heap.
//!
//! ```text
//!   up to 32 KiB   talc, over chunks of 64 KiB that it takes from the frames and gives back
//!   more           a block of frames, through the direct map
//! ```
//!
//! It may use the frames' reserve ([`super::frame`]); allocation fails when that is gone too, as a
//! null pointer. Sizes that a program controls go through `try_reserve` and the like.
//!
//! Frames that are left may be scattered, so that none of them makes a chunk. Some chunks are
//! therefore kept back, and [`super::frame::admit`] refuses new work before they are used up.
//!
//! Lock order: after every lock but the frames'; the spare chunks' before the frames'.

use super::frame::{self, FRAME};
use super::layout::{DIRECT_MAP, direct};
use alloc::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;
use talc::base::binning::DefaultBinning;
use talc::source::GlobalAllocSource;
use talc::sync::TalcLock;

/// Sizes from here on are blocks of frames.
const LARGE: usize = 32 << 10;
/// What talc asks the frames for at a time.
const CHUNK: usize = 64 << 10;

/// Chunks kept back: 1 MiB.
const SPARES: usize = 16;
const CHUNK_ORDER: u8 = (CHUNK / FRAME as usize).trailing_zeros() as u8;

struct Spares {
    blocks: [u64; SPARES],
    count: usize,
}

static SPARE: Mutex<Spares> = Mutex::new(Spares { blocks: [0; SPARES], count: 0 });
/// A chunk was taken from the spares.
static SPARES_USED: AtomicBool = AtomicBool::new(true);

/// Whether enough chunks are kept back for what a program's request may need.
pub(super) fn has_spares() -> bool {
    if !SPARES_USED.load(Ordering::Relaxed) {
        return true;
    }
    let mut spares = SPARE.lock();
    while spares.count < SPARES {
        let Ok(block) = frame::allocate_from_reserve(CHUNK_ORDER) else { break };
        let place = spares.count;
        spares.blocks[place] = block;
        spares.count += 1;
    }
    SPARES_USED.store(spares.count < SPARES, Ordering::Relaxed);
    spares.count >= SPARES / 2
}

fn take_spare() -> Option<u64> {
    let mut spares = SPARE.lock();
    spares.count = spares.count.checked_sub(1)?;
    SPARES_USED.store(true, Ordering::Relaxed);
    Some(spares.blocks[spares.count])
}

/// Blocks of frames as an allocator.
#[derive(Debug)]
struct Blocks;

/// The order of the smallest block with room for `layout`.
fn order(layout: Layout) -> u8 {
    let frames = layout.size().max(layout.align()).div_ceil(FRAME as usize);
    frames.next_power_of_two().trailing_zeros() as u8
}

// SAFETY: the frame allocator gives each block to one caller; blocks are as long as their order
// says and aligned to their length, which is no less than what `layout` asks for.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let order = order(layout);
        let block = match frame::allocate_from_reserve(order) {
            Ok(block) => Some(block),
            Err(_) if order == CHUNK_ORDER => take_spare(),
            Err(_) => None,
        };
        block.map_or(core::ptr::null_mut(), direct)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` with the same layout, so the same order, and the
        // caller is done with it.
        unsafe { frame::free(pointer as u64 - DIRECT_MAP, order(layout)) };
    }
}

struct KernelHeap {
    small: TalcLock<spin::Mutex<()>, GlobalAllocSource<Blocks>, DefaultBinning>,
}

/// Sizes from 2^62 on could not be rounded up to a block.
const fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE || layout.align() >= LARGE
}

// SAFETY: each size goes to one of two allocators, and back to the same.
unsafe impl GlobalAlloc for KernelHeap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            // SAFETY: the caller's promise.
            unsafe { Blocks.alloc(layout) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.small.alloc(layout) }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_large(layout) {
            // SAFETY: it came from there.
            unsafe { Blocks.dealloc(pointer, layout) };
        } else {
            // SAFETY: it came from there.
            unsafe { self.small.dealloc(pointer, layout) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size is valid for the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (is_large(layout), is_large(new)) {
            // SAFETY: it came from there, and goes back there.
            (false, false) => unsafe { self.small.realloc(pointer, layout, new_size) },
            (true, true) if order(layout) == order(new) => pointer,
            _ => {
                // SAFETY: `new_size` is not 0 by the caller's promise.
                let moved = unsafe { self.alloc(new) };
                if !moved.is_null() {
                    let bytes = layout.size().min(new_size);
                    // SAFETY: both are that long, and the new one is nobody else's.
                    unsafe { moved.copy_from_nonoverlapping(pointer, bytes) };
                    // SAFETY: the caller gives it up.
                    unsafe { self.dealloc(pointer, layout) };
                }
                moved
            }
        }
    }
}

#[global_allocator]
static HEAP: KernelHeap =
    KernelHeap { small: TalcLock::new(GlobalAllocSource::with_block_size(Blocks, CHUNK)) };
