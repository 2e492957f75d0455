//! A made-up guest that does everything right, for tests that then do one thing wrong.
//!
//! ```text
//!   user root     program    text IDT GDT+TSS stacks
//!   kernel root   program NX text IDT GDT+TSS stacks'   direct map   image   a task stack
//! ```

use crate::cpu::Cpu;
use crate::document::Audit;
use crate::names::symbols::Symbols;
use crate::synthetic::{Guest, LARGE, NX, P, U, W};
use crate::{PhysicalMemory, Subject, USER_ROOT, look};

pub const KERNEL: u64 = Guest::ROOT;
pub const USER: u64 = Guest::ROOT | USER_ROOT;
pub const PROGRAM: u64 = 0x40_0000;
pub const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
pub const TASK_STACK: u64 = 0xffff_c900_0001_0000;
/// Two pages of text, two of data.
pub const IMAGE: u64 = 0xffff_ffff_8000_0000;
pub const TEXT: u64 = 0xffff_ff80_f000_0000;
pub const IDT: u64 = TEXT + 0x1000;
pub const GDT: u64 = TEXT + 0x2000;
pub const TSS: u64 = GDT + 0x100;
pub const STACKS: u64 = TEXT + 0x3000;
pub const RSP0: u64 = STACKS + 0x800;

/// Physical addresses.
pub const IDT_AT: u64 = 0x2_1000;
pub const GDT_AT: u64 = 0x2_2000;
pub const TSS_AT: u64 = GDT_AT + 0x100;
pub const STACKS_AT: u64 = 0x2_3000;
pub const TEXT_AT: u64 = 0x2_0000;
pub const IMAGE_AT: u64 = 0x1_0000;
pub const TASK_STACK_AT: u64 = 0x3_0000;

pub fn guest() -> Guest {
    let mut guest = Guest::new();
    guest.map(USER, PROGRAM, 0x8000, P | U | W);
    let programs = guest.table_of(USER, PROGRAM, 3);
    guest.change(KERNEL, 0, |_| programs | P | W | U | NX);
    let directory = guest.table_of(KERNEL, DIRECT_MAP, 2);
    for page in 0..2 {
        guest.change(directory, page, |_| page << 21 | P | W | NX | LARGE);
    }
    for page in 0..4 {
        let flags = if page < 2 { P } else { P | W | NX };
        guest.map(KERNEL, IMAGE + page * 0x1000, IMAGE_AT + page * 0x1000, flags);
        guest.map(KERNEL, TASK_STACK + page * 0x1000, TASK_STACK_AT + page * 0x1000, P | W | NX);
    }
    let pages = [(TEXT, TEXT_AT, P), (IDT, IDT_AT, P | NX), (GDT, GDT_AT, P | NX)];
    for root in [KERNEL, USER] {
        for (address, physical, flags) in pages {
            guest.map(root, address, physical, flags);
        }
    }
    guest.map(USER, STACKS, STACKS_AT, P | W | NX);
    guest.map(KERNEL, STACKS, STACKS_AT + 0x1000, P | W | NX);

    for vector in 0..32 {
        let stack = [(2, 1), (8, 2)].iter().find(|(with, _)| *with == vector);
        gate(&mut guest, IDT_AT, vector, TEXT + 16 * vector, stack.map_or(0, |(_, stack)| *stack));
    }
    for (index, descriptor) in [0, 0xaf_9b00_0000_ffff, 0xcf_9300_0000_ffff].iter().enumerate() {
        guest.write(GDT_AT + 8 * index as u64, *descriptor);
    }
    system_descriptor(&mut guest, GDT_AT + 0x28, 0x8b, TSS);
    guest.write(TSS_AT + 4, RSP0);
    guest.write(TSS_AT + 36, STACKS + 0x400);
    guest.write(TSS_AT + 44, STACKS + 0x200);
    // What took this very program to where it is.
    for (offset, word) in
        [(40, PROGRAM + 0x123), (32, 0x33), (24, 0x202), (16, 0x40_0ff0), (8, 0x2b)]
    {
        guest.write(STACKS_AT + 0x800 - offset, word);
    }
    guest
}

/// Writes an interrupt gate to the IDT at a physical address.
pub fn gate(guest: &mut Guest, idt: u64, vector: u64, target: u64, stack: u64) {
    let low = (target & 0xffff) | (0x8 << 16) | (stack << 32) | (0x8e << 40);
    guest.write(idt + 16 * vector, low | ((target & 0xffff_0000) << 32));
    guest.write(idt + 16 * vector + 8, target >> 32);
}

/// Writes the descriptor of a TSS or an LDT.
pub fn system_descriptor(guest: &mut Guest, at: u64, kind: u64, base: u64) {
    let low = 0x67 | ((base & 0xff_ffff) << 16) | (kind << 40) | ((base & 0xff00_0000) << 32);
    guest.write(at, low);
    guest.write(at + 8, base >> 32);
}

/// CPU 0 in ring 3, with CR4.PAE, PGE and SMEP.
pub fn cpu() -> Cpu {
    let table = |base, limit| crate::cpu::Table { base, limit };
    Cpu {
        index: 0,
        cpl: 3,
        rip: PROGRAM + 0x123,
        rsp: 0x40_0ff0,
        cr0: 0x8005_0033,
        cr3: USER,
        cr4: 0x10_00a0,
        idt: table(IDT, 0x1ff),
        gdt: table(GDT, 0x37),
        tss: table(TSS, 0x67),
        ..Cpu::default()
    }
}

pub fn audit(guest: &Guest, cpus: &[Cpu]) -> Audit {
    audit_with(guest, cpus, None)
}

pub fn audit_with(guest: &Guest, cpus: &[Cpu], symbols: Option<&Symbols>) -> Audit {
    audit_of(&guest.memory(), cpus, symbols)
}

pub fn audit_of(memory: &dyn PhysicalMemory, cpus: &[Cpu], symbols: Option<&Symbols>) -> Audit {
    let (source, progress) = ("made up".into(), &|_, _| {});
    let subject = Subject { memory, cpus, source, kernel_cr3: None, symbols, progress };
    look(&subject).expect("tables")
}
