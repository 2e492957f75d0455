//! A machine whose tables the library makes in a host's memory, and what they show, read back.

use crate::host::{Memory, setup};
use ringwall::core::paging::{ADDRESS_MASK, GLOBAL, NO_EXECUTE, PRESENT, USER, WRITABLE, index};
use ringwall::{
    AddressSpace, Cpu, DoubleFault, Frame, Frames, Handlers, Isolation, Setup, SetupError, Stacks,
};
use std::collections::BTreeMap;
use x86_64::VirtAddr;
use x86_64::structures::paging::{FrameAllocator, PhysFrame};

/// Where the kernel of these tests has a page that it may share.
pub const KERNEL_PAGE: u64 = 0xffff_ffff_8010_0000;

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

pub struct Machine {
    pub memory: Memory,
    pub root: PhysFrame,
}

impl Machine {
    pub fn new() -> Machine {
        let mut memory = Memory::new();
        let root = memory.allocate_pair().expect("memory");
        Machine { memory, root }
    }

    pub fn setup(&self, isolate: bool) -> Setup<'static> {
        Setup { random: 0x1234_5678_9abc_def0, isolate, user_vectors: &[3], ..setup(self.root) }
    }

    /// Maps [`KERNEL_PAGE`] with `flags` in the kernel root, the level above it without WRITABLE.
    pub fn map_kernel_page(&mut self, flags: u64) -> u64 {
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

    pub fn isolation(&mut self, isolate: bool) -> Isolation {
        // SAFETY: no CPU runs on these tables.
        unsafe { Isolation::new(&self.setup(isolate), &mut self.memory) }.expect("entry area")
    }

    pub fn add_cpu(&mut self, isolation: &mut Isolation, index: usize) -> Result<(), SetupError> {
        self.make_cpu(isolation, index).map(drop)
    }

    pub fn make_cpu(&mut self, isolation: &mut Isolation, index: usize) -> Result<Cpu, SetupError> {
        let stack = VirtAddr::new(0xffff_8000_0000_4000);
        let stacks = Stacks {
            nmi: stack,
            debug: stack,
            machine_check: stack,
            double_fault: stack,
            bytes: 4096,
        };
        // SAFETY: no CPU will use them.
        unsafe { isolation.make_cpu::<NoHandlers>(index, &stacks, [0; 4], &mut self.memory) }
    }

    /// Every 4 KiB leaf below `root`: address to entry, rights combined over all levels.
    pub fn leaves(&self, root: u64) -> BTreeMap<u64, u64> {
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

    pub fn visible(&mut self, isolation: &Isolation) -> BTreeMap<u64, u64> {
        let space = AddressSpace::new(isolation, &mut self.memory).expect("memory");
        self.leaves(space.user_root() & ADDRESS_MASK)
    }
}
