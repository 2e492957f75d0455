//! Counted handles to frames.
//!
//! Invariant: a frame's count is the number of handles and page-table entries that hold it. The
//! frame is freed when the last lets go, and until then nobody else gets it.
//!
//! A count that ever gets past [`STICKY`] never comes down to 0 any more: better a frame lost than
//! one freed with users. The page of zeros that all address spaces read starts there.

use super::frame::{self, count};
use super::layout::direct;
use crate::errno::Result;
use core::arch::asm;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicU64, fence};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// From here on counts are not believed.
const STICKY: u32 = 1 << 31;
/// Where a count that is not believed is put: far from both ends.
const STUCK: u32 = 3 << 30;

/// A counted handle to one 4 KiB frame. Clone shares it, drop gives it up; the last drop frees it.
#[derive(PartialEq, Eq, Debug)]
pub struct Page(u64);

impl Page {
    /// A frame with whatever was in it.
    #[inline]
    fn allocate() -> Result<Page> {
        let physical = frame::allocate(0)?;
        count(physical).store(1, Relaxed);
        Ok(Page(physical))
    }

    /// A frame of zeros.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[inline]
    pub fn zeroed() -> Result<Page> {
        let page = Page::allocate()?;
        // SAFETY: a whole frame that only this handle knows.
        unsafe { clear(page.as_ptr()) };
        Ok(page)
    }

    /// A frame with the contents of this one.
    ///
    /// # Errors
    /// `ENOMEM`.
    #[inline]
    pub fn copied(&self) -> Result<Page> {
        let page = Page::allocate()?;
        // SAFETY: two whole frames, and the new one only this handle knows.
        unsafe { copy(self.as_ptr(), page.as_ptr()) };
        Ok(page)
    }

    /// Physical address.
    #[inline(always)]
    pub fn address(&self) -> u64 {
        self.0
    }

    /// The frame's bytes through the direct map. Other holders may change them at any time.
    #[inline(always)]
    pub fn as_ptr(&self) -> *mut u8 {
        direct(self.0)
    }

    /// Copies bytes out of the frame; `offset + into.len()` must not pass 4096.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= PAGE as usize);
        // SAFETY: inside the frame, which is held; the direct map is apart from all Rust objects.
        // Programs may write the frame meanwhile: any mixture of bytes will do.
        unsafe {
            self.as_ptr().wrapping_add(offset).copy_to_nonoverlapping(into.as_mut_ptr(), into.len())
        };
    }

    /// Copies bytes into the frame; `offset + from.len()` must not pass 4096.
    pub fn write(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= PAGE as usize);
        // SAFETY: as in `read`.
        unsafe {
            self.as_ptr().wrapping_add(offset).copy_from_nonoverlapping(from.as_ptr(), from.len())
        };
    }

    /// Fills `bytes` with zeros; they must not pass 4096.
    pub fn clear(&self, bytes: core::ops::Range<usize>) {
        assert!(bytes.start <= bytes.end && bytes.end <= PAGE as usize);
        // SAFETY: as in `read`.
        unsafe { self.as_ptr().wrapping_add(bytes.start).write_bytes(0, bytes.len()) };
    }

    /// Whether this handle is the frame's only holder. It stays so until somebody clones it.
    pub fn is_only(&self) -> bool {
        // Acquire: what others wrote before they let go is to be seen by who has it now.
        count(self.0).load(Acquire) == 1
    }

    /// Turns the handle into a page-table entry's hold on the frame.
    #[inline(always)]
    pub(super) fn into_entry(self) -> u64 {
        let physical = self.0;
        core::mem::forget(self);
        physical
    }

    /// Takes a page-table entry's hold back.
    ///
    /// # Safety
    /// The caller took it out of an entry, or out of [`Page::into_entry`], for good.
    #[inline(always)]
    pub(super) unsafe fn from_entry(physical: u64) -> Page {
        Page(physical)
    }

    /// Another handle to a frame that a page-table entry holds.
    ///
    /// # Safety
    /// The entry cannot let go meanwhile: its address space is locked.
    #[inline(always)]
    pub(super) unsafe fn of_entry(physical: u64) -> Page {
        let before = count(physical).fetch_add(1, Relaxed);
        if before >= STICKY {
            count(physical).store(STUCK, Relaxed);
        }
        Page(physical)
    }

    /// Whether the page-table entry that holds the frame is its only holder.
    ///
    /// # Safety
    /// As [`Page::of_entry`].
    #[inline(always)]
    pub(super) unsafe fn is_only_entry(physical: u64) -> bool {
        // Acquire: what others wrote before they let go is to be seen by who writes it next.
        count(physical).load(Acquire) == 1
    }
}

impl Clone for Page {
    #[inline(always)]
    fn clone(&self) -> Page {
        // SAFETY: this handle holds the frame as an entry would.
        unsafe { Page::of_entry(self.0) }
    }
}

impl Drop for Page {
    #[inline(always)]
    fn drop(&mut self) {
        let before = count(self.0).fetch_sub(1, Release);
        if before == 1 {
            // All uses by other holders come before the frame's next life.
            fence(Acquire);
            // SAFETY: nobody holds it any more, and page tables let go only after their flush.
            unsafe { frame::free(self.0, 0) };
        } else if before > STICKY {
            count(self.0).store(STUCK, Relaxed);
        }
    }
}

/// Physical address of the page of zeros; 0 before there is one.
static ZEROS: AtomicU64 = AtomicU64::new(0);

/// Physical address of a page of zeros that every address space may map, read-only.
///
/// # Errors
/// `ENOMEM` if it could not be made.
#[inline]
pub(super) fn zeros() -> Result<u64> {
    match ZEROS.load(Relaxed) {
        0 => make_zeros(),
        physical => Ok(physical),
    }
}

/// Whether `physical` is the page of zeros.
#[inline(always)]
pub(super) fn is_zeros(physical: u64) -> bool {
    ZEROS.load(Relaxed) == physical
}

#[cold]
fn make_zeros() -> Result<u64> {
    let physical = Page::zeroed()?.into_entry();
    count(physical).store(STUCK, Relaxed);
    // There is one: what it counts as must not change while it is mapped. Of two that make one, the second's is lost.
    Ok(ZEROS.compare_exchange(0, physical, Relaxed, Relaxed).err().unwrap_or(physical))
}

/// Fills the frame at `to` with zeros.
///
/// # Safety
/// `to` is a page-aligned page that is the caller's to write.
#[inline(always)]
pub(super) unsafe fn clear(to: *mut u8) {
    // SAFETY: 512 words from `to` are the caller's. The direction flag is clear in all Rust code.
    unsafe {
        asm!("rep stosq", inout("rcx") 512u64 => _, inout("rdi") to => _, in("rax") 0u64,
             options(nostack, preserves_flags));
    }
}

/// Copies the frame at `from` to `to`.
///
/// # Safety
/// Both are page-aligned pages; `to` is the caller's to write, `from` to read.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8) {
    // SAFETY: as in `clear`.
    unsafe {
        asm!("rep movsq", inout("rcx") 512u64 => _, inout("rdi") to => _, inout("rsi") from => _,
             options(nostack, preserves_flags));
    }
}
