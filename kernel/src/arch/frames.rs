//! The kernel's frames as the library asks for them.

use crate::mm::{frame, layout};
use core::ptr::NonNull;
use ringwall::Frames;
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// The frame allocator, through the direct map.
pub struct KernelFrames;

fn physical(address: u64) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(address))
}

// SAFETY: the allocator gives out each frame once.
unsafe impl FrameAllocator<Size4KiB> for KernelFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        frame::allocate(0).ok().map(physical)
    }
}

// SAFETY: the direct map has all RAM under every kernel root; blocks are naturally aligned.
unsafe impl Frames for KernelFrames {
    fn allocate_pair(&mut self) -> Option<PhysFrame> {
        frame::allocate(1).ok().map(physical)
    }

    unsafe fn free(&mut self, frame: PhysFrame) {
        // SAFETY: by this function's contract.
        unsafe { frame::free(frame.start_address().as_u64(), 0) };
    }

    unsafe fn free_pair(&mut self, first: PhysFrame) {
        // SAFETY: by this function's contract.
        unsafe { frame::free(first.start_address().as_u64(), 1) };
    }

    fn pointer(&self, frame: PhysFrame) -> NonNull<u8> {
        let pointer = layout::direct(frame.start_address().as_u64());
        NonNull::new(pointer).expect("the direct map is not at 0")
    }
}
