//! A process's pair of roots.
//!
//! ```text
//! 8 KiB aligned  +0x0000  kernel root: user half with NX | all of the kernel half
//!                +0x1000  user root:   user half         | slot 511: the entry area's own tables
//! ```
//!
//! Both roots point to the same lower tables of the user half. With isolation off there is one root,
//! without NX.
//!
//! Invariant: the user half of both roots names the same tables; of the other entries, only the private
//! slot ([`crate::ldt`]) ever changes, in both roots alike.

use crate::breaks::Break;
use crate::frames::Frames;
use crate::isolation::Isolation;
use crate::ldt::Private;
use crate::tables::{self, MapError, Table};
use core::sync::atomic::{AtomicBool, Ordering};
use ringwall_core::paging::{ACCESSED, ADDRESS_MASK, GLOBAL, HUGE, PRESENT, USER, WRITABLE, index};
use ringwall_core::root::{RootPair, USER_HALF, user_half_entries};
use ringwall_core::tlb::{Pages, Space};
use x86_64::PhysAddr;
use x86_64::structures::paging::{Page, PageTableFlags, PhysFrame};

/// Both roots of one process.
#[derive(Debug)]
pub struct AddressSpace {
    frame: PhysFrame,
    kernel: &'static Table,
    user: Option<&'static Table>,
    roots: RootPair,
    private: Private,
    /// Ring 3 may run under the kernel root.
    open: AtomicBool,
    pub(crate) tlb: Space,
}

impl AddressSpace {
    /// A pair of roots with an empty user half.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    pub fn new(isolation: &Isolation, frames: &mut impl Frames) -> Result<AddressSpace, MapError> {
        let frame = match isolation.isolated() {
            true => frames.allocate_pair(),
            false => frames.allocate_frame(),
        };
        let frame = frame.ok_or(MapError::NoFrame)?;
        let kernel = tables::table(frames, frame);
        clear(frames, frame);
        for &(slot, entry) in isolation.kernel_entries() {
            kernel[slot].store(entry, Ordering::Relaxed);
        }
        let user = isolation.user_entry().map(|(slot, entry)| {
            clear(frames, frame + 1);
            let user = tables::table(frames, frame + 1);
            user[slot].store(entry, Ordering::Relaxed);
            user
        });
        let physical = frame.start_address().as_u64();
        let roots =
            if user.is_some() { RootPair::new(physical) } else { RootPair::single(physical) };
        Ok(AddressSpace {
            frame,
            roots: roots.expect("frames are aligned, pairs to their size"),
            kernel,
            user,
            private: Private::new(isolation.private_slot, isolation.private_random),
            open: AtomicBool::new(false),
            tlb: Space::new(isolation.next_space()),
        })
    }

    /// What it has in the private slot.
    #[inline(always)]
    pub(crate) fn private(&self) -> &Private {
        &self.private
    }

    /// Sets the private slot in both roots.
    pub(crate) fn set_private_entry(&self, slot: usize, entry: u64) {
        for root in [Some(self.kernel), self.user].into_iter().flatten() {
            root[slot].store(entry, Ordering::Release);
        }
    }

    /// Physical address of the kernel root.
    pub fn kernel_root(&self) -> PhysFrame {
        self.frame
    }

    /// Physical address of the root that ring 3 runs under: without isolation the kernel root's.
    pub fn user_root(&self) -> u64 {
        self.roots.user_cr3(self.user.is_some())
    }

    pub(crate) fn roots(&self) -> RootPair {
        self.roots
    }

    /// The level-3 table of top-level slot `index` (0 to 255) of the user half.
    ///
    /// # Panics
    /// If `index` is not in the user half.
    pub fn user_table(&self, index: usize) -> Option<PhysFrame> {
        assert!(USER_HALF.contains(&index), "top-level slot {index} is not in the user half");
        let entry = self.kernel[index].load(Ordering::Relaxed);
        let address = PhysAddr::new(entry & ADDRESS_MASK);
        (entry & PRESENT != 0).then(|| PhysFrame::containing_address(address))
    }

    /// Sets top-level slot `index` (0 to 255) of the user half, in both roots. Below it, the kernel's
    /// page tables are its own affair, and change in both views at once.
    ///
    /// Gives what has to be retired ([`AddressSpace::retire`]) if a table was taken out: the slot's first address. The
    /// caller knows which others it has unmapped.
    ///
    /// # Panics
    /// If `index` is not in the user half.
    ///
    /// # Safety
    /// `table` is a level-3 page table that maps user memory only, and stays one while it is here. No other
    /// CPU changes the same slot at the same time.
    pub unsafe fn set_user_table(&self, index: usize, table: Option<PhysFrame>) -> Pages {
        assert!(USER_HALF.contains(&index), "top-level slot {index} is not in the user half");
        let entry = match table {
            Some(table) => table.start_address().as_u64() | PRESENT | WRITABLE | USER | ACCESSED,
            None => 0,
        };
        let old = self.kernel[index].load(Ordering::Relaxed);
        match self.user {
            Some(user) => {
                let halves = user_half_entries(entry);
                let executable = self.is_open() || Break::UserHalfNx.is_on();
                let kernel = if executable { entry } else { halves.kernel };
                self.kernel[index].store(kernel, Ordering::Release);
                user[index].store(halves.user, Ordering::Release);
            }
            None => self.kernel[index].store(entry, Ordering::Release),
        }
        let mut pages = Pages::NONE;
        if old & PRESENT != 0 {
            pages.add_table((index as u64) << 39);
        }
        pages
    }

    /// Whether ring 3 may run under the kernel root.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Switches isolation off for this address space: the kernel root's user half gets executable, so that threads
    /// may run there by [`Way::Open`](crate::Way). Those that go on by [`Way::Isolated`](crate::Way) may, too. Needs no
    /// flush: whatever CPU still knows NX of a page faults on it, and then knows no more.
    ///
    /// # Panics
    /// Without two roots: then there is nothing to switch off.
    ///
    /// # Safety
    /// No other CPU calls this, [`AddressSpace::close`] or [`AddressSpace::set_user_table`] for it at the same time.
    pub unsafe fn open(&self) {
        let user = self.user.expect("without isolation no address space can be opened");
        self.open.store(true, Ordering::Release);
        for slot in USER_HALF {
            let entry = user[slot].load(Ordering::Relaxed);
            if entry & PRESENT != 0 {
                self.kernel[slot].store(entry, Ordering::Release);
            }
        }
    }

    /// Switches isolation on again. From now on a thread that still goes on by [`Way::Open`](crate::Way) faults on its
    /// first fetch, as soon as what this gives was retired ([`AddressSpace::retire`]) everywhere. So its threads have to
    /// be told before: what such a fault ends in is [`set_way`](crate::set_way).
    ///
    /// # Panics
    /// Without two roots.
    ///
    /// # Safety
    /// As [`AddressSpace::open`].
    pub unsafe fn close(&self) -> Pages {
        let user = self.user.expect("without isolation no address space can be opened");
        self.open.store(false, Ordering::Release);
        for slot in USER_HALF {
            let entry = user[slot].load(Ordering::Relaxed);
            if entry & PRESENT != 0 {
                let closed = match Break::StaysExecutable.is_on() {
                    true => entry,
                    false => user_half_entries(entry).kernel,
                };
                self.kernel[slot].store(closed, Ordering::Release);
            }
        }
        Pages::ALL
    }

    /// Maps one page of user memory; makes the tables above it. For kernels that need no more than that.
    ///
    /// # Errors
    /// [`MapError`]: out of frames, mapped already, below a large page, or not in the user half
    /// ([`MapError::NotMapped`]).
    ///
    /// # Safety
    /// `frame` is memory that user mode may access as `flags` say. No other CPU maps into this address
    /// space at the same time.
    pub unsafe fn map_user(
        &self,
        page: Page,
        frame: PhysFrame,
        flags: PageTableFlags,
        frames: &mut impl Frames,
    ) -> Result<(), MapError> {
        let address = page.start_address().as_u64();
        let top = index(4, address);
        if !USER_HALF.contains(&top) {
            return Err(MapError::NotMapped(address));
        }
        if self.user_table(top).is_none() {
            let table = tables::zeroed(frames)?;
            // SAFETY: an empty table, ours alone.
            let stale = unsafe { self.set_user_table(top, Some(table)) };
            debug_assert!(stale.is_empty(), "the slot was empty");
        }
        let Some(mut level) = self.user_table(top) else { return Err(MapError::NoFrame) };
        for depth in [3, 2] {
            level = user_level(level, depth, address, frames)?;
        }
        let slot = &tables::table(frames, level)[index(1, address)];
        if slot.load(Ordering::Relaxed) & PRESENT != 0 {
            return Err(MapError::AlreadyMapped(address));
        }
        let leaf = frame.start_address().as_u64() | flags.bits() | PRESENT | USER;
        slot.store(leaf & !(HUGE | GLOBAL), Ordering::Release);
        Ok(())
    }

    /// Gives the pair back, and the LDT if there is one. Lower tables of the user half are the kernel's, and
    /// must have been freed by it.
    ///
    /// # Safety
    /// No CPU has either root loaded or will load it: not as CR3, not as the value to leave with.
    pub unsafe fn release(self, frames: &mut impl Frames) {
        assert!(
            self.tlb.loaded().is_empty(),
            "a root pair is given back while CPUs have it in CR3"
        );
        self.private.release(frames);
        match self.user {
            // SAFETY: it came from `allocate_pair`; by this function's contract nothing refers to it.
            Some(_) => unsafe { frames.free_pair(self.frame) },
            // SAFETY: it came from `allocate_frame`; by this function's contract nothing refers to it.
            None => unsafe { frames.free(self.frame) },
        }
    }
}

fn clear(frames: &impl Frames, frame: PhysFrame) {
    // SAFETY: the frame was just allocated and nothing refers to it; it has 4096 bytes.
    unsafe { frames.pointer(frame).write_bytes(0, 4096) };
}

fn user_level(
    table: PhysFrame,
    level: u8,
    address: u64,
    frames: &mut impl Frames,
) -> Result<PhysFrame, MapError> {
    let slot = &tables::table(frames, table)[index(level, address)];
    let entry = slot.load(Ordering::Relaxed);
    if entry & PRESENT != 0 {
        if entry & HUGE != 0 {
            return Err(MapError::LargePage(address));
        }
        return Ok(PhysFrame::containing_address(PhysAddr::new(entry & ADDRESS_MASK)));
    }
    let frame = tables::zeroed(frames)?;
    let bits = PRESENT | WRITABLE | USER | ACCESSED;
    slot.store(frame.start_address().as_u64() | bits, Ordering::Release);
    Ok(frame)
}
