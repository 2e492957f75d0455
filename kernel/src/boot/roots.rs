//! The kernel's own root: what every process's kernel half is copied from.
//!
//! ```text
//! one or two slots  direct map: RAM, NX; and the interrupt controllers' pages, uncached
//! one or two slots  task stacks: empty tables that fill later
//! slot 511          the image: text RX, constants R, data RW; and room for the entry area
//! ```
//!
//! Invariants: no page is both writable and executable. Nothing here is global: a global translation
//! of the kernel's would outlive the switch to a user root. The root's address is a multiple of
//! 8 KiB, as if it had a user root beside it: the paranoid entries clear that bit.

use super::info::BootInfo;
use super::memory::end_of_ram;
use crate::mm::layout::{STACKS_BYTES, direct, direct_map, image_physical, stacks};
use crate::sync::Once;
use ringwall::core::paging::{HUGE, KERNEL_TABLE, NO_EXECUTE, PRESENT, WRITABLE, index};
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

const LARGE: u64 = 2 << 20;
/// Page-level cache disable: device registers.
const UNCACHED: u64 = 1 << 4;
/// I/O APIC and local APIC (the firmware's default places).
const DEVICES: [u64; 2] = [0xfec0_0000, 0xfee0_0000];

unsafe extern "C" {
    static image_text: u8;
    static image_text_end: u8;
    static image_rodata: u8;
    static image_rodata_end: u8;
    static image_data: u8;
    static image_end: u8;
}

static ROOT: Once<u64> = Once::new();

/// Physical address of the kernel's root.
pub fn kernel_root() -> u64 {
    *ROOT.get().expect("the kernel's root is made at boot")
}

fn table(physical: u64) -> &'static mut [u64; 512] {
    // SAFETY: a frame made by `new_table` below and not yet walked by the CPU, used by one borrow
    // at a time during boot; the direct map reaches it.
    unsafe { &mut *direct(physical).cast() }
}

fn new_frames(order: u8) -> u64 {
    let frame = crate::mm::frame::allocate(order).expect("no memory for the kernel's page tables");
    // SAFETY: the frames are ours alone.
    unsafe { direct(frame).write_bytes(0, 4096 << order) };
    frame
}

fn next(entry: &mut u64) -> &'static mut [u64; 512] {
    if *entry & PRESENT == 0 {
        *entry = new_frames(0) | KERNEL_TABLE;
    }
    table(*entry & ringwall::core::paging::ADDRESS_MASK)
}

fn map(root: u64, virtual_address: u64, leaf: u64, large: bool) {
    let level_3 = next(&mut table(root)[index(4, virtual_address)]);
    let level_2 = next(&mut level_3[index(3, virtual_address)]);
    let entry = &mut level_2[index(2, virtual_address)];
    if large {
        *entry = leaf | HUGE;
    } else {
        next(entry)[index(1, virtual_address)] = leaf;
    }
}

/// Makes the kernel's root and loads it.
pub fn make(info: &BootInfo) {
    let root = new_frames(1);
    let writable = PRESENT | WRITABLE | NO_EXECUTE;
    let ram = (0..end_of_ram(info).max(LARGE)).step_by(LARGE as usize);
    for physical in ram.filter(|physical| !DEVICES.contains(physical)) {
        map(root, direct_map() + physical, physical | writable, true);
    }
    for physical in DEVICES {
        map(root, direct_map() + physical, physical | writable | UNCACHED, false);
    }
    for (start, end, flags) in [
        (&raw const image_text, &raw const image_text_end, PRESENT),
        (&raw const image_rodata, &raw const image_rodata_end, PRESENT | NO_EXECUTE),
        (&raw const image_data, &raw const image_end, writable),
    ] {
        for address in (start.addr() as u64..end.addr() as u64).step_by(4096) {
            map(root, address, image_physical(address) | flags, false);
        }
    }
    for address in [stacks(), stacks() + STACKS_BYTES - 1] {
        next(&mut table(root)[index(4, address)]);
    }
    ROOT.call_once(|| root);
    let frame = PhysFrame::containing_address(PhysAddr::new(root));
    // SAFETY: maps the running code, its stack (in the image's data) and all memory in use.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}
