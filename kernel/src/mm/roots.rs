//! Frames for the isolation library, and root pairs from it.

use super::frame;
use super::layout::direct;
use crate::errno::{Errno, Result};
use core::ptr::NonNull;
use ringwall::{AddressSpace, Frames};
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// The kernel's frames as the library asks for them.
pub struct KernelFrames;

fn library_frame(physical: u64) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(physical))
}

// SAFETY: each frame has one owner until it is freed.
unsafe impl FrameAllocator<Size4KiB> for KernelFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        frame::allocate(0).ok().map(library_frame)
    }
}

// SAFETY: as above; the direct map has every frame, writable, under every kernel root.
unsafe impl Frames for KernelFrames {
    fn allocate_pair(&mut self) -> Option<PhysFrame> {
        frame::allocate(1).ok().map(library_frame)
    }

    unsafe fn free(&mut self, frame: PhysFrame) {
        // SAFETY: the caller's promise.
        unsafe { frame::free(frame.start_address().as_u64(), 0) };
    }

    unsafe fn free_pair(&mut self, first: PhysFrame) {
        // SAFETY: the caller's promise.
        unsafe { frame::free(first.start_address().as_u64(), 1) };
    }

    fn pointer(&self, frame: PhysFrame) -> NonNull<u8> {
        // SAFETY: the direct map is nowhere near address 0.
        unsafe { NonNull::new_unchecked(direct(frame.start_address().as_u64())) }
    }
}

/// A pair of roots with an empty user half.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn new() -> Result<AddressSpace> {
    let isolation = crate::arch::cpu::isolation();
    AddressSpace::new(isolation, &mut KernelFrames).map_err(|_| Errno::ENOMEM)
}
