//! From a stopped guest to an audit.

use ringwall_audit::cpu::Cpu;
use ringwall_audit::document::Audit;
use ringwall_audit::{Subject, look};
use ringwall_emulator::{Guest, GuestMemory, Registers};

/// The registers of the first `count` CPUs of a stopped guest.
///
/// # Panics
///
/// When the monitor does not answer.
pub fn cpus(guest: &mut Guest, count: u32) -> Vec<Cpu> {
    (0..count)
        .map(|index| {
            let registers = guest.monitor.registers(index as usize);
            cpu(index, &registers.expect("registers"))
        })
        .collect()
}

/// What the monitor says of a CPU, in the audit's words.
fn cpu(index: u32, registers: &Registers) -> Cpu {
    Cpu {
        index,
        cpl: registers.cpl,
        rip: registers.rip,
        rsp: registers.rsp,
        cr3: registers.cr3,
        cr4: registers.cr4,
        ..Cpu::default()
    }
}

/// The audit of a stopped guest.
///
/// # Panics
///
/// When there is nothing to look at.
pub fn audit(memory: &GuestMemory, cpus: &[Cpu]) -> Audit {
    let subject = Subject {
        memory: &|address: u64, buffer: &mut [u8]| memory.read(address, buffer),
        cpus,
        source: "a scenario".into(),
        kernel_cr3: None,
        symbols: None,
        progress: &|_, _| {},
    };
    look(&subject).unwrap_or_else(|error| panic!("{error}"))
}
