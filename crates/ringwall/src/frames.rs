//! What the library asks of a kernel's physical memory.

use core::ptr::NonNull;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// Physical frames and how to reach them.
///
/// Builds on the `x86_64` crate's allocator trait, and adds what a root pair needs.
///
/// # Safety
///
/// Frames handed out belong to the caller alone until given back. [`Frames::pointer`] gives a
/// pointer that reads and writes the frame, now and for as long as the kernel runs, under every
/// kernel root (a direct map).
pub unsafe trait Frames: FrameAllocator<Size4KiB> {
    /// Two adjacent frames, the first at a multiple of 8 KiB, or `None` if there are none.
    fn allocate_pair(&mut self) -> Option<PhysFrame>;

    /// Takes a frame back.
    ///
    /// # Safety
    /// It came from this allocator, and nothing refers to it any more.
    unsafe fn free(&mut self, frame: PhysFrame);

    /// Takes a pair back, given its first frame.
    ///
    /// # Safety
    /// It came from [`Frames::allocate_pair`], and nothing refers to it any more.
    unsafe fn free_pair(&mut self, first: PhysFrame);

    /// Where the kernel reaches the bytes of `frame`.
    fn pointer(&self, frame: PhysFrame) -> NonNull<u8>;
}
