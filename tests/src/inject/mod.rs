//! Events from outside, delivered after any instruction of a way into the kernel and out of it.
//!
//! A [`Watch`] boots `programs/windows.c`, which goes into the kernel the same way for ever, and stops it
//! with the emulator's gdb stub. It records one undisturbed round trip, instruction by instruction. Then it
//! goes to the same instruction of another trip, delivers an NMI, a machine check or a #DB there, lets it run to its
//! end, compares every register with what it was, lets the trip run to its end, and compares again with the
//! undisturbed one. What is compared includes the floating-point state, CR3 and both bases of GS.
//!
//! ```text
//!   ring 3   in ──┐                                             ┌── out: compared with the record
//!   ring 0        └─ o ─ o ─ o ─ event! ─ o ─ o ─ ... ─ o ─ o ─┘
//!                                 │   ▲ compared with the instant before
//!                      landing ── o ─ o ─ ... ─ IRETQ, or POPFQ and RET
//!                                     └── nested: an event after each of these, too
//! ```

mod held;
mod nested;
mod text;
mod trip;
mod views;

use std::collections::BTreeSet;
use std::time::Duration;

use ringwall::core::area::{AREA_PAGES, OPEN_PAGES};
use ringwall_emulator::{CpuState, RSP, Stub};

use crate::boot::Boot;
use crate::made::{Library, program};
use crate::running::Running;
pub use held::Holds;
pub use text::Text;
pub use trip::Trip;

/// How long a stretch between two stops may take. It is thousands of instructions at most, and a busy host.
const STRETCH: Duration = Duration::from_secs(60);
/// How often a step is tried that does nothing.
const TRIES: usize = 64;
/// In RFLAGS: resume. An event that arrives sets and loses it.
const RESUME_FLAG: u64 = 1 << 16;
/// In CR3: the user root is loaded.
const USER_ROOT: u64 = 1 << 12;
/// In RFLAGS: trap.
const TRAP_FLAG: u64 = 1 << 8;
/// Low bits of CR3 that are no part of the address of a pair of roots.
const PAIR_BITS: u64 = 0x1fff;
/// The registers that the entry code has a root in: RSI, RDI, RSP.
const FETCHED: [usize; 3] = [4, 5, RSP];
/// How far before an instruction an event may send the interrupted code back; see `root_in_registers` in
/// macros.s.
const RESUMED: usize = 3;
/// A machine check that nothing is lost by: bank, status (VAL, UC, EN), IA32_MCG_STATUS (RIPV, MCIP).
const HARMLESS: (u8, u64, u64) = (4, 0xb000_0000_0000_0000, 5);
/// Ways that leave by another text than they come in by, and how far from the first text's page the other's IDT is:
/// the open text and its IDT are the area's last two pages, behind those of all CPUs.
const CHANGING: [(&str, i64); 2] = [("off", OPEN_TEXT + 0x1000), ("on", 0x1000 - OPEN_TEXT)];
const OPEN_TEXT: i64 = (AREA_PAGES - OPEN_PAGES) as i64 * 0x1000;
/// What the kernel says at boot if it isolates.
const ISOLATED: &str = "meltdown: Mitigation: PTI";
const UNMASKED: &str = "an NMI arrived inside an NMI";

/// What is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A non-maskable interrupt.
    Nmi,
    /// A machine check that lets the machine go on.
    MachineCheck,
    /// A debug exception in ring 0, by TF: it comes after the next instruction, as a watchpoint's does.
    Debug,
}

impl Event {
    /// All.
    pub const ALL: [Event; 3] = [Event::Nmi, Event::MachineCheck, Event::Debug];

    fn vector(self) -> usize {
        match self {
            Event::Nmi => text::NMI,
            Event::MachineCheck => text::MACHINE_CHECK,
            Event::Debug => text::DEBUG,
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Event::Nmi => "NMI",
            Event::MachineCheck => "#MC",
            Event::Debug => "#DB",
        })
    }
}

/// A guest that goes one way for ever, and is stopped at its beginning.
#[derive(Debug)]
pub struct Watch {
    running: Running,
    text: Text,
    way: String,
    start: u64,
    /// The CPU that goes the way.
    cpu: usize,
    /// Where the program counts what its other thread does, if there is one.
    counter: Option<u64>,
    isolated: bool,
    /// Registers that the program gets before it goes in, by the stub's names.
    overrides: Vec<(&'static str, u64)>,
    /// Where breakpoints are.
    breakpoints: BTreeSet<u64>,
    /// Whether steps hold events back.
    holding: bool,
    /// The state that was read last.
    last: CpuState,
}

impl Watch {
    /// Boots `windows WAY` and stops it in ring 3, just before it goes in. `way` may say more: `open`, and on which CPU.
    ///
    /// # Panics
    ///
    /// When the guest does not get there.
    pub fn new(boot: Boot, way: &str) -> Watch {
        let boot = boot.stub().arguments(way);
        let cpu = way.split(' ').find_map(|word| word.parse().ok()).unwrap_or(0);
        let way = way.split(' ').next().unwrap_or(way);
        let mut running = boot.init(program(Library::Glibc, "windows")).start();
        let ready = format!("READY {way} 0x");
        running.wait_for(&ready, Duration::from_secs(40));
        let mut lines = std::iter::from_fn(|| running.guest.console.next_line(STRETCH));
        let line = lines.find_map(|line| line.strip_prefix(&ready).map(str::to_owned));
        let line = line.expect("a line that says that it is ready");
        let words = line.split(" 0x").map(|digits| u64::from_str_radix(digits, 16).ok());
        let mut addresses = words.map(|word| word.expect("an address"));
        let start = addresses.next().expect("the address of the instruction that goes in");
        let counter = addresses.next();
        let stopped = stub(&mut running).stop().and_then(|()| match cpu {
            0 => Ok(()),
            cpu => stub(&mut running).look_at(cpu),
        });
        if let Err(error) = stopped {
            panic!("way {way}: {error}; its log:\n{}", running.guest.console.text());
        }
        let isolated = running.guest.console.text().contains(ISOLATED);
        let text = Text::find(&mut running.guest, cpu);
        let mut watch = Watch {
            running,
            text,
            way: way.into(),
            start,
            cpu,
            counter,
            isolated,
            overrides: Vec::new(),
            breakpoints: BTreeSet::new(),
            holding: true,
            last: CpuState::default(),
        };
        watch.run_to(&[start], "the beginning of a round");
        // A way that changes its text begins with this one.
        watch.text = Text::find(&mut watch.running.guest, cpu);
        // A fault goes back to where the beginning is, and that is not the beginning of another round.
        for _ in 0..2 {
            let goes_in = watch.step().level() == 0;
            watch.run_to(&[start], "another round");
            if !goes_in {
                break;
            }
        }
        watch
    }

    /// Makes the program a hostile one, as far as ring 3 can: its GS base is the kernel's, and its RSP is on the
    /// stack that NMIs run on. Neither must tell the kernel anything.
    ///
    /// # Panics
    ///
    /// When an NMI finds no way to its handler.
    pub fn make_hostile(&mut self) {
        let kernel_gs_base = self.state().kernel_gs_base;
        let mut state = self.deliver(Event::Nmi);
        while self.text.holds(state.rip) {
            state = self.step();
        }
        self.overrides = vec![("gs_base", kernel_gs_base), ("rsp", state.rsp())];
        let start = self.start;
        self.run_to(&[start], "the end of an NMI");
    }

    /// The gdb stub.
    fn stub(&mut self) -> &mut Stub {
        stub(&mut self.running)
    }

    /// The registers now.
    fn state(&mut self) -> CpuState {
        self.last = self.stub().registers().expect("a stub that answers");
        self.last.clone()
    }

    /// One instruction, no event.
    fn step(&mut self) -> CpuState {
        self.step_holding(true)
    }

    /// One instruction, or the delivery of what is pending.
    fn step_with_events(&mut self) -> CpuState {
        self.step_holding(false)
    }

    fn step_holding(&mut self, hold: bool) -> CpuState {
        if self.holding != hold {
            self.stub().hold_events(hold).expect("a stub that answers");
            self.holding = hold;
        }
        let before = self.last.clone();
        // A step may be an empty one: it ends where it began, with nothing changed.
        for _ in 0..TRIES {
            self.stub().step().expect("a stub that answers");
            if self.state() != before {
                break;
            }
        }
        self.last.clone()
    }

    /// Makes these all breakpoints that there are.
    fn break_at(&mut self, addresses: &[u64]) {
        let wanted: BTreeSet<u64> = addresses.iter().copied().collect();
        // Most of them stay the same from one stretch to the next.
        let present = std::mem::replace(&mut self.breakpoints, wanted.clone());
        for address in present.difference(&wanted) {
            self.stub().clear_breakpoint(*address).expect("a stub that answers");
        }
        for address in wanted.difference(&present) {
            self.stub().set_breakpoint(*address).expect("a stub that answers");
        }
    }

    /// Runs until the next instruction is at one of these addresses, which it may be already.
    fn run_to(&mut self, addresses: &[u64], what: &str) -> CpuState {
        self.run_to_within(STRETCH, addresses, what)
    }

    fn run_to_within(&mut self, limit: Duration, addresses: &[u64], what: &str) -> CpuState {
        self.break_at(addresses);
        if !self.run(limit, what) {
            let state = self.state();
            panic!("{}", self.lost(what, &state));
        }
        self.state()
    }

    /// Runs to a breakpoint; false if none comes in time.
    fn run(&mut self, limit: Duration, what: &str) -> bool {
        let arrived = self.stub().run(limit);
        arrived.unwrap_or_else(|error| {
            // A kernel that stopped the machine has said why.
            self.running.guest.console.wait_for_end(Duration::from_secs(20));
            let log = self.running.guest.console.text();
            panic!("way {}: {what} never came: {error}; its log:\n{log}", self.way);
        })
    }

    fn lost(&self, what: &str, state: &CpuState) -> String {
        let log = self.running.guest.console.text();
        let now = self.describe(state);
        format!("way {}: {what} never came; the CPU is at {now}; its log:\n{log}", self.way)
    }

    /// Whether a user root is loaded. Without isolation there is none, and the bit means nothing.
    fn under_user_root(&self, state: &CpuState) -> bool {
        self.isolated && state.cr3 & USER_ROOT != 0
    }

    /// Where a CPU is, for a person.
    fn describe(&self, state: &CpuState) -> String {
        let place = self.text.name(state.rip);
        let root = if self.under_user_root(state) { "user" } else { "kernel" };
        format!("{place}, ring {}, {root} root", state.level())
    }

    /// Delivers `event` before the next instruction; [`Event::Debug`] after it. Returns the state at the event's first
    /// instruction.
    fn deliver(&mut self, event: Event) -> CpuState {
        let cpu = self.cpu;
        let monitor = &mut self.running.guest.monitor;
        let sent = match event {
            Event::Nmi => monitor.inject_nmi(),
            Event::MachineCheck => {
                let (bank, status, global) = HARMLESS;
                monitor.inject_machine_check_on(cpu, bank, status, global)
            }
            Event::Debug => {
                let flags = self.last.rflags | TRAP_FLAG;
                self.stub().set_register("eflags", flags).expect("a stub that answers");
                let gates = self.text.gates(event.vector());
                return self.run_to(&gates, "a #DB");
            }
        };
        sent.expect("a monitor that answers");
        let state = self.step_with_events();
        if self.text.is_gate(event.vector(), state.rip) {
            return state;
        }
        assert!(!self.text.is_gate(text::NMI, state.rip), "way {}: {UNMASKED}", self.way);
        panic!("way {}: no {event} arrived; the CPU is at {}", self.way, self.describe(&state));
    }

    /// Runs an event that has just been delivered to its end: what it interrupted goes on.
    fn finish_event(&mut self, event: Event) -> CpuState {
        let mut stops = self.text.ends.clone();
        if event != Event::Nmi {
            stops.extend(self.text.gates(text::NMI));
        }
        let state = self.run_to(&stops, &format!("the end of an {event}"));
        let again = event != Event::Nmi && self.text.is_gate(text::NMI, state.rip);
        assert!(!again, "way {}: {UNMASKED}", self.way);
        self.step()
    }

    /// Delivers an event at state number `index`, where the guest is, lets it end and compares.
    fn disturb(&mut self, event: Event, trip: &Trip, index: usize) {
        let before = self.state();
        self.deliver(event);
        let after = self.finish_event(event);
        if event == Event::Debug {
            return self.compare_stepped(trip, index, &after);
        }
        let earlier = &trip.states[..index];
        self.compare_interrupted(&event.to_string(), earlier, &before, &after);
    }

    /// Compares what goes on after a #DB with the next state of the record, as far as it is the same each time.
    fn compare_stepped(&self, trip: &Trip, index: usize, after: &CpuState) {
        let recorded = &trip.states[index + 1];
        let mut expected = after.clone();
        expected.rip = recorded.rip;
        expected.general[RSP] = recorded.rsp();
        expected.cr3 = recorded.cr3;
        expected.gs_base = recorded.gs_base;
        expected.kernel_gs_base = recorded.kernel_gs_base;
        self.compare_interrupted("#DB", &trip.states[..=index], &expected, after);
    }

    /// Compares what was interrupted with what goes on: the same, or one of the `earlier` states a few instructions
    /// before, with the registers zero that those fetch anew.
    fn compare_interrupted(
        &self,
        what: &str,
        earlier: &[CpuState],
        before: &CpuState,
        after: &CpuState,
    ) {
        let fail = |how: &str| {
            let place = self.describe(before);
            panic!("way {}: {what} at {place}: {how}", self.way);
        };
        let mut expected = before.clone();
        if before.rip != after.rip {
            let mut latest = earlier.iter().rev().take(RESUMED);
            if !latest.any(|state| state.rip == after.rip) {
                fail(&format!("it went on at {}", self.describe(after)));
            }
            expected.rip = after.rip;
        }
        // No root goes back through user-visible memory: the registers that are to hold it are zero then.
        let holds_root = |register: &u64| register & !PAIR_BITS == before.cr3 & !PAIR_BITS;
        if self.under_user_root(before) && FETCHED.iter().any(|at| holds_root(&before.general[*at]))
        {
            for at in FETCHED.into_iter().filter(|at| after.general[*at] == 0) {
                expected.general[at] = 0;
            }
        }
        let differences = differences(&expected, after);
        if !differences.is_empty() {
            fail(&differences.join(", "));
        }
    }
}

/// The difference between two states that should be the same, but for the resume flag.
fn differences(before: &CpuState, after: &CpuState) -> Vec<String> {
    let (mut before, mut after) = (before.clone(), after.clone());
    before.rflags &= !RESUME_FLAG;
    after.rflags &= !RESUME_FLAG;
    before.differences(&after)
}

fn stub(running: &mut Running) -> &mut Stub {
    running.guest.stub.as_mut().expect("a gdb stub")
}
