//! Several buffers of a program as one: readv, writev and their like.
//!
//! The file sees one read or write of all bytes, so what it promises for one holds for all segments together. Segments
//! may say any address; copies from and to them are checked as all copies are.

use crate::errno::{Errno, Result};
use core::ops::Range;
use core::slice::Iter;
use zerocopy::{FromBytes, IntoBytes};

/// struct iovec.
#[derive(Clone, Copy, FromBytes, IntoBytes)]
#[repr(C)]
pub struct Segment {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub length: u64,
}

/// Those of one call, as far as they have not been used up.
#[derive(Clone)]
pub struct Segments<'a> {
    now: Segment,
    rest: Iter<'a, Segment>,
}

impl Segments<'_> {
    /// All of `list`.
    pub fn new(list: &[Segment]) -> Segments<'_> {
        Segments { now: Segment { address: 0, length: 0 }, rest: list.iter() }
    }

    /// Moves `wanted` bytes, piece after piece, until one does not move whole; gives how many did. `piece` is told the
    /// user address and which of the bytes these are, and gives how many of them moved.
    pub fn some(
        &mut self,
        wanted: usize,
        mut piece: impl FnMut(u64, Range<usize>) -> usize,
    ) -> usize {
        let mut done = 0;
        while done < wanted {
            if self.now.length == 0 {
                let Some(next) = self.rest.next() else { break };
                self.now = *next;
                continue;
            }
            let length = (wanted - done).min(self.now.length as usize);
            let moved = piece(self.now.address, done..done + length);
            self.now.address += moved as u64;
            self.now.length -= moved as u64;
            done += moved;
            if moved < length {
                break;
            }
        }
        done
    }

    /// As [`Segments::some`], but advances only if all moved.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn all(
        &mut self,
        wanted: usize,
        piece: impl FnMut(u64, Range<usize>) -> usize,
    ) -> Result<()> {
        let mut ahead = self.clone();
        if ahead.some(wanted, piece) < wanted {
            return Err(Errno::EFAULT);
        }
        *self = ahead;
        Ok(())
    }
}
