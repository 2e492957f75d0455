//! From a stopped guest to an audit.

use ringwall_audit::cpu::Cpu;
use ringwall_audit::document::Audit;
use ringwall_audit::{Subject, Symbols, look};
use ringwall_cli::cpu;
use ringwall_emulator::{Guest, GuestMemory};

/// The registers of the first `count` CPUs of a stopped guest.
///
/// # Panics
///
/// When the monitor does not answer.
pub fn cpus(guest: &mut Guest, count: u32) -> Vec<Cpu> {
    let registers = guest.monitor.all_registers().expect("registers");
    registers.iter().take(count as usize).map(cpu).collect()
}

/// The audit of a stopped guest, without symbols.
///
/// # Panics
///
/// When there is nothing to look at.
pub fn audit(memory: &GuestMemory, cpus: &[Cpu]) -> Audit {
    audit_with(memory, cpus, None)
}

/// The audit of a stopped guest.
///
/// # Panics
///
/// As [`audit`].
pub fn audit_with(memory: &GuestMemory, cpus: &[Cpu], symbols: Option<&Symbols>) -> Audit {
    let subject = Subject {
        memory: &|address: u64, buffer: &mut [u8]| memory.read(address, buffer),
        cpus,
        source: "a scenario".into(),
        symbols,
        kernel_cr3: None,
        progress: &|_, _| {},
    };
    look(&subject).unwrap_or_else(|error| panic!("{error}"))
}
