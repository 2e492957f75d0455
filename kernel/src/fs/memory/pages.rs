//! The pages of a file's data.
//!
//! ```text
//! chunk index -> up to 64 slots -> page or hole
//! ```
//!
//! A file may be huge and almost empty: nothing here takes time or memory by the file's size, only
//! by the pages that it has.

use crate::errno::{Errno, Result};
use crate::mm::{Page, frame};
use crate::sync::cross;
use alloc::{collections::BTreeMap, vec::Vec};

/// Slots of one chunk.
pub const CHUNK: u64 = 64;

/// One frame in so many is left for everything else: programs, page tables, stacks, the heap. A
/// program that fills a file then gets an error rather than its end.
const RESERVE: usize = 32;

/// Page index to page.
pub struct Pages {
    chunks: BTreeMap<u64, Vec<Option<Page>>>,
    count: u64,
}

/// A page of zeros for a file.
///
/// # Errors
/// `ENOSPC` when memory is almost used up.
pub fn new_page() -> Result<Page> {
    if frame::available() < RESERVE {
        return Err(Errno::ENOSPC);
    }
    Page::zeroed().map_err(|_| Errno::ENOSPC)
}

impl Pages {
    /// None at all.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Pages {
        Pages { chunks: BTreeMap::new(), count: 0 }
    }

    /// Pages present.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The page at `index`, unless there is a hole.
    pub fn get(&self, index: u64) -> Option<&Page> {
        self.chunks.get(&(index / CHUNK))?.get((index % CHUNK) as usize)?.as_ref()
    }

    /// Puts `page` at `index`, or gives the one that is there already.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn insert(&mut self, index: u64, page: Page) -> Result<&Page> {
        let chunk = self.chunks.entry(index / CHUNK).or_default();
        let slot = (index % CHUNK) as usize;
        if chunk.len() <= slot {
            chunk.try_reserve(slot + 1 - chunk.len()).map_err(|_| Errno::ENOSPC)?;
            chunk.resize_with(slot + 1, || None);
        }
        let place = &mut chunk[slot];
        if place.is_none() {
            self.count += 1;
        }
        Ok(place.get_or_insert(page))
    }

    /// Takes out the pages from `first` to before `end` that are `wanted`.
    pub fn take(&mut self, first: u64, end: u64, wanted: impl Fn(&Page) -> bool) -> Pages {
        let mut taken = Pages::new();
        let mut number = first / CHUNK;
        while let Some((&at, _)) = self.chunks.range(number..).next()
            && at * CHUNK < end
        {
            number = at + 1;
            cross::serve();
            let Some(mut chunk) = self.chunks.remove(&at) else { break };
            let base = at * CHUNK;
            let inside = |slot: usize| (first..end).contains(&(base + slot as u64));
            let mut rest = Vec::new();
            let length = chunk.len();
            for (slot, place) in chunk.iter_mut().enumerate() {
                let Some(page) = place.take_if(|page| !inside(slot) || !wanted(page)) else {
                    continue;
                };
                if rest.is_empty() {
                    rest.resize_with(length, || None);
                }
                rest[slot] = Some(page);
            }
            taken.count += chunk.iter().flatten().count() as u64;
            taken.chunks.insert(at, chunk);
            if !rest.is_empty() {
                self.chunks.insert(at, rest);
            }
        }
        self.count -= taken.count;
        taken
    }

    /// Index of the first page at or after `index`.
    pub fn next_page(&self, index: u64) -> Option<u64> {
        for (&number, chunk) in self.chunks.range(index / CHUNK..) {
            let base = number * CHUNK;
            let from = index.saturating_sub(base) as usize;
            for (slot, page) in chunk.iter().enumerate().skip(from) {
                if page.is_some() {
                    return Some(base + slot as u64);
                }
            }
        }
        None
    }

    /// Index of the first hole at or after `index`.
    pub fn next_hole(&self, mut index: u64) -> u64 {
        while self.get(index).is_some() {
            index += 1;
            if index.is_multiple_of(CHUNK) {
                cross::serve();
            }
        }
        index
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        while let Some(chunk) = self.chunks.pop_first() {
            drop(chunk);
            cross::serve();
        }
    }
}
