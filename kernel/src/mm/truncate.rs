//! Taking pages of a file out of all programs' memory, when the file loses them.
//!
//! There is no list of who maps a file: files that shrink while mapped are rare, and all processes
//! are few. The file system calls this only for files that were mapped at all, after it let go of
//! the pages and with no lock held; a fault after that finds the file as it is then.

use super::Mm;
use super::page::PAGE;
use super::table;
use super::tlb::Stale;
use core::ops::Range;

/// Forgets pages `gone` (page indices) of the file known by `identity` in all address spaces: those
/// that `is_gone` says of, given the index and the frame. A private copy is another frame than the
/// file's page, which private regions show too until they write.
pub fn forget_pages(identity: (u64, u64), gone: Range<u64>, is_gone: &dyn Fn(u64, u64) -> bool) {
    for process in crate::task::all() {
        if let Some(mm) = process.mm.get() {
            mm.forget_pages(identity, &gone, is_gone);
        }
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
