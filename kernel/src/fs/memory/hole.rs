//! Taking a file's pages away: the end of one that gets shorter, and holes.
//!
//! Invariant: whoever maps a page of the file sees the frame that the file has there, so two programs that share it never
//! have two. No lock of the file is held while mappings go: a fault on another CPU takes the address space's, then the
//! file's.

use super::node::Node;
use super::pages;
use super::regular::{PAGE, Regular, ZEROS};
use crate::fs::inode::Inode;
use core::ops::Range;
use core::sync::atomic::Ordering;

impl Regular {
    /// Makes `start..end` zeros, and holes where whole pages lie in it.
    pub(super) fn punch(&self, node: &Node, start: u64, end: u64) {
        let zero = |offset: u64, until: u64| {
            let page = self.pages.lock().get(offset / PAGE).cloned();
            if let Some(page) = page {
                page.write((offset % PAGE) as usize, &ZEROS[..(until - offset) as usize]);
            }
        };
        let first = start.div_ceil(PAGE);
        let last = end / PAGE;
        if first > last {
            zero(start, end);
            return;
        }
        if !start.is_multiple_of(PAGE) {
            zero(start, first * PAGE);
        }
        if !end.is_multiple_of(PAGE) && end != u64::MAX {
            zero(last * PAGE, end);
        }
        if end == u64::MAX {
            self.cut(node, first);
        } else {
            self.give_back(node, first..last);
        }
    }

    /// Lets go of all pages from `first` on, which lie past the end, so that nobody gets one anew.
    fn cut(&self, node: &Node, first: u64) {
        let gone = self.pages.lock().take(first, u64::MAX, |_| true);
        node.memory.discharge(gone.count());
        if self.mapped.load(Ordering::Relaxed) {
            // Private copies go, too, as on Linux.
            crate::mm::forget_pages(node.identity(), first..u64::MAX, &|_, _| true);
        }
    }

    /// Makes holes of whole pages `range`. Programs may map them at any time, and all see one frame at any time: the
    /// mappings go before the pages, and a page that somebody has again by then is filled with zeros where it is.
    fn give_back(&self, node: &Node, range: Range<u64>) {
        if self.mapped.load(Ordering::Relaxed) {
            // Private copies stay, as on Linux.
            let is_ours = |index, physical| {
                self.pages.lock().get(index).is_some_and(|page| page.address() == physical)
            };
            crate::mm::forget_pages(node.identity(), range.clone(), &is_ours);
        }
        // Not all of them under one lock: to fill with zeros takes long.
        let mut first = range.start;
        loop {
            let mut pages = self.pages.lock();
            let Some(next) = pages.next_page(first).filter(|next| range.contains(next)) else {
                break;
            };
            first = range.end.min(next + pages::CHUNK);
            let gone = pages.take(next, first, |page| {
                // With the pages locked, nobody gets another handle.
                let only = page.is_only();
                if !only {
                    page.clear(0..PAGE as usize);
                }
                only
            });
            drop(pages);
            node.memory.discharge(gone.count());
        }
    }
}
