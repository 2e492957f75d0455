//! Ranges of the kernel's own memory that it shows to ring 3, and takes back.

use crate::host::Memory;
use crate::machine::{KERNEL_PAGE, Machine};
use ringwall::core::paging::{ADDRESS_MASK, NO_EXECUTE, PRESENT, WRITABLE, index};
use ringwall::isolation::MapSharedError;
use ringwall::{AddressSpace, Frames, MapError};
use std::cell::Cell;
use std::ptr::NonNull;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

#[test]
fn a_shared_range_comes_and_goes_with_the_rights_of_the_whole_walk() {
    let mut machine = Machine::new();
    let frame = machine.map_kernel_page(PRESENT | WRITABLE | NO_EXECUTE);
    let mut isolation = machine.isolation(true);
    let before = machine.visible(&isolation);
    // SAFETY: the kernel page stays.
    unsafe { isolation.map_shared(KERNEL_PAGE, 4096, &mut machine.memory) }.expect("shared");
    let leaf = machine.visible(&isolation)[&KERNEL_PAGE];
    assert_eq!(leaf & ADDRESS_MASK, frame);
    assert_eq!(leaf & WRITABLE, 0, "the level above it is read-only");
    assert_ne!(leaf & NO_EXECUTE, 0);
    assert_eq!(isolation.shared_ranges().count(), 1);
    let flush = isolation.unmap_shared(KERNEL_PAGE, 4096, &machine.memory).expect("was shared");
    assert_eq!(flush.pages().count(), 1);
    flush.done();
    assert_eq!(machine.visible(&isolation), before);
    assert_eq!(isolation.shared_ranges().count(), 0);
}

#[test]
#[should_panic(expected = "what was shared is still readable")]
fn a_shared_range_that_nobody_flushes_is_noticed() {
    let mut machine = Machine::new();
    machine.map_kernel_page(PRESENT);
    let mut isolation = machine.isolation(true);
    // SAFETY: the kernel page stays.
    unsafe { isolation.map_shared(KERNEL_PAGE, 4096, &mut machine.memory) }.expect("shared");
    let _ = isolation.unmap_shared(KERNEL_PAGE, 4096, &machine.memory);
}

#[test]
fn a_range_that_is_not_mapped_whole_is_not_shared_at_all() {
    let mut machine = Machine::new();
    machine.map_kernel_page(PRESENT | WRITABLE);
    let mut isolation = machine.isolation(true);
    let before = machine.visible(&isolation);
    // SAFETY: nothing gets shared.
    let shared = unsafe { isolation.map_shared(KERNEL_PAGE, 8192, &mut machine.memory) };
    assert_eq!(shared, Err(MapSharedError::Map(MapError::NotMapped(KERNEL_PAGE + 4096))));
    assert_eq!(machine.visible(&isolation), before);
    assert_eq!(isolation.shared_ranges().count(), 0);
}

/// Memory that looks at each access whether a user root shows [`KERNEL_PAGE`].
struct Watched<'a> {
    memory: &'a mut Memory,
    user_root: u64,
    seen: Cell<bool>,
}

impl Watched<'_> {
    fn look(&self) {
        let mut table = self.user_root;
        for level in (1..=4).rev() {
            // SAFETY: a word of a table in the test's memory.
            let entry = unsafe { *self.memory.word(table + index(level, KERNEL_PAGE) as u64 * 8) };
            if entry & PRESENT == 0 {
                return;
            }
            table = entry & ADDRESS_MASK;
        }
        self.seen.set(true);
    }
}

// SAFETY: the host's memory does it.
unsafe impl FrameAllocator<Size4KiB> for Watched<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        self.look();
        self.memory.allocate_frame()
    }
}

// SAFETY: as above.
unsafe impl Frames for Watched<'_> {
    fn allocate_pair(&mut self) -> Option<PhysFrame> {
        self.memory.allocate_pair()
    }
    unsafe fn free(&mut self, frame: PhysFrame) {
        // SAFETY: the caller's promise.
        unsafe { self.memory.free(frame) };
    }
    unsafe fn free_pair(&mut self, first: PhysFrame) {
        // SAFETY: the caller's promise.
        unsafe { self.memory.free_pair(first) };
    }
    fn pointer(&self, frame: PhysFrame) -> NonNull<u8> {
        self.look();
        self.memory.pointer(frame)
    }
}

/// What was shown for a moment may be in a TLB, and an error tells nobody to flush.
#[test]
fn what_cannot_be_shared_whole_is_not_shown_for_a_moment() {
    let mut machine = Machine::new();
    machine.map_kernel_page(PRESENT | WRITABLE);
    let mut isolation = machine.isolation(true);
    let space = AddressSpace::new(&isolation, &mut machine.memory).expect("memory");
    let user_root = space.user_root() & ADDRESS_MASK;
    let mut watched = Watched { memory: &mut machine.memory, user_root, seen: Cell::new(false) };
    // SAFETY: nothing gets shared.
    let refused = unsafe { isolation.map_shared(KERNEL_PAGE, 8192, &mut watched) };
    assert!(refused.is_err() && !watched.seen.get());
    // SAFETY: the kernel page stays.
    unsafe { isolation.map_shared(KERNEL_PAGE, 4096, &mut watched) }.expect("shared");
    watched.look();
    assert!(watched.seen.get());
}
