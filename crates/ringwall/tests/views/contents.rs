//! What the visible pages hold: no address that ring 3 should not know, and a block for the kernel to tell its CPU about.

use crate::machine::Machine;
use ringwall::core::paging::ADDRESS_MASK;
use ringwall::{Isolation, Setup, user_mapped};

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

user_mapped! {
    struct Block {
        word: u64,
    }
}

/// What the kernel writes through the alias is what the CPU finds under the user root.
#[test]
fn the_user_mapped_block_is_in_the_users_stack_page() {
    let mut machine = Machine::new();
    let mut isolation = machine.isolation(true);
    let cpu = machine.make_cpu(&mut isolation, 0).expect("a CPU");
    let (visible, root) = (machine.visible(&isolation), machine.root.start_address().as_u64());
    let (alias, address) = (cpu.user_mapped::<Block>() as u64, cpu.user_mapped_address::<Block>());
    let frame = |leaf: &u64| leaf & ADDRESS_MASK;
    let shown = visible.get(&(address & !0xfff)).map(frame);
    assert!(shown.is_some(), "{address:#x} is in no visible page");
    assert_eq!(shown, machine.leaves(root).get(&(alias & !0xfff)).map(frame));
    assert_eq!(alias % 4096, address % 4096);
}
