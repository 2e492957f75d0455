//! Root pairs in a host's memory.

mod host;

use host::{Memory, setup};
use ringwall::core::tlb::Pages;
use ringwall::{AddressSpace, Frames, Isolation, MapError};
use x86_64::VirtAddr;
use x86_64::structures::paging::{FrameAllocator, Page, PageTableFlags};

const HUGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const NO_EXECUTE: u64 = 1 << 63;
const PRESENT_WRITABLE_USER: u64 = 7;

fn space(memory: &mut Memory) -> AddressSpace {
    let setup = setup(memory.allocate_pair().expect("memory"));
    // SAFETY: no CPU runs on these tables.
    let isolation = unsafe { Isolation::new(&setup, memory) }.expect("entry area");
    AddressSpace::new(&isolation, memory).expect("memory")
}

#[test]
fn a_large_page_is_not_taken_for_a_table() {
    let mut memory = Memory::new();
    let space = space(&mut memory);
    let level_3 = memory.allocate_frame().expect("memory");
    let level_2 = memory.allocate_frame().expect("memory");
    let large = memory.allocate_frame().expect("memory");
    let below = level_2.start_address().as_u64() | PRESENT_WRITABLE_USER;
    let leaf = large.start_address().as_u64() | PRESENT_WRITABLE_USER | HUGE;
    for (table, entry) in [(level_3, below), (level_2, leaf)] {
        // SAFETY: a word of a table that is this test's.
        unsafe { *memory.word(table.start_address().as_u64()) = entry };
    }
    // SAFETY: no CPU runs on these tables.
    let stale = unsafe { space.set_user_table(0, Some(level_3)) };
    assert!(stale.is_empty());
    let page = Page::containing_address(VirtAddr::new(0x5000));
    // SAFETY: no CPU runs on these tables.
    let mapped = unsafe { space.map_user(page, large, PageTableFlags::empty(), &mut memory) };
    assert_eq!(mapped, Err(MapError::LargePage(0x5000)));
    // SAFETY: a word of a frame that is this test's.
    assert_eq!(unsafe { *memory.word(large.start_address().as_u64() + 5 * 8) }, 0);
}

#[test]
fn no_user_page_is_global() {
    let mut memory = Memory::new();
    let space = space(&mut memory);
    let frame = memory.allocate_frame().expect("memory");
    let page = Page::containing_address(VirtAddr::new(0x5000));
    // SAFETY: no CPU runs on these tables.
    unsafe { space.map_user(page, frame, PageTableFlags::GLOBAL, &mut memory) }.expect("mapped");
    let mut table = space.user_table(0).expect("a table").start_address().as_u64();
    for entry in [0, 0, 5] {
        // SAFETY: a word of a table that `map_user` made.
        table = unsafe { *memory.word(table + entry * 8) };
        assert_eq!(table & GLOBAL, 0);
        table &= 0x000f_ffff_ffff_f000;
    }
    assert_eq!(table, frame.start_address().as_u64());
}

/// Top-level entries 0 and 1 of both roots.
fn halves(memory: &Memory, space: &AddressSpace) -> [[u64; 2]; 2] {
    let kernel = space.kernel_root().start_address().as_u64();
    // SAFETY: words of a pair that is this test's.
    [kernel, kernel + 4096].map(|root| [0, 8].map(|at| unsafe { *memory.word(root + at) }))
}

#[test]
fn only_an_open_address_space_is_executable_under_the_kernel_root() {
    let mut memory = Memory::new();
    let space = space(&mut memory);
    let tables = [0, 1].map(|_| memory.allocate_frame().expect("memory"));
    // SAFETY: no CPU runs on these tables.
    let stale = unsafe { space.set_user_table(0, Some(tables[0])) };
    assert!(stale.is_empty());
    let [closed, user] = halves(&memory, &space);
    assert_eq!((closed, user[0] | NO_EXECUTE), ([user[0] | NO_EXECUTE, 0], closed[0]));
    // SAFETY: as above.
    unsafe { space.open() };
    assert!(space.is_open());
    // SAFETY: as above.
    let stale = unsafe { space.set_user_table(1, Some(tables[1])) };
    assert!(stale.is_empty());
    let [kernel, user] = halves(&memory, &space);
    assert_eq!(kernel, user);
    assert_eq!(user.map(|entry| entry & NO_EXECUTE), [0, 0]);
    // SAFETY: as above.
    let stale = unsafe { space.close() };
    assert_eq!(stale, Pages::ALL, "rights were taken away, anywhere");
    assert!(!space.is_open());
    let [kernel, after] = halves(&memory, &space);
    assert_eq!((kernel, after), (user.map(|entry| entry | NO_EXECUTE), user));
    // SAFETY: as above.
    let stale = unsafe { space.set_user_table(0, None) };
    assert!(stale.tables(), "not a page of it: the table is gone");
}
