//! A CPU that is held at an instruction of the entry text, while another one wants something of it.
//!
//! The way `crowd` of `programs/windows.c` has two threads. One goes into the kernel for ever and looks at its registers
//! and at a page when it is back. The other one, on the first CPU, replaces the page, changes the LDT, and switches
//! isolation off and on, each of which the first thread's CPU has to be told, and waited for.
//!
//! ```text
//!   CPU 1   ── o ─ o ─ held ........................ an event, too ─ o ─ o ─ ring 3: the request, at the latest
//!   CPU 0          └─ runs alone: asks, and waits ──────────────────────────────────► goes on
//! ```
//!
//! Nothing repeats here from one round to the next, so nothing is compared: the program judges, and the kernel, which
//! does not wait for ever.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{Event, OPEN_TEXT, Text, Watch};

/// How many ways through the entry text are followed to know its instructions; half of them begin with an interrupt.
const FOLLOWED: usize = 24;
/// What makes a way longer is that it waits for the other CPU.
const LONGEST: usize = 3_000;
/// How long an instruction may stay away that is not on today's way.
const REACH: Duration = Duration::from_millis(400);
/// How long the other CPU runs alone.
const HOLD: Duration = Duration::from_millis(2);
/// How many things the other thread has to get done afterwards: each of its kinds.
const TURNS: u64 = 4;
/// How long it may take for that, and how long a CPU may not go into the kernel: more, on a busy host, than the ten seconds
/// of its own that the kernel waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of [`Watch::hold_everywhere`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Holds {
    /// How often the CPU was held.
    pub held: usize,
    /// How often it did not come along an instruction, so that it was not held there.
    pub missed: usize,
}

impl Watch {
    /// Holds the CPU at every instruction of both texts that it comes along, once for each of `events`, which is
    /// delivered then.
    ///
    /// # Panics
    ///
    /// When the program finds a register or the page changed, when the other CPU is never answered, when the kernel
    /// ends.
    pub fn hold_everywhere(&mut self, events: &[Option<Event>]) -> Holds {
        self.find_both_texts();
        let mut holds = Holds::default();
        for address in self.instructions() {
            for event in events {
                self.break_at(&[address]);
                if !self.run(REACH, "an instruction of the entry text") {
                    holds.missed += 1;
                    continue;
                }
                self.break_at(&[]);
                self.stub().run_alone(0, HOLD).expect("a stub that answers");
                self.send(*event);
                self.see_it_go_on(address);
                holds.held += 1;
            }
        }
        holds
    }

    /// The guest is stopped in ring 3 with one text; the other one shows under a kernel root.
    fn find_both_texts(&mut self) {
        // Isolation may have been switched since the text was found: on a busy host the other thread gets far in one round.
        self.text = Text::find(&mut self.running.guest, self.cpu);
        let state = self.state();
        let distance = if self.under_user_root(&state) { OPEN_TEXT } else { -OPEN_TEXT };
        while self.state().level() == 3 || self.under_user_root(&self.last) {
            self.step();
        }
        self.text.read_ends(&mut self.running.guest, Some(distance + 0x1000));
    }

    /// Instructions of both texts, on the ways in and out that are taken here.
    fn instructions(&mut self) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        let gates: Vec<u64> = self.text.interrupt_gates().collect();
        let start = self.start;
        for turn in 0..FOLLOWED {
            let begins: &[u64] = if turn % 2 == 0 { &[start] } else { &gates };
            let mut state = self.run_to_within(PATIENCE, begins, "a way into the kernel");
            for _ in 0..LONGEST {
                if self.text.holds(state.rip) {
                    found.insert(state.rip);
                }
                state = self.step_with_events();
                if state.level() == 3 {
                    break;
                }
            }
        }
        found
    }

    fn send(&mut self, event: Option<Event>) {
        let (cpu, monitor) = (self.cpu, &mut self.running.guest.monitor);
        let sent = match event {
            None => Ok(()),
            Some(Event::Nmi) => monitor.inject_nmi(),
            Some(Event::MachineCheck) => {
                let (bank, status, global) = super::HARMLESS;
                monitor.inject_machine_check_on(cpu, bank, status, global)
            }
            Some(Event::Debug) => panic!("no other CPU sends a #DB"),
        };
        sent.expect("a monitor that answers");
    }

    fn see_it_go_on(&mut self, held: u64) {
        let (begin, before) = (Instant::now(), self.turns());
        loop {
            self.run(HOLD, "the program");
            let place = self.text.name(held);
            let log = self.running.guest.console.text();
            let bad = ["FAIL ", "kernel bug"].iter().any(|word| log.contains(word));
            assert!(!bad, "held at {place}; its log:\n{log}");
            if self.turns() >= before + TURNS {
                return;
            }
            let waits = begin.elapsed() < PATIENCE;
            assert!(waits, "held at {place}: the other CPU waits for ever; its log:\n{log}");
        }
    }

    /// How many things the other thread has done.
    fn turns(&mut self) -> u64 {
        let counter = self.counter.expect("a way with another thread");
        let bytes = self.stub().read(counter, 8).expect("a stub that answers");
        let bytes = bytes.expect("the program's memory is mapped under both roots");
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }
}
