//! What an LDT's process sees of the stack pages, read back from the tables.

use super::*;
use crate::Isolation;
use crate::host::{Memory, setup};
use private::{DEFAULT_SLOT, GROUP_CPUS, LEAF, espfix_page};
use x86_64::structures::paging::FrameAllocator;

fn space(memory: &mut Memory) -> (Isolation, AddressSpace) {
    let setup = setup(memory.allocate_pair().expect("memory"));
    // SAFETY: no CPU runs on these tables.
    let isolation = unsafe { Isolation::new(&setup, memory) }.expect("entry area");
    let space = AddressSpace::new(&isolation, memory).expect("memory");
    let ldt = Ldt::new(1, memory).expect("memory");
    // SAFETY: nobody else uses the address space.
    let retired = unsafe { space.set_ldt(Some(ldt), memory) }.expect("memory");
    assert!(retired.is_nothing());
    (isolation, space)
}

fn leaf(memory: &Memory, space: &AddressSpace, address: u64) -> u64 {
    let level_3 = space.private().level_3().expect("there is an LDT");
    tables::leaf(level_3, address, memory).map_or(0, |leaf| leaf.load(Ordering::Relaxed))
}

#[test]
fn a_stack_page_is_at_each_of_its_addresses_and_nowhere_else() {
    let mut memory = Memory::new();
    let (mut isolation, space) = space(&mut memory);
    for cpu in [0, 5, 5 + GROUP_CPUS, 511] {
        let stack = memory.allocate_frame().expect("memory");
        let page = espfix_page(DEFAULT_SLOT, isolation.private_random, cpu);
        isolation.make_group(cpu, &mut memory).expect("memory");
        let group = isolation.add_espfix(cpu, stack, &memory);
        space.private().show_stack_pages(page, group);
        let expected = stack.start_address().as_u64() | LEAF;
        for bits in (0..=0xffff).step_by(0x101) {
            let address = page | bits << 16;
            assert_eq!(leaf(&memory, &space, address), expected, "CPU {cpu}, {address:#x}");
            assert_eq!(leaf(&memory, &space, address ^ 0xf000), 0, "a CPU that is not up");
        }
    }
    let ldt = space.ldt_address().expect("there is an LDT");
    assert_ne!(leaf(&memory, &space, ldt), 0, "the LDT is where it was");
}

#[test]
fn the_groups_tables_are_everyones_and_stay() {
    let mut memory = Memory::new();
    let (mut isolation, space) = space(&mut memory);
    let before = memory.live;
    let stack = memory.allocate_frame().expect("memory");
    isolation.make_group(3, &mut memory).expect("memory");
    let group = isolation.add_espfix(3, stack, &memory);
    let page = espfix_page(DEFAULT_SLOT, isolation.private_random, 3);
    space.private().show_stack_pages(page, group);
    assert_eq!(memory.live, before + 3, "the stack page and two tables");
    // SAFETY: no CPU runs on it.
    unsafe { space.release(&mut memory) };
    // The pair, three tables and the LDT.
    assert_eq!(memory.live, before + 3 - 2 - 3 - 1);
}
