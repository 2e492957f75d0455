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

/// Forgets pages `gone` (page indices) of the file known by `identity` in all address spaces.
/// `copies`: private copies of them too, as when the file ends before them.
pub fn forget_pages(identity: (u64, u64), gone: Range<u64>, copies: bool) {
    for process in crate::task::all() {
        if let Some(mm) = process.mm.get() {
            mm.forget_pages(identity, &gone, copies);
        }
    }
}

impl Mm {
    fn forget_pages(&self, identity: (u64, u64), gone: &Range<u64>, copies: bool) {
        let mut space = self.space.lock();
        let mut stale = Stale::new(self.roots());
        let mut pages = 0;
        for region in space.regions.iter() {
            let mapping = &region.attributes;
            let Some(file) = &mapping.file else { continue };
            if file.inode.identity() != identity || !(copies || mapping.is_shared()) {
                continue;
            }
            // The region's own first and last page, as pages of the file.
            let first = mapping.offset / PAGE;
            let last = first + region.length() / PAGE;
            let part = gone.start.clamp(first, last)..gone.end.clamp(first, last);
            let address = |index: u64| region.start + (index - first) * PAGE;
            let range = address(part.start)..address(part.end);
            pages += table::clear(self.roots(), range, &mut stale);
        }
        space.lose_pages(pages);
    }
}
