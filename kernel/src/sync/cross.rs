//! Work that one CPU has done on others, and waits for: flushes above all.
//!
//! ```text
//!   CPU 2: call({2, 5}, work)                      CPU 5
//!   a letter in its own mailbox, 2 noted in 5's ─IPI─► serve(): runs work, answers
//!   runs work itself                               (or a lock that it waits for calls serve() before
//!   serves others until all have answered           the interrupt comes)
//! ```
//!
//! Invariant: who waits with interrupts off serves, in this module and in [`super::spinning`]. So two CPUs that call
//! each other, or one that waits for a lock of the other's, both go on. Hence work takes no lock and allocates nothing:
//! it may run in the middle of another wait for that very lock.

use super::spinning::relax;
use crate::arch::cpu;
use crate::arch::ipi::{self, Ipi};
use crate::breaks::Break;
use ringwall::core::tlb::Mailbox;

/// What is run on another CPU, interrupts off.
pub type Work<'a> = dyn Fn() + Sync + 'a;

static MAILBOXES: [Mailbox; cpu::MAXIMUM] = [const { Mailbox::new() }; cpu::MAXIMUM];

/// A CPU that runs takes microseconds to answer, and one that an emulator does not let run as long as its host is
/// busy. One that takes longer never will.
const PATIENCE: u64 = 10_000_000_000;

fn mailbox(cpu: usize) -> &'static Mailbox {
    &MAILBOXES[cpu % cpu::MAXIMUM]
}

/// Runs `work` on each of `cpus`, which are online, and returns when it has been run on all. On this CPU, if it is
/// among them, it runs here.
///
/// # Panics
/// If a CPU does not answer.
pub fn call(cpus: impl Iterator<Item = usize>, work: &Work<'_>) {
    let here = cpu::index();
    let (mut is_target, mut asked) = (false, false);
    let targets = cpus.inspect(|&cpu| match cpu == here {
        true => is_target = true,
        false => asked = true,
    });
    // One word for the address of `work`, which is two.
    let letter = (&raw const work).expose_provenance() as u64;
    mailbox(here).post(here, letter, targets, mailbox, ring);
    if is_target {
        work();
    }
    if asked {
        cpu::local().count(|local| &local.shootdowns_sent);
        wait(here);
    }
}

fn ring(cpu: usize) {
    if Break::LostIpi.is_on() && cpu::nanoseconds().is_multiple_of(64) {
        return;
    }
    ipi::send(cpu, Ipi::Flush);
}

/// Waits for all answers to this CPU's letter.
fn wait(here: usize) {
    let start = cpu::nanoseconds();
    while !mailbox(here).is_answered() {
        relax();
        let waited = cpu::nanoseconds().saturating_sub(start);
        assert!(waited < PATIENCE, "CPU {here} was not answered: {:?}", mailbox(here));
    }
}

/// Does what others ask of this CPU: what [`Ipi::Flush`] means, and what every wait calls.
#[inline(never)]
pub fn serve() {
    // A CPU that is not active yet has no number, and nobody asks it for anything.
    if !cpu::is_active() {
        return;
    }
    let here = cpu::index();
    mailbox(here).serve(here, mailbox, |letter| {
        let work = core::ptr::with_exposed_provenance::<&Work<'_>>(letter as usize);
        // SAFETY: `call` put the address of its own variable there and returns only when this was answered.
        let work = unsafe { *work };
        work();
        cpu::local().count(|local| &local.shootdowns_served);
    });
}
