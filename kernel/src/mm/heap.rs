//! The kernel's heap.
//!
//! ```text
//!   up to 32 KiB   talc, over chunks of 64 KiB that it takes from the frames and gives back
//!   more           a block of frames, through the direct map
//! ```
//!
//! For its chunks it has a stock of frames ([`super::frame`]); when that is gone too, allocation
//! fails, as a null pointer. Big blocks come from where programs' pages do: sizes that a program
//! controls go through `try_reserve` and the like.
//!
//! Lock order: after every lock but the frames'.

use super::frame::{self, FRAME, HEAP_BLOCK};
use super::layout::{direct, physical};
use alloc::alloc::{GlobalAlloc, Layout};
use talc::base::binning::DefaultBinning;
use talc::source::GlobalAllocSource;
use talc::sync::TalcLock;

/// Sizes from here on are blocks of frames.
const LARGE: usize = 32 << 10;
/// What talc asks the frames for at a time.
const CHUNK: usize = HEAP_BLOCK.0;

/// Blocks of frames as an allocator: from 64 KiB on, and talc's chunks.
#[derive(Debug)]
struct Blocks;

/// The order of the smallest block with room for `layout`, no less than a chunk's.
fn order(layout: Layout) -> u8 {
    let frames = layout.size().max(layout.align()).div_ceil(FRAME as usize);
    (frames.next_power_of_two().trailing_zeros() as u8).max(HEAP_BLOCK.1)
}

// SAFETY: the frame allocator gives each block to one caller; blocks are as long as their order
// says and aligned to their length, which is no less than what `layout` asks for.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = match order(layout) {
            order if order == HEAP_BLOCK.1 => frame::allocate_for_heap(),
            order => frame::allocate(order),
        };
        block.map_or(core::ptr::null_mut(), direct)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` with the same layout, so the same order, and the
        // caller is done with it.
        unsafe { frame::free(physical(pointer), order(layout)) };
    }
}

struct KernelHeap {
    small: TalcLock<crate::sync::Mutex<()>, GlobalAllocSource<Blocks>, DefaultBinning>,
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
