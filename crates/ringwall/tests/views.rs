//! What both views show, read back from the tables that the library made in a host's memory.

mod host;

use host::Memory;
use ringwall::core::area::MAX_CPUS;
use ringwall::core::exposed::visible_bytes;
use ringwall::core::hardening::Hardening;
use ringwall::core::paging::{ADDRESS_MASK, GLOBAL, NO_EXECUTE, PRESENT, USER, WRITABLE, index};
use ringwall::isolation::MapSharedError;
use ringwall::{
    AddressSpace, DoubleFault, Frame, Frames, Handlers, Isolation, MapError, Setup, SetupError,
    Stacks,
};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ptr::NonNull;
use x86_64::VirtAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};

/// Where the kernel of these tests has a page that it may share.
const KERNEL_PAGE: u64 = 0xffff_ffff_8010_0000;

struct NoHandlers;

impl Handlers for NoHandlers {
    fn syscall(_frame: &mut Frame) {}
    fn trap(_frame: &mut Frame) {}
    fn nmi(_frame: &mut Frame) {}
    fn debug(_frame: &mut Frame) {}
    fn machine_check(_frame: &mut Frame) {}
    fn double_fault(frame: &Frame, report: &DoubleFault) -> ! {
        panic!("{frame:?} {report:?}")
    }
}

struct Machine {
    memory: Memory,
    root: PhysFrame,
}

impl Machine {
    fn new() -> Machine {
        let mut memory = Memory::new();
        let root = memory.allocate_pair().expect("memory");
        Machine { memory, root }
    }

    fn setup(&self, isolate: bool) -> Setup<'static> {
        Setup {
            kernel_root: self.root,
            region: 0xffff_ffff_c000_0000..=0xffff_ffff_fffe_ffff,
            random: 0x1234_5678_9abc_def0,
            isolate,
            switchable: true,
            pcid: false,
            invpcid: false,
            hardening: Hardening::NONE,
            fsgsbase: false,
            sysret_keeps_ss: false,
            user_vectors: &[3],
            private_slot: ringwall::core::private::DEFAULT_SLOT,
        }
    }

    /// Maps [`KERNEL_PAGE`] with `flags` in the kernel root, the level above it without WRITABLE.
    fn map_kernel_page(&mut self, flags: u64) -> u64 {
        let mut table = self.root.start_address().as_u64();
        for level in [4, 3, 2] {
            let slot = self.memory.word(table + index(level, KERNEL_PAGE) as u64 * 8);
            // SAFETY: a word of a table that is this test's.
            let entry = unsafe { *slot };
            if entry & PRESENT == 0 {
                let next = self.memory.allocate_frame().expect("memory").start_address().as_u64();
                let rights = if level == 2 { PRESENT } else { PRESENT | WRITABLE };
                // SAFETY: as above.
                unsafe { *slot = next | rights };
                table = next;
            } else {
                table = entry & ADDRESS_MASK;
            }
        }
        let frame = self.memory.allocate_frame().expect("memory").start_address().as_u64();
        // SAFETY: as above.
        unsafe { *self.memory.word(table + index(1, KERNEL_PAGE) as u64 * 8) = frame | flags };
        frame
    }

    fn isolation(&mut self, isolate: bool) -> Isolation {
        // SAFETY: no CPU runs on these tables.
        unsafe { Isolation::new(&self.setup(isolate), &mut self.memory) }.expect("entry area")
    }

    fn add_cpu(&mut self, isolation: &mut Isolation, index: usize) -> Result<(), SetupError> {
        let stack = VirtAddr::new(0xffff_8000_0000_4000);
        let stacks = Stacks {
            nmi: stack,
            debug: stack,
            machine_check: stack,
            double_fault: stack,
            bytes: 4096,
        };
        // SAFETY: no CPU will use them.
        let cpu =
            unsafe { isolation.make_cpu::<NoHandlers>(index, &stacks, [0; 4], &mut self.memory) };
        cpu.map(drop)
    }

    /// Every 4 KiB leaf below `root`: address to entry, rights combined over all levels.
    fn leaves(&self, root: u64) -> BTreeMap<u64, u64> {
        let mut leaves = BTreeMap::new();
        self.walk(root, 4, 0, PRESENT | WRITABLE | USER, &mut leaves);
        leaves
    }

    fn walk(&self, table: u64, level: u8, base: u64, rights: u64, out: &mut BTreeMap<u64, u64>) {
        for slot in 0..512u64 {
            // SAFETY: a word of a table in the test's memory.
            let entry = unsafe { *self.memory.word(table + slot * 8) };
            if entry & PRESENT == 0 {
                continue;
            }
            let shift = 12 + 9 * (level - 1);
            let mut address = base | slot << shift;
            if level == 4 && slot >= 256 {
                address |= 0xffff << 48;
            }
            let rights = rights & entry | (rights | entry) & NO_EXECUTE;
            if level == 1 {
                out.insert(address, entry & (ADDRESS_MASK | GLOBAL) | rights);
            } else {
                // Only a leaf's bit 8 counts.
                let rights = rights & !GLOBAL;
                self.walk(entry & ADDRESS_MASK, level - 1, address, rights, out);
            }
        }
    }

    fn visible(&mut self, isolation: &Isolation) -> BTreeMap<u64, u64> {
        let space = AddressSpace::new(isolation, &mut self.memory).expect("memory");
        self.leaves(space.user_root() & ADDRESS_MASK)
    }
}

#[test]
fn the_user_view_is_the_exposed_set() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    for cpus in 1..=3 {
        machine.add_cpu(&mut isolation, cpus - 1).expect("a CPU");
        let visible = machine.visible(&isolation);
        assert_eq!(visible.len() as u64 * 4096, visible_bytes(cpus));
        for (address, leaf) in &visible {
            assert!(isolation.area().contains(*address));
            assert_eq!(leaf & USER, 0, "{address:#x}");
            assert!(leaf & WRITABLE == 0 || leaf & NO_EXECUTE != 0, "{address:#x} is W and X");
        }
    }
}

#[test]
fn the_views_split_where_the_exposed_set_says() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    machine.add_cpu(&mut isolation, 0).expect("a CPU");
    let visible = machine.visible(&isolation);
    let kernel = machine.leaves(machine.root.start_address().as_u64());
    let cpu = isolation.area().cpu(0).expect("CPU 0");
    for (address, row) in ringwall::core::exposed::pages(isolation.area(), cpu) {
        let frame =
            |leaves: &BTreeMap<u64, u64>| leaves.get(&address).map(|leaf| leaf & ADDRESS_MASK);
        match (frame(&visible), frame(&kernel)) {
            (Some(user), Some(kernel)) => assert_eq!(user != kernel, row.split, "{}", row.name),
            (None, Some(_)) => assert_eq!(row.user, ringwall::core::exposed::Access::Absent),
            other => panic!("{}: {other:?}", row.name),
        }
    }
    assert_eq!(
        kernel[&cpu.alias()] & ADDRESS_MASK,
        visible[&cpu.stack()] & ADDRESS_MASK,
        "the alias is the user view's stack page"
    );
}

/// Where a switch flushes, what is the same in both views need not go. Where PCID spares the flush, nothing is global.
#[test]
fn global_is_what_both_views_show_alike_where_there_is_no_pcid() {
    for (pcid, expected) in [(false, 2), (true, 0)] {
        let mut machine = Machine::new();
        let setup = Setup { pcid, ..machine.setup(true) };
        // SAFETY: no CPU runs on these tables.
        let isolation = unsafe { Isolation::new(&setup, &mut machine.memory) };
        let mut isolation = isolation.expect("entry area");
        machine.add_cpu(&mut isolation, 0).expect("a CPU");
        let kernel = machine.leaves(machine.root.start_address().as_u64());
        let visible = machine.visible(&isolation);
        let is_global = |leaf: &&u64| **leaf & GLOBAL != 0;
        assert_eq!(visible.values().filter(is_global).count(), expected, "PCID {pcid}");
        for (address, leaf) in kernel {
            let same = visible.get(&address).map(|shown| shown & (ADDRESS_MASK | GLOBAL));
            let split = same != Some(leaf & (ADDRESS_MASK | GLOBAL));
            assert!(leaf & GLOBAL == 0 || !split, "{address:#x} has two views");
        }
    }
}

#[test]
fn a_global_page_of_the_kernels_is_refused() {
    let mut machine = Machine::new();
    machine.map_kernel_page(PRESENT | WRITABLE | GLOBAL);
    // SAFETY: no CPU runs on these tables.
    let refused = unsafe { Isolation::new(&machine.setup(true), &mut machine.memory) }.err();
    assert_eq!(refused, Some(SetupError::GlobalPage(KERNEL_PAGE)));
    machine.isolation(false);
}

/// As many CPUs as the layout has room for, added in any order, show 8 KiB each and nothing in common.
#[test]
fn all_512_cpus_have_their_place() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    for index in 0..MAX_CPUS {
        // 5 has no factor in common with 512: every index once.
        machine.add_cpu(&mut isolation, index * 5 % MAX_CPUS).expect("a CPU");
    }
    let one_more = machine.add_cpu(&mut isolation, MAX_CPUS);
    assert_eq!(one_more, Err(SetupError::NoSuchCpu(MAX_CPUS)));
    let again = machine.add_cpu(&mut isolation, 77);
    assert!(matches!(again, Err(SetupError::Map(MapError::AlreadyMapped(_)))), "{again:?}");
    let visible = machine.visible(&isolation);
    assert_eq!(visible.len() as u64 * 4096, visible_bytes(MAX_CPUS));
    let area = isolation.area();
    let frames: BTreeSet<u64> = visible.values().map(|leaf| leaf & ADDRESS_MASK).collect();
    assert_eq!(frames.len(), visible.len(), "two of them share a frame");
    for cpu in (0..MAX_CPUS).map(|index| area.cpu(index).expect("room")) {
        assert!(visible.contains_key(&cpu.gdt()) && visible.contains_key(&cpu.stack()));
        assert!(!visible.contains_key(&cpu.alias()) && !visible.contains_key(&cpu.data()));
    }
}

/// Each CPU's counters are found from outside, and only those of CPUs that were made.
#[test]
fn a_cpu_that_was_made_has_counters() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    machine.add_cpu(&mut isolation, 2).expect("a CPU");
    let counted = |cpu| isolation.counters(cpu, &machine.memory);
    assert_eq!([0, 1, 3, 511, 512].map(counted), [None; 5]);
    let counters = counted(2).expect("CPU 2");
    assert_eq!(counters.cr3_writes(), 0);
    assert!(counters.nmis().all(|(_, count)| count == 0));
}

#[test]
fn no_visible_word_is_an_address_outside_the_area() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    machine.add_cpu(&mut isolation, 0).expect("a CPU");
    let area = isolation.area();
    for (address, leaf) in machine.visible(&isolation) {
        if address == area.text() || address == area.idt() {
            continue; // Code, and gates whose addresses are in pieces: tested below.
        }
        // Descriptors have their addresses in pieces; a TSS has its own at multiples of 4.
        let descriptors = if Some(address) == area.cpu(0).map(|cpu| cpu.gdt()) { 128 } else { 0 };
        for offset in (descriptors..4096 - 7).step_by(4) {
            let word = machine.memory.word((leaf & ADDRESS_MASK) + offset);
            // SAFETY: inside a frame of the test's.
            let value = unsafe { word.read_unaligned() };
            let kernel_half = value >= 0xffff_8000_0000_0000 && value != u64::MAX;
            assert!(!kernel_half || area.contains(value), "{address:#x}+{offset:#x}: {value:#x}");
        }
    }
}

/// Wherever the area is, and however the words are aligned.
#[test]
fn no_visible_bytes_read_as_a_pointer_to_kernel_only_pages() {
    for step in 0..200u64 {
        let mut machine = Machine::new();
        let random = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let setup = Setup { random, ..machine.setup(true) };
        // SAFETY: no CPU runs on these tables.
        let isolation = unsafe { Isolation::new(&setup, &mut machine.memory) };
        let mut isolation = isolation.expect("entry area");
        machine.add_cpu(&mut isolation, 0).expect("a CPU");
        let visible = machine.visible(&isolation);
        let kernel = machine.leaves(machine.root.start_address().as_u64());
        for (address, leaf) in &visible {
            for offset in 0..4096 - 7 {
                let word = machine.memory.word((leaf & ADDRESS_MASK) + offset);
                // SAFETY: inside a frame of the test's.
                let page = unsafe { word.read_unaligned() } & !0xfff;
                let hidden = kernel.contains_key(&page) && !visible.contains_key(&page);
                assert!(!hidden, "{address:#x}+{offset:#x} reads as an address in {page:#x}");
            }
        }
    }
}

#[test]
fn every_gate_leads_into_the_entry_text() {
    let mut machine = Machine::new();
    let isolation = machine.isolation(true);
    let area = isolation.area();
    let kernel = machine.leaves(machine.root.start_address().as_u64());
    for (idt, text) in [(area.idt(), area.text()), (area.open_idt(), area.open_text())] {
        for vector in 0..256u64 {
            let gate = (kernel[&idt] & ADDRESS_MASK) + vector * 16;
            // SAFETY: inside the IDT's frame.
            let [low, high] = [0, 8].map(|half| unsafe { *machine.memory.word(gate + half) });
            let target = low & 0xffff | low >> 32 & 0xffff_0000 | high << 32;
            assert_eq!(target & !0xfff, text, "vector {vector}");
            assert_eq!(low >> 45 & 3 == 3, vector == 3, "only the named are open to ring 3");
        }
    }
}

/// What an open process needs costs no visible byte, and without the wish for it nothing is there.
#[test]
fn the_open_text_is_in_no_user_root() {
    let mut machine = Machine::new();
    let isolation = machine.isolation(true);
    assert!(isolation.switchable());
    let open = [isolation.area().open_text(), isolation.area().open_idt()];
    let visible = machine.visible(&isolation);
    let kernel = machine.leaves(machine.root.start_address().as_u64());
    for page in open {
        assert!(!visible.contains_key(&page) && kernel.contains_key(&page), "{page:#x}");
        assert_eq!(kernel[&page] & WRITABLE, 0);
    }
    for (isolate, switchable) in [(true, false), (false, true)] {
        let mut machine = Machine::new();
        let setup = Setup { switchable, ..machine.setup(isolate) };
        // SAFETY: no CPU runs on these tables.
        let isolation = unsafe { Isolation::new(&setup, &mut machine.memory) }.expect("an area");
        assert!(!isolation.switchable());
        let kernel = machine.leaves(machine.root.start_address().as_u64());
        assert!(!kernel.contains_key(&isolation.area().open_text()));
    }
}

#[test]
fn without_isolation_there_is_one_root() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(false);
    machine.add_cpu(&mut isolation, 0).expect("a CPU");
    let space = AddressSpace::new(&isolation, &mut machine.memory).expect("memory");
    assert_eq!(space.user_root(), space.kernel_root().start_address().as_u64());
}

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

#[test]
fn a_cpu_for_which_there_was_no_memory_is_made_when_there_is() {
    for index in [0, 200] {
        for left in 0.. {
            let mut machine = Machine::new();
            let mut isolation = machine.isolation(true);
            let before = machine.visible(&isolation);
            let plenty = machine.memory.left;
            machine.memory.left = left;
            let made = machine.add_cpu(&mut isolation, index);
            if made.is_ok() {
                assert!(left > 4, "four pages were made of {left} frames");
                break;
            }
            assert_eq!(made, Err(SetupError::Map(MapError::NoFrame)));
            machine.memory.left = plenty;
            assert_eq!(machine.visible(&isolation), before, "with {left} frames");
            // The tables that it made by then stay, nothing else does.
            let live = machine.memory.live;
            machine.memory.left = 0;
            assert_eq!(machine.add_cpu(&mut isolation, index), made);
            assert_eq!(machine.memory.live, live, "with {left} frames");
            machine.memory.left = plenty;
            machine.add_cpu(&mut isolation, index).expect("a CPU");
            let twice = machine.add_cpu(&mut isolation, index);
            let page = isolation.area().cpu(index).expect("a place").gdt();
            assert_eq!(twice, Err(SetupError::Map(MapError::AlreadyMapped(page))));
        }
    }
}

#[test]
fn mistakes_in_the_setup_are_named() {
    let mut machine = Machine::new();
    let mut setup = machine.setup(true);
    setup.kernel_root += 1;
    let root = setup.kernel_root.start_address().as_u64();
    // SAFETY: no CPU runs on these tables.
    let unaligned = unsafe { Isolation::new(&setup, &mut machine.memory) }.err();
    assert_eq!(unaligned, Some(SetupError::RootNotAligned(root)));
    for vector in [1, 2, 8, 13, 14, 18] {
        let vectors = [3, vector];
        let setup = Setup { user_vectors: &vectors, ..machine.setup(true) };
        // SAFETY: no CPU runs on these tables.
        let refused = unsafe { Isolation::new(&setup, &mut machine.memory) }.err();
        assert_eq!(refused, Some(SetupError::BadUserVector(vector)));
    }
    // SAFETY: an entry of the test's own root.
    unsafe { *machine.memory.word(machine.root.start_address().as_u64() + 300 * 8) = PRESENT };
    for slot in [0, 255, 300, 511, 512] {
        let setup = Setup { private_slot: slot, ..machine.setup(true) };
        // SAFETY: no CPU runs on these tables.
        let refused = unsafe { Isolation::new(&setup, &mut machine.memory) }.err();
        assert_eq!(refused, Some(SetupError::PrivateSlot(slot)));
    }
    let mut isolation = machine.isolation(true);
    machine.add_cpu(&mut isolation, 0).expect("a CPU");
    assert!(matches!(machine.add_cpu(&mut isolation, 0), Err(SetupError::Map(_))), "twice");
    assert_eq!(machine.add_cpu(&mut isolation, 512), Err(SetupError::NoSuchCpu(512)));
}
