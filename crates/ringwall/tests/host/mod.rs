//! A host's memory as a kernel's frames, and a setup, for tests of the tables that the library makes.

use ringwall::core::{Hardening, private};
use ringwall::{Frames, Setup};
use std::alloc::{Layout, alloc_zeroed};
use std::ptr::NonNull;
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// Room for the pages of 512 CPUs. The host gives what is touched.
const BYTES: usize = 16 << 20;

/// Isolated, without PCID, without any measure: what most tests set up, and the others change something of.
pub fn setup(kernel_root: PhysFrame) -> Setup<'static> {
    Setup {
        kernel_root,
        region: 0xffff_ffff_c000_0000..=0xffff_ffff_fffe_ffff,
        random: 0,
        isolate: true,
        switchable: true,
        pcid: false,
        invpcid: false,
        hardening: Hardening::NONE,
        fsgsbase: false,
        sysret_keeps_ss: false,
        user_vectors: &[],
        private_slot: private::DEFAULT_SLOT,
    }
}

/// Physical memory from 0 on; frames in a row, never used again.
pub struct Memory {
    base: NonNull<u8>,
    next: u64,
    /// Frames that are given out.
    pub live: usize,
    /// How many more there are.
    pub left: usize,
}

impl Memory {
    /// All of it free but the first 8 KiB.
    pub fn new() -> Memory {
        let layout = Layout::from_size_align(BYTES, 8192).expect("a layout");
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).expect("memory");
        Memory { base, next: 8192, live: 0, left: BYTES / 4096 - 2 }
    }

    /// The word at a physical address.
    pub fn word(&self, address: u64) -> *mut u64 {
        self.pointer(PhysFrame::containing_address(PhysAddr::new(address)))
            .as_ptr()
            .wrapping_add(address as usize % 4096)
            .cast()
    }
}

// SAFETY: each frame is given out once.
unsafe impl FrameAllocator<Size4KiB> for Memory {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.next;
        self.left = self.left.checked_sub(1)?;
        self.next += 4096;
        self.live += 1;
        assert!(self.next <= BYTES as u64, "the test needs more memory");
        Some(PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

// SAFETY: the block lives for ever.
unsafe impl Frames for Memory {
    fn allocate_pair(&mut self) -> Option<PhysFrame> {
        self.next = self.next.next_multiple_of(8192);
        let first = self.allocate_frame()?;
        self.allocate_frame()?;
        Some(first)
    }
    unsafe fn free(&mut self, _frame: PhysFrame) {
        self.live -= 1;
    }
    unsafe fn free_pair(&mut self, _first: PhysFrame) {
        self.live -= 2;
    }
    fn pointer(&self, frame: PhysFrame) -> NonNull<u8> {
        // SAFETY: frames come from inside the block.
        unsafe { self.base.add(frame.start_address().as_u64() as usize) }
    }
}
