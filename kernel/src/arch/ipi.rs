//! Interrupts from one CPU to another.

use super::apic::{self, Command};
use super::cpu;
use crate::breaks::Break;
use crate::println;
use core::sync::atomic::{AtomicUsize, Ordering};
use ringwall::core::tlb::CpuSet;

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
/// Those that have stopped.
static STOPPED: CpuSet = CpuSet::new();
/// Turns of a loop that the others get to stop: microseconds are enough for a CPU, not for an emulator's that has
/// to wait for its turn.
const PATIENCE: u32 = 500_000;

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

/// Stops all other CPUs, wherever they are, for the last words of this one, and takes the console from them. Gives whether they are still to be
/// said. Does not return if another CPU is about to end the machine.
pub fn claim_the_end() -> bool {
    // Before there are several, this CPU may not know its number yet.
    if cpu::online().is_empty() {
        // SAFETY: as below.
        unsafe { super::serial::force_unlock() };
        return ENDING.swap(1, Ordering::SeqCst) == 0;
    }
    let here = cpu::index();
    match ENDING.compare_exchange(0, here + 1, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {}
        Err(ender) if ender == here + 1 => return false,
        // The NMI that asks for it may not come: this may be an NMI's handler.
        Err(_) => stop(here),
    }
    let others = || cpu::online().iter().filter(move |&cpu| cpu != here);
    others().filter(|_| !Break::OthersGoOn.is_on()).for_each(|cpu| send(cpu, Ipi::Stop));
    let running = || others().find(|&cpu| !STOPPED.contains(cpu));
    (0..PATIENCE).take_while(|_| running().is_some()).for_each(|_| core::hint::spin_loop());
    // SAFETY: nothing that would go on with what the lock guards runs any more; a report beats a lock.
    unsafe { super::serial::force_unlock() };
    if let Some(cpu) = running() {
        println!("ringwall: CPU {cpu} does not stop");
    }
    true
}

/// What an NMI means: the end for this CPU, if another one ends the machine.
#[inline]
pub fn stop_if_asked() {
    let (ender, here) = (ENDING.load(Ordering::SeqCst), cpu::index());
    if ender != 0 && ender != here + 1 {
        stop(here);
    }
}

fn stop(here: usize) -> ! {
    STOPPED.insert(here);
    super::acpi::stop()
}
