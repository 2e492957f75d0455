//! Physical frames: an allocator and counted handles.

use crate::errno::Result;

/// A counted handle to one 4 KiB frame. Clone shares it, drop gives it up; the last drop frees it.
pub struct Page(u64);

impl Page {
    /// A frame of zeros.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn zeroed() -> Result<Page> {
        todo!()
    }

    /// Physical address.
    pub fn address(&self) -> u64 {
        self.0
    }

    /// The frame's bytes through the direct map. Other holders may change them at any time.
    pub fn as_ptr(&self) -> *mut u8 {
        super::layout::direct(self.0)
    }

    /// Copies bytes out of the frame; `offset + into.len()` must not pass 4096.
    pub fn read(&self, _offset: usize, _into: &mut [u8]) {
        todo!()
    }

    /// Copies bytes into the frame; `offset + from.len()` must not pass 4096.
    pub fn write(&self, _offset: usize, _from: &[u8]) {
        todo!()
    }
}

impl Clone for Page {
    fn clone(&self) -> Page {
        todo!()
    }
}

/// Frames in the machine and frames free now, for /proc/meminfo and sysinfo.
pub fn totals() -> (usize, usize) {
    todo!()
}

/// Adds usable physical memory `start..end` (bytes, page-aligned) at boot.
pub fn add_memory(_start: u64, _end: u64) {
    todo!()
}

/// Raw frames for page tables, task stacks and the library: `1 << order` frames, naturally aligned,
/// contents undefined. Not counted.
///
/// # Errors
/// `ENOMEM`.
pub fn allocate(_order: u8) -> Result<u64> {
    todo!()
}

/// Gives back what [`allocate`] gave.
///
/// # Safety
/// Nobody uses the frames any more, in any page table of any CPU.
pub unsafe fn free(_physical: u64, _order: u8) {
    todo!()
}
