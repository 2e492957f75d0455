//! Interrupts from one CPU to another.

use super::apic::{self, Command};
use super::cpu;
use crate::breaks::Break;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What another CPU is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipi {
    /// To look at its run queue: `task::reschedule_requested`.
    Reschedule,
    /// To serve the flushes that it was asked for: `mm::tlb::serve_requests`.
    Flush,
    /// To stop for good. Not maskable: it may be spinning for a lock with interrupts off.
    Stop,
}

/// Who ends the machine: 0 for nobody yet, else that CPU's number and 1.
static ENDING: AtomicUsize = AtomicUsize::new(0);
/// Turns of an empty loop that others get to stop: a few microseconds each way are enough.
const PATIENCE: u32 = 100_000;

/// Sends to CPU `cpu`, which is online. Everything stored before is seen by its handler. Several of a kind that
/// arrive before one was served become one.
pub fn send(cpu: usize, ipi: Ipi) {
    let command = match ipi {
        Ipi::Reschedule => Command::Interrupt(apic::RESCHEDULE),
        Ipi::Flush => Command::Interrupt(apic::FLUSH),
        Ipi::Stop => Command::Nmi,
    };
    // SAFETY: CPUs that are online have handlers for these.
    unsafe { apic::command(cpu::of(cpu).apic_id(), command) };
}

/// Stops all other CPUs, wherever they are, for the last words of this one. Gives whether they are still to be
/// said. Does not return if another CPU is about to end the machine.
pub fn claim_the_end() -> bool {
    // Before there are several, this CPU may not know its number yet.
    if cpu::online().is_empty() {
        return ENDING.swap(1, Ordering::SeqCst) == 0;
    }
    let here = cpu::index();
    match ENDING.compare_exchange(0, here + 1, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {}
        Err(ender) if ender == here + 1 => return false,
        Err(_) => super::acpi::stop(),
    }
    let others = cpu::online().iter().filter(|&cpu| cpu != here && !Break::OthersGoOn.is_on());
    if others.map(|cpu| send(cpu, Ipi::Stop)).count() != 0 {
        (0..PATIENCE).for_each(|_| core::hint::spin_loop());
    }
    true
}

/// Whether an NMI means to stop: another CPU ends the machine.
#[inline]
pub fn stopping() -> bool {
    let ender = ENDING.load(Ordering::Relaxed);
    ender != 0 && ender != cpu::index() + 1
}
