//! Taking pages of a file out of all programs' memory, when the file loses them.
//!
//! There is no list of who maps a file: files that shrink while mapped are rare, and all address
//! spaces are few. The file system calls this only for files that were mapped at all and with no lock held: for a
//! shorter file after it let go of the pages; for a hole before, so that nobody sees the old page beside a new one. A
//! fault on another CPU asks the file for its page and maps that under the lock of its address space: either it finds the
//! file as it is then, or its page is found here.

use super::Mm;
use super::page::PAGE;
use super::table;
use super::tlb::Stale;
use crate::sync::{Linked, Links, List, Mutex, cross};
use core::ops::Range;

/// All address spaces, those included that no process has yet: a fork copies what is mapped before the child is known.
///
/// Lock order: before any [`Mm`]'s.
static ALL: Mutex<List<Mm>> = Mutex::new(List::new());

/// An address space's place in the list of all.
pub(super) struct Membership(Links<Mm>);

// SAFETY: used with the lock of the list alone.
unsafe impl Send for Membership {}
// SAFETY: as above.
unsafe impl Sync for Membership {}

impl Membership {
    pub(super) const fn new() -> Membership {
        Membership(Links::new())
    }
}

impl Linked for Mm {
    fn links(&self) -> &Links<Mm> {
        &self.listed.0
    }
}

impl Mm {
    /// Enters it into the list of all.
    ///
    /// # Safety
    /// It is in none, and neither moves nor ends before [`Mm::unlist`].
    pub(super) unsafe fn list(&self) {
        // SAFETY: the caller's promise.
        unsafe { ALL.lock().push(self) };
    }

    /// Takes it out again.
    pub(super) fn unlist(&self) {
        ALL.lock().take_out(self);
    }
}

/// Forgets pages `gone` (page indices) of the file known by `identity` in all address spaces: those
/// that `is_gone` says of, given the index and the frame. A private copy is another frame than the
/// file's page, which private regions show too until they write.
pub fn forget_pages(identity: (u64, u64), gone: Range<u64>, is_gone: &dyn Fn(u64, u64) -> bool) {
    let all = ALL.lock();
    let mut next = all.first();
    while let Some(mm) = next {
        mm.forget_pages(identity, &gone, is_gone);
        next = all.after(mm);
    }
}

impl Mm {
    fn forget_pages(
        &self,
        identity: (u64, u64),
        gone: &Range<u64>,
        is_gone: &dyn Fn(u64, u64) -> bool,
    ) {
        let mut space = self.space.lock();
        let mut stale = Stale::new(self.roots());
        let mut pages = 0;
        for region in space.regions.iter() {
            let mapping = &region.attributes;
            let Some(file) = &mapping.file else { continue };
            if file.inode.identity() != identity {
                continue;
            }
            // Each region is a way of its own through the tables.
            cross::serve();
            // The region's own first and last page, as pages of the file.
            let first = mapping.offset / PAGE;
            let last = first + region.length() / PAGE;
            let part = gone.start.clamp(first, last)..gone.end.clamp(first, last);
            let address = |index: u64| region.start + (index - first) * PAGE;
            let range = address(part.start)..address(part.end);
            let index = |at: u64| first + (at - region.start) / PAGE;
            let is_gone = |at: u64, frame| is_gone(index(at), frame);
            pages += table::clear_if(self.roots(), range, is_gone, &mut stale);
        }
        space.lose_pages(pages);
    }
}
