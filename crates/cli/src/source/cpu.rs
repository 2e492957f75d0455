//! Registers as an emulator tells them, as the CPU that the audit knows.

use ringwall_audit::cpu::{Cpu, Table};
use ringwall_emulator::Registers;

/// The same registers in the audit's terms.
pub fn cpu(registers: &Registers) -> Cpu {
    let table = |table: ringwall_emulator::Table| Table { base: table.base, limit: table.limit };
    Cpu {
        index: registers.index,
        cpl: registers.cpl,
        rip: registers.rip,
        rsp: registers.rsp,
        cr0: registers.cr0,
        cr3: registers.cr3,
        cr4: registers.cr4,
        efer: registers.efer,
        gs_base: registers.gs_base,
        kernel_gs_base: registers.kernel_gs_base,
        lstar: registers.lstar,
        idt: table(registers.idt),
        gdt: table(registers.gdt),
        tss: table(registers.tss),
        ldt: table(registers.ldt),
    }
}
