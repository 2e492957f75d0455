//! Where a read puts its bytes, and where a write takes them from.
//!
//! Mostly that is a program's buffer; sendfile, exec and the kernel's own reads use kernel memory.
//! Both types advance by what was moved, and by nothing if it failed: the caller consumes from a
//! pipe, or counts a file longer, only after the copy succeeded.

use crate::errno::{Errno, Result};
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

/// Takes bytes.
pub enum Sink<'a> {
    /// A program's buffer: address and bytes left.
    User(u64, usize),
    /// Kernel memory.
    Kernel(&'a mut [u8]),
}

impl Sink<'_> {
    /// Room left.
    #[inline]
    pub fn remaining(&self) -> usize {
        match self {
            Sink::User(_, length) => *length,
            Sink::Kernel(bytes) => bytes.len(),
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
        }
        Ok(())
    }

    /// Puts `bytes` as [`Sink::put`], or as far as the buffer goes before a page that cannot be
    /// written. Gives how many went.
    ///
    /// # Errors
    /// `EFAULT` if not one did.
    pub fn put_some(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.put(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                let head = self.bytes_in_page();
                if head >= bytes.len() {
                    return Err(error);
                }
                self.put(&bytes[..head])?;
                Ok(head)
            }
        }
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

    /// Bytes up to the end of the user page that the buffer is in now.
    fn bytes_in_page(&self) -> usize {
        match self {
            Sink::User(address, _) => 4096 - (*address as usize & 4095),
            Sink::Kernel(_) => usize::MAX,
        }
    }
}

/// Gives bytes.
pub enum Source<'a> {
    /// A program's buffer: address and bytes left.
    User(u64, usize),
    /// Kernel memory.
    Kernel(&'a [u8]),
}

impl Source<'_> {
    /// Bytes left.
    #[inline]
    pub fn remaining(&self) -> usize {
        match self {
            Source::User(_, length) => *length,
            Source::Kernel(bytes) => bytes.len(),
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
        }
        Ok(())
    }

    /// Fills `into` as [`Source::take`], or as far as the buffer goes before a page that cannot be
    /// read. Gives how many bytes came.
    ///
    /// # Errors
    /// `EFAULT` if not one did.
    pub fn take_some(&mut self, into: &mut [u8]) -> Result<usize> {
        match self.take(into) {
            Ok(()) => Ok(into.len()),
            Err(error) => {
                let head = match self {
                    Source::User(address, _) => 4096 - (*address as usize & 4095),
                    Source::Kernel(_) => usize::MAX,
                };
                if head >= into.len() {
                    return Err(error);
                }
                self.take(&mut into[..head])?;
                Ok(head)
            }
        }
    }

    /// Advances without looking (/dev/null).
    pub fn skip(&mut self, bytes: usize) {
        match self {
            Source::User(address, length) => {
                *address += bytes as u64;
                *length -= bytes;
            }
            Source::Kernel(from) => *from = &from[bytes..],
        }
    }
}
