//! The bytes in a pipe: a ring of pages.
//!
//! ```text
//! |....head########tail....|   positions count bytes for ever; a page's slot is position / 4096
//! ```
//!
//! Readers touch `head..tail`, writers `tail..head + capacity`: with one of each at a time they
//! never meet, and both can copy without holding the lock that guards the two positions. When a
//! reader empties the ring and no writer is at work, it starts again at 0, so that a pipe that is
//! used in small pieces stays in one page.

use crate::errno::{Errno, Result};
use crate::mm::Page;
use alloc::vec::Vec;

/// Size of a slot.
pub const PAGE: usize = 4096;

/// Pages and positions.
pub struct Ring {
    /// A power of two of them.
    slots: Vec<Option<Page>>,
    head: usize,
    tail: usize,
}

impl Ring {
    /// An empty ring of `slots` pages, a power of two, none allocated yet.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(slots: usize) -> Result<Ring> {
        debug_assert!(slots.is_power_of_two());
        let mut vector = Vec::new();
        vector.try_reserve_exact(slots).map_err(|_| Errno::ENOMEM)?;
        vector.resize_with(slots, || None);
        Ok(Ring { slots: vector, head: 0, tail: 0 })
    }

    /// The slot of a position.
    #[inline]
    fn slot(&self, position: usize) -> usize {
        (position / PAGE) & (self.slots.len() - 1)
    }

    /// Bytes in it.
    #[inline]
    pub fn available(&self) -> usize {
        self.tail - self.head
    }

    /// Bytes it can hold.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slots.len() * PAGE
    }

    /// Bytes that still fit.
    #[inline]
    pub fn free(&self) -> usize {
        self.capacity() - self.available()
    }

    /// The first bytes, at most `most`, as far as they lie in one page.
    #[inline]
    pub fn front(&self, most: usize) -> Option<(*const u8, usize)> {
        let within = self.head % PAGE;
        let length = most.min(self.available()).min(PAGE - within);
        if length == 0 {
            return None;
        }
        let page = self.slots[self.slot(self.head)].as_ref()?;
        Some((page.as_ptr().wrapping_add(within), length))
    }

    /// Takes `length` bytes out; `rewind` if no writer is at work.
    #[inline]
    pub fn consume(&mut self, length: usize, rewind: bool) {
        self.head += length;
        if rewind && self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
    }

    /// Room `beyond` bytes behind the last one, at most `most`, as far as it lies in one page. `None` if the
    /// page is missing: see [`Ring::supply`].
    #[inline]
    pub fn back(&self, beyond: usize, most: usize) -> Option<(*mut u8, usize)> {
        let position = self.tail + beyond;
        let within = position % PAGE;
        let length = most.min(self.free() - beyond).min(PAGE - within);
        let page = self.slots[self.slot(position)].as_ref()?;
        Some((page.as_ptr().wrapping_add(within), length))
    }

    /// Gives the page that [`Ring::back`] misses.
    pub fn supply(&mut self, beyond: usize, page: Page) {
        let slot = self.slot(self.tail + beyond);
        self.slots[slot].get_or_insert(page);
    }

    /// Counts `length` bytes that were put behind the last one.
    #[inline]
    pub fn produce(&mut self, length: usize) {
        self.tail += length;
    }

    /// Changes the capacity to `slots` pages, a power of two. Nobody reads or writes meanwhile.
    ///
    /// # Errors
    /// `EBUSY` if the bytes do not fit, `ENOMEM`.
    pub fn resize(&mut self, slots: usize) -> Result<()> {
        let start = self.head % PAGE;
        let used = (start + self.available()).div_ceil(PAGE);
        if used > slots {
            return Err(Errno::EBUSY);
        }
        let mut ring = Ring::new(slots)?;
        for index in 0..used {
            let from = self.slot(self.head + index * PAGE);
            ring.slots[index] = match self.slots[from].take() {
                Some(page) => Some(page),
                // The last bytes wrapped into the page of the first ones.
                None => {
                    let page = Page::zeroed()?;
                    if let Some(shared) = &ring.slots[0] {
                        copy_front(shared, &page, start);
                    }
                    Some(page)
                }
            };
        }
        ring.head = start;
        ring.tail = start + self.available();
        *self = ring;
        Ok(())
    }
}

/// Copies the first `length` bytes of a page.
fn copy_front(from: &Page, to: &Page, length: usize) {
    let mut chunk = [0; 256];
    for offset in (0..length).step_by(chunk.len()) {
        let part = &mut chunk[..(length - offset).min(256)];
        from.read(offset, part);
        to.write(offset, part);
    }
}
