//! Where a read puts its bytes, and where a write takes them from.
//!
//! Mostly that is a program's buffer, or several; sendfile, exec and the kernel's own reads use kernel
//! memory. Both types advance by what was moved, and by nothing if it failed: the caller consumes from a
//! pipe, or counts a file longer, only after the copy succeeded.

use super::segments::Segments;
use crate::errno::{Errno, Result};
use crate::mm::Page;
use crate::mm::layout::USER_END;
use crate::user;

/// Most bytes of one read or write, as on Linux: INT_MAX less a page.
pub const MOST_BYTES: usize = 0x7fff_f000;

/// Checks that `length` bytes at `address` lie in user addresses at all.
///
/// # Errors
/// `EFAULT`.
#[inline]
pub fn check_range(address: u64, length: usize) -> Result<()> {
    match address.checked_add(length as u64) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Takes bytes. With the fields in order, how many are left is in the same place whatever it is: asked for most, it takes
/// no branch.
#[repr(u32)]
pub enum Sink<'a> {
    /// A program's buffer: address and bytes left.
    User(u64, usize),
    /// Kernel memory.
    Kernel(&'a mut [u8]),
    /// A program's buffers, and bytes left in all of them.
    Segments(&'a mut Segments<'a>, usize),
}

impl Sink<'_> {
    /// Room left.
    #[inline]
    pub fn remaining(&self) -> usize {
        match self {
            Sink::User(_, length) => *length,
            Sink::Kernel(bytes) => bytes.len(),
            Sink::Segments(_, length) => *length,
        }
    }

    /// Puts `bytes`, at most [`Sink::remaining`] of them, and advances.
    ///
    /// # Errors
    /// `EFAULT`; nothing has advanced then.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Sink::User(address, length) => {
                user::write_bytes(*address, bytes)?;
                *address += bytes.len() as u64;
                *length -= bytes.len();
            }
            Sink::Kernel(into) => {
                let (head, tail) = core::mem::take(into).split_at_mut(bytes.len());
                head.copy_from_slice(bytes);
                *into = tail;
            }
            Sink::Segments(segments, length) => {
                put_in_segments(segments, bytes)?;
                *length -= bytes.len();
            }
        }
        Ok(())
    }

    /// Puts `bytes`, or as many as come before one that cannot be written; gives how many.
    ///
    /// # Errors
    /// `EFAULT` if not one did.
    pub fn put_some(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Sink::User(address, _) => {
                let done = user::write_some(*address, bytes);
                self.advance(done, bytes.len())
            }
            Sink::Segments(segments, _) => {
                let piece = |address, part| user::write_some(address, &bytes[part]);
                let done = segments.some(bytes.len(), piece);
                self.advance(done, bytes.len())
            }
            Sink::Kernel(_) => self.put(bytes).map(|()| bytes.len()),
        }
    }

    /// As [`Sink::put_some`], from a page.
    ///
    /// # Errors
    /// `EFAULT` if not one byte could be put.
    pub fn put_page(&mut self, page: &Page, offset: usize, length: usize) -> Result<usize> {
        match self {
            Sink::User(address, _) => {
                let done = user::write_from_page(*address, page, offset, length);
                self.advance(done, length)
            }
            Sink::Segments(segments, _) => {
                let done = segments.some(length, |address, part| {
                    user::write_from_page(address, page, offset + part.start, part.len())
                });
                self.advance(done, length)
            }
            Sink::Kernel(into) => {
                let (head, tail) = core::mem::take(into).split_at_mut(length);
                page.read(offset, head);
                *into = tail;
                Ok(length)
            }
        }
    }

    /// Advances in a program's memory by `done` of `wanted` bytes.
    fn advance(&mut self, done: usize, wanted: usize) -> Result<usize> {
        match self {
            Sink::User(address, length) => {
                *address += done as u64;
                *length -= done;
            }
            Sink::Segments(_, length) => *length -= done,
            Sink::Kernel(_) => {}
        }
        if done == 0 && wanted > 0 { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Puts as much of `text` from `offset` on as fits, for files that are made on the fly.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn put_from(&mut self, text: &[u8], offset: u64) -> Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let length = (text.len() - start).min(self.remaining());
        self.put(&text[start..start + length])?;
        Ok(length)
    }
}

/// Gives bytes. Laid out as [`Sink`] is.
#[repr(u32)]
pub enum Source<'a> {
    /// A program's buffer: address and bytes left.
    User(u64, usize),
    /// Kernel memory.
    Kernel(&'a [u8]),
    /// A program's buffers, and bytes left in all of them.
    Segments(&'a mut Segments<'a>, usize),
}

impl Source<'_> {
    /// Bytes left.
    #[inline]
    pub fn remaining(&self) -> usize {
        match self {
            Source::User(_, length) => *length,
            Source::Kernel(bytes) => bytes.len(),
            Source::Segments(_, length) => *length,
        }
    }

    /// Fills `into`, at most [`Source::remaining`] bytes, and advances.
    ///
    /// # Errors
    /// `EFAULT`; nothing has advanced then.
    #[inline]
    pub fn take(&mut self, into: &mut [u8]) -> Result<()> {
        match self {
            Source::User(address, length) => {
                user::read_bytes(*address, into)?;
                *address += into.len() as u64;
                *length -= into.len();
            }
            Source::Kernel(from) => {
                let (head, tail) = from.split_at(into.len());
                into.copy_from_slice(head);
                *from = tail;
            }
            Source::Segments(segments, length) => {
                take_from_segments(segments, into)?;
                *length -= into.len();
            }
        }
        Ok(())
    }

    /// Fills `into`, or as much of it as comes before a byte that cannot be read; gives how much.
    ///
    /// # Errors
    /// `EFAULT` if nothing came.
    pub fn take_some(&mut self, into: &mut [u8]) -> Result<usize> {
        match self {
            Source::User(address, _) => {
                let done = user::read_some(*address, into);
                self.advance(done, into.len())
            }
            Source::Segments(segments, _) => {
                let wanted = into.len();
                let piece = |address, part| user::read_some(address, &mut into[part]);
                let done = segments.some(wanted, piece);
                self.advance(done, wanted)
            }
            Source::Kernel(_) => self.take(into).map(|()| into.len()),
        }
    }

    /// As [`Source::take_some`], into a page.
    ///
    /// # Errors
    /// `EFAULT` if nothing came.
    pub fn take_page(&mut self, page: &Page, offset: usize, length: usize) -> Result<usize> {
        match self {
            Source::User(address, _) => {
                let done = user::read_into_page(*address, page, offset, length);
                self.advance(done, length)
            }
            Source::Segments(segments, _) => {
                let done = segments.some(length, |address, part| {
                    user::read_into_page(address, page, offset + part.start, part.len())
                });
                self.advance(done, length)
            }
            Source::Kernel(from) => {
                let (head, tail) = from.split_at(length);
                page.write(offset, head);
                *from = tail;
                Ok(length)
            }
        }
    }

    /// Advances in a program's memory by `done` of `wanted` bytes.
    fn advance(&mut self, done: usize, wanted: usize) -> Result<usize> {
        match self {
            Source::User(address, length) => {
                *address += done as u64;
                *length -= done;
            }
            Source::Segments(_, length) => *length -= done,
            Source::Kernel(_) => {}
        }
        if done == 0 && wanted > 0 { Err(Errno::EFAULT) } else { Ok(done) }
    }

    /// Advances without looking (/dev/null).
    pub fn skip(&mut self, bytes: usize) {
        match self {
            Source::User(address, length) => {
                *address += bytes as u64;
                *length -= bytes;
            }
            Source::Kernel(from) => *from = &from[bytes..],
            Source::Segments(segments, length) => {
                *length -= segments.some(bytes, |_, part| part.len());
            }
        }
    }
}

/// [`Sink::put`], apart from the plain path.
#[cold]
fn put_in_segments(segments: &mut Segments<'_>, bytes: &[u8]) -> Result<()> {
    segments.all(bytes.len(), |address, part| user::write_some(address, &bytes[part]))
}

/// [`Source::take`], apart from the plain path.
#[cold]
fn take_from_segments(segments: &mut Segments<'_>, into: &mut [u8]) -> Result<()> {
    segments.all(into.len(), |address, part| user::read_some(address, &mut into[part]))
}
