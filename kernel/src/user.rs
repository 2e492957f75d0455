//! Access to a program's memory, with faults as errors.
//!
//! Invariant: user memory is touched nowhere else; SMAP is lifted here alone; no spin lock is held.
//!
//! The instructions that touch user memory are in [`access`]. A page fault of one of them is first
//! resolved like the program's own; if that is not possible, [`fixup`] tells where the routine goes
//! on, to report how far it got. So a kernel that copies never needs to look at page tables, and a
//! program that unmaps what is being copied gets EFAULT.

mod access;

use crate::errno::{Errno, Result};
use crate::mm::layout::USER_END;
use crate::mm::{PAGE, Page};
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use access::{fixup, is_look};

/// How much of a string is copied at a time.
const STRING_PART: u64 = 64;

/// Whether `length` bytes at `start` could be a program's memory.
#[inline(always)]
pub const fn is_user_range(start: u64, length: u64) -> bool {
    length <= USER_END && start <= USER_END - length
}

/// Copies `length` bytes from user memory; gives how many were not.
///
/// # Safety
/// `into` is valid for writes of `length` bytes.
#[inline(always)]
unsafe fn copy_in(from: u64, into: *mut u8, length: usize) -> usize {
    if !is_user_range(from, length as u64) {
        return length;
    }
    // SAFETY: the source is in the user half, the target the caller's.
    unsafe { access::copy(into, from as *const u8, length) }
}

/// Copies `length` bytes to user memory; gives how many were not.
///
/// # Safety
/// `from` is valid for reads of `length` bytes.
#[inline(always)]
unsafe fn copy_out(to: u64, from: *const u8, length: usize) -> usize {
    if !is_user_range(to, length as u64) {
        return length;
    }
    // SAFETY: the target is in the user half, where no Rust object is.
    unsafe { access::copy(to as *mut u8, from, length) }
}

fn whole(missing: usize) -> Result<()> {
    if missing == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Copies `into.len()` bytes from user address `from`.
///
/// # Errors
/// `EFAULT` if any byte is outside user memory or cannot be read.
#[inline]
pub fn read_bytes(from: u64, into: &mut [u8]) -> Result<()> {
    whole(into.len() - read_some(from, into))
}

/// Copies `from` to user address `to`.
///
/// # Errors
/// `EFAULT` if any byte is outside user memory or cannot be written.
#[inline]
pub fn write_bytes(to: u64, from: &[u8]) -> Result<()> {
    whole(from.len() - write_some(to, from))
}

/// As [`read_bytes`]; gives how many bytes were copied before the first that could not be.
#[inline]
pub fn read_some(from: u64, into: &mut [u8]) -> usize {
    // SAFETY: the slice is valid for its length.
    into.len() - unsafe { copy_in(from, into.as_mut_ptr(), into.len()) }
}

/// As [`write_bytes`]; gives how many bytes were copied before the first that could not be.
#[inline]
pub fn write_some(to: u64, from: &[u8]) -> usize {
    // SAFETY: the slice is valid for its length.
    from.len() - unsafe { copy_out(to, from.as_ptr(), from.len()) }
}

/// Copies from user memory into a page; gives how many bytes were copied.
pub fn read_into_page(from: u64, page: &Page, offset: usize, length: usize) -> usize {
    assert!(offset <= PAGE as usize && length <= PAGE as usize - offset);
    // SAFETY: inside the page, which is held. Others may change its bytes meanwhile.
    length - unsafe { copy_in(from, page.as_ptr().wrapping_add(offset), length) }
}

/// Copies from a page to user memory; gives how many bytes were copied.
pub fn write_from_page(to: u64, page: &Page, offset: usize, length: usize) -> usize {
    assert!(offset <= PAGE as usize && length <= PAGE as usize - offset);
    // SAFETY: as in `read_into_page`.
    length - unsafe { copy_out(to, page.as_ptr().wrapping_add(offset), length) }
}

/// Fills user memory with zeros.
///
/// # Errors
/// `EFAULT`.
pub fn clear(to: u64, length: u64) -> Result<()> {
    if !is_user_range(to, length) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: in the user half, where no Rust object is.
    whole(unsafe { access::clear(to as *mut u8, length as usize) })
}

/// Copies a value from user memory to where it is to stay: no second copy of a big one.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn read_into<T: FromBytes>(from: u64, into: &mut MaybeUninit<T>) -> Result<&T> {
    let bytes = size_of::<T>();
    if !is_user_range(from, bytes as u64) {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the value has these bytes; the source is in the user half.
    whole(unsafe { access::copy(into.as_mut_ptr().cast(), from as *const u8, bytes) })?;
    // SAFETY: all its bytes were copied, and any bytes make a value.
    Ok(unsafe { into.assume_init_ref() })
}

/// Reads one value.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn read<T: FromBytes>(from: u64) -> Result<T> {
    if !is_user_range(from, size_of::<T>() as u64) {
        return Err(Errno::EFAULT);
    }
    let mut value = MaybeUninit::<T>::uninit();
    let into = value.as_mut_ptr().cast::<u8>();
    match size_of::<T>() {
        8 => {
            // SAFETY: the range was checked.
            let word = unsafe { access::load_8(from) }.ok_or(Errno::EFAULT)?;
            // SAFETY: the value has these 8 bytes.
            unsafe { into.cast::<u64>().write_unaligned(word) };
        }
        4 => {
            // SAFETY: the range was checked.
            let word = unsafe { access::load_4(from) }.ok_or(Errno::EFAULT)?;
            // SAFETY: the value has these 4 bytes.
            unsafe { into.cast::<u32>().write_unaligned(word) };
        }
        // SAFETY: the value has these bytes; the source is in the user half.
        bytes => whole(unsafe { access::copy(into, from as *const u8, bytes) })?,
    }
    // SAFETY: all its bytes were copied, and any bytes make a value.
    Ok(unsafe { value.assume_init() })
}

/// Writes one value.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn write<T: IntoBytes + Immutable>(to: u64, value: &T) -> Result<()> {
    let bytes = value.as_bytes();
    if !is_user_range(to, bytes.len() as u64) {
        return Err(Errno::EFAULT);
    }
    if let Ok(word) = <[u8; 8]>::try_from(bytes) {
        // SAFETY: the range was checked.
        let stored = unsafe { access::store_8(to, u64::from_ne_bytes(word)) };
        return whole(usize::from(!stored));
    }
    if let Ok(word) = <[u8; 4]>::try_from(bytes) {
        // SAFETY: the range was checked.
        let stored = unsafe { access::store_4(to, u32::from_ne_bytes(word)) };
        return whole(usize::from(!stored));
    }
    write_bytes(to, bytes)
}

/// Reads a 4-byte word, which must be aligned, at once (futexes).
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn read_u32(from: u64) -> Result<u32> {
    check_word(from)?;
    // SAFETY: the range was checked.
    unsafe { access::load_4(from) }.ok_or(Errno::EFAULT)
}

/// [`read_u32`] without bringing the page in, so that a lock may be held: none if that would have to be done first, or
/// cannot be.
///
/// # Errors
/// `EFAULT`, `EINVAL`, of addresses that are no program's.
pub fn look_u32(from: u64) -> Result<Option<u32>> {
    check_word(from)?;
    // SAFETY: the range was checked.
    Ok(unsafe { access::look_4(from) })
}

/// Writes `new` to an aligned 4-byte word if it is `old`, at once. Gives what was there: `old` if
/// `new` is there now.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn compare_exchange(address: u64, old: u32, new: u32) -> Result<u32> {
    check_word(address)?;
    // SAFETY: the range was checked.
    unsafe { access::compare_exchange(address, old, new) }.ok_or(Errno::EFAULT)
}

fn check_word(address: u64) -> Result<()> {
    if !address.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if is_user_range(address, 4) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads a NUL-terminated string of at most `limit` bytes, NUL excluded.
///
/// # Errors
/// `EFAULT`; `ENAMETOOLONG` if there is no NUL within `limit`; `ENOMEM`.
pub fn read_string(from: u64, limit: usize) -> Result<Vec<u8>> {
    let mut string = Vec::new();
    let mut at = from;
    loop {
        if string.len() > limit {
            return Err(Errno::ENAMETOOLONG);
        }
        // Parts end where pages do, so that a fault means that the string's next byte is missing.
        let length = (STRING_PART - at % STRING_PART) as usize;
        let mut part = [0; STRING_PART as usize];
        let copied = read_some(at, &mut part[..length]);
        let end = part[..copied].iter().position(|&byte| byte == 0);
        let found = &part[..end.unwrap_or(copied)];
        string.try_reserve(found.len()).map_err(|_| Errno::ENOMEM)?;
        string.extend_from_slice(found);
        if end.is_some() {
            let fits = string.len() <= limit;
            return if fits { Ok(string) } else { Err(Errno::ENAMETOOLONG) };
        }
        if copied < length {
            let fits = string.len() <= limit;
            return Err(if fits { Errno::EFAULT } else { Errno::ENAMETOOLONG });
        }
        at += length as u64;
    }
}
