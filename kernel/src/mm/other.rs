//! The memory of a process by another one: tracers, process_vm_readv.

use super::fault::{Access, Fault, provide};
use super::layout::USER_END;
use super::page::{PAGE, Page};
use super::space::Space;
use super::{Mm, table};
use core::sync::atomic::Ordering::Relaxed;

impl Mm {
    /// The page that the program has at `address`, made present as if it had read there itself, to be read.
    ///
    /// `force`: whatever the region's rights are.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn page_for_other(&self, address: u64, force: bool) -> Result<Page, Fault> {
        self.page(&mut self.space.lock(), address, Access::Read, force)
    }

    /// Writes `bytes`, inside one page, as if the program had done it itself: to a page of its own, not shared with whom
    /// it was forked from. All of it under the lock, so that a fork sees it whole or not at all, and a page that is
    /// copied on write meanwhile is copied before or after.
    ///
    /// `force`: whatever the region's rights are. A tracer writes breakpoints into code, in a copy of the program's own; so
    /// not where writes would be seen by others.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn write_for_other(&self, address: u64, bytes: &[u8], force: bool) -> Result<(), Fault> {
        let mut space = self.space.lock();
        let page = self.page(&mut space, address, Access::Write, force)?;
        page.write((address % PAGE) as usize, bytes);
        Ok(())
    }

    fn page(
        &self,
        space: &mut Space,
        address: u64,
        access: Access,
        force: bool,
    ) -> Result<Page, Fault> {
        if address >= USER_END {
            return Err(Fault::NotMapped);
        }
        let address = address & !(PAGE - 1);
        let write = access == Access::Write;
        let region = space.regions.find(address).ok_or(Fault::NotMapped)?;
        let mapping = &region.attributes;
        let allowed = access.is_allowed(mapping.protection);
        if !allowed && (!force || write && mapping.is_shared()) {
            return Err(Fault::Denied);
        }
        let ready = |entry: u64| entry != 0 && (!write || table::is_writable(entry));
        let present = table::slot(self.roots(), address).map_or(0, |slot| slot.load(Relaxed));
        if !ready(present) {
            space.resident += provide(self.roots(), region, address, write)?;
        }
        let entry = table::slot(self.roots(), address).ok_or(Fault::NotMapped)?.load(Relaxed);
        // SAFETY: the entry holds it, and the address space is locked.
        Ok(unsafe { Page::of_entry(table::frame_of(entry)) })
    }
}
