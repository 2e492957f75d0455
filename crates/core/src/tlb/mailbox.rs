//! How CPUs ask each other to do something (to flush, above all), and answer.
//!
//! ```text
//!   CPU 2's mailbox                         CPU 5's mailbox
//!   ┌───────────────────────────┐           ┌──────────────────┐
//!   │ letter    what to do      │◄── reads ─┤ asked by    2    │◄── 2. CPU 2 inserts itself
//!   │ waits for 5               │           └──────────────────┘    3. IPI, unless one is under way
//!   └───────────────────────────┘
//!     1. CPU 2 writes both     ▲── 4. CPU 5 has done it: takes itself out
//! ```
//!
//! Nothing is allocated and nothing overflows, because a CPU that asks waits for the answers before it asks again: its
//! one letter stays as it is until then. While it waits it serves the others; who waits for anything else with
//! interrupts off (a lock) has to serve as well, or two CPUs wait for each other for ever.
//!
//! Invariant: a CPU is in `waits_for` from before it is asked until after it has done what it was asked, and whoever
//! takes a sender out of `asked_by` serves it.

use super::space::CpuSet;
use crate::sync::{AtomicU64, Ordering};

/// What one CPU asks of others, and who asks it. There is one for each CPU, where all CPUs can reach it.
#[derive(Debug)]
pub struct Mailbox {
    letter: AtomicU64,
    waits_for: CpuSet,
    asked_by: CpuSet,
}

impl Default for Mailbox {
    fn default() -> Mailbox {
        Mailbox::new()
    }
}

impl Mailbox {
    /// Of a CPU that asks nothing and is asked nothing.
    pub const fn new() -> Mailbox {
        Mailbox { letter: AtomicU64::new(0), waits_for: CpuSet::new(), asked_by: CpuSet::new() }
    }

    /// CPU `cpu`, whose mailbox this is, asks each of `targets`, itself left out. What `letter` means is between the two:
    /// the address of what is to be done, say, which has to be there until all have answered. `interrupt` is to send an
    /// inter-processor interrupt whose handler calls [`Mailbox::serve`]; it is not called for a CPU that has one coming.
    ///
    /// # Panics
    ///
    /// With debug assertions, if the letter before was not answered by all yet.
    pub fn post<'a>(
        &self,
        cpu: usize,
        letter: u64,
        targets: impl Iterator<Item = usize>,
        mailbox_of: impl Fn(usize) -> &'a Mailbox,
        mut interrupt: impl FnMut(usize),
    ) {
        debug_assert!(self.is_answered(), "CPU {cpu} still waits for answers");
        // A target reads it when it has found this CPU in its `asked_by`, which orders this store before.
        self.letter.store(letter, Ordering::Relaxed);
        for target in targets.filter(|target| *target != cpu) {
            self.waits_for.insert(target);
            // Whoever inserts into an empty set sends the interrupt, after that; what is inserted until it arrives is
            // served with it.
            if mailbox_of(target).asked_by.insert_first(cpu) {
                interrupt(target);
            }
        }
    }

    /// Whether every CPU that was asked has done it. What those CPUs did is seen from here on.
    #[inline]
    pub fn is_answered(&self) -> bool {
        self.waits_for.is_empty()
    }

    /// Whether somebody asks this CPU.
    #[inline]
    pub fn is_asked(&self) -> bool {
        !self.asked_by.is_empty()
    }

    /// CPU `cpu`, whose mailbox this is, lets `execute` do what every letter that waits for it asks for, and answers.
    /// From the interrupt's handler, and from every loop that waits with interrupts off.
    pub fn serve<'a>(
        &self,
        cpu: usize,
        mailbox_of: impl Fn(usize) -> &'a Mailbox,
        mut execute: impl FnMut(u64),
    ) {
        for sender in self.asked_by.take() {
            let sender = mailbox_of(sender);
            execute(sender.letter.load(Ordering::Relaxed));
            sender.waits_for.remove(cpu);
        }
    }
}
