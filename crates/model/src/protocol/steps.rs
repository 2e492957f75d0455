//! What a CPU may do next: each step is one access to what CPUs share, or one change of the CPU's own TLB.

use std::fmt::{self, Display};

use super::mapper::take_out;
use super::same::matters;
use super::serving::{finish, follows, serving};
use super::settings::{Break, Settings, item};
use super::state::{A, At, Back, CPUS, Cpu, Late, Mailbox, State, Then};
use crate::explore::Machine;

/// The machine.
#[derive(Clone, Copy, Debug)]
pub struct Protocol(pub Settings);

/// One thing that one CPU did.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Which CPU.
    pub cpu: usize,
    /// What it did.
    pub what: &'static str,
    /// To what; 0 for nothing.
    pub item: u8,
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CPU {} {}", self.cpu, self.what)?;
        if self.item != 0 { write!(f, " {}", item::name(self.item)) } else { Ok(()) }
    }
}

pub(super) fn bit(cpu: usize) -> u8 {
    1 << cpu
}

pub(super) fn lowest(set: u8) -> usize {
    set.trailing_zeros() as usize
}

impl Machine for Protocol {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        self.settled(State::start(&self.0))
    }

    fn steps(&self, state: &State, each: &mut dyn FnMut(Step, State)) {
        for cpu in 0..CPUS {
            let mut steps = Steps { protocol: self, state, cpu, each };
            steps.of_cpu();
        }
    }

    fn representative(&self, state: &State) -> State {
        state.representative(&self.0)
    }

    fn fault(&self, state: &State) -> Option<String> {
        state.cpus.iter().zip(0..).find_map(|(cpu, number)| {
            let stale = cpu.usable(&self.0) & state.free;
            if stale & item::TABLE != 0 {
                return Some(format!("CPU {number} walks through a freed page table"));
            }
            if cpu.resting || cpu.at == At::Off || cpu.at == At::Online {
                return None;
            }
            if stale != 0 {
                return Some(format!("CPU {number} reaches {}, which is free", item::name(stale)));
            }
            let two = cpu.usable(&self.0) & item::PAGE != 0 && state.mapped & item::AGAIN != 0;
            two.then(|| {
                format!("CPU {number} reaches the page, which others have a second frame for")
            })
        })
    }

    fn may_end(&self, _: &State) -> bool {
        false
    }
}

impl Protocol {
    fn is(&self, broken: Break) -> bool {
        self.0.broken == Some(broken)
    }

    /// What happens by itself after each step.
    fn settled(&self, mut state: State) -> State {
        state.cpus.iter_mut().for_each(|cpu| cpu.fill(state.mapped, &self.0));
        state
    }
}

/// The steps of one CPU from one state.
pub(super) struct Steps<'a> {
    pub(super) protocol: &'a Protocol,
    pub(super) state: &'a State,
    pub(super) cpu: usize,
    each: &'a mut dyn FnMut(Step, State),
}

impl Steps<'_> {
    /// A step that leads to `at`, after `change`.
    pub(super) fn step(
        &mut self,
        what: &'static str,
        at: At,
        change: impl FnOnce(&mut State, usize),
    ) {
        self.step_with(what, 0, at, change);
    }

    pub(super) fn step_with(
        &mut self,
        what: &'static str,
        item: u8,
        at: At,
        change: impl FnOnce(&mut State, usize),
    ) {
        let mut after = *self.state;
        after.cpus[self.cpu].at = at;
        change(&mut after, self.cpu);
        (self.each)(Step { cpu: self.cpu, what, item }, self.protocol.settled(after));
    }

    pub(super) fn me(&self) -> &Cpu {
        &self.state.cpus[self.cpu]
    }

    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.state.boxes[self.cpu]
    }

    pub(super) fn is(&self, broken: Break) -> bool {
        self.protocol.is(broken)
    }

    fn of_cpu(&mut self) {
        let settings = self.protocol.0;
        match self.me().at {
            At::Off if self.is(Break::LateOnline) => {
                self.step("flushes everything", At::Late(Late::Online), |state, cpu| {
                    state.cpus[cpu].flush_all();
                });
            }
            At::Off => {
                self.step("says that it is up", At::Online, |state, cpu| state.online |= bit(cpu));
            }
            At::Online => {
                self.step("flushes everything", At::Kernel, |state, cpu| {
                    state.cpus[cpu].flush_all();
                });
            }
            At::Kernel => self.kernel(),
            At::User => {
                self.step("enters the kernel", At::Kernel, |state, cpu| {
                    state.cpus[cpu].enter(&settings);
                });
                self.interrupt(Back::Kernel);
            }
            At::Idle => {
                self.switches();
                self.interrupt(Back::Idle);
            }
            At::Locking(item) => {
                if self.state.mapped & item == 0 {
                    self.step("finds it gone", At::Kernel, |_, _| ());
                } else if self.state.lock == 0 {
                    self.step("takes the lock", At::Kernel, |state, cpu| {
                        state.lock = cpu as u8 + 1;
                        take_out(state, cpu, item, &settings);
                    });
                }
                if !self.is(Break::DeafLock) {
                    self.serve("serves at the lock", Back::Locking(item));
                }
            }
            At::Taken { targets } => self.retire(targets),
            At::Retired { targets } => self.aim(targets),
            At::Sending(left) => self.send(left),
            At::Waiting => self.wait(),
            At::Serving { left, back } => self.flush_for(left, back),
            At::Joined => {
                let generation = self.state.generation;
                self.step("reads the generation", At::Loading(generation), |_, _| ());
            }
            At::Loading(generation) => self.load(A, generation),
            At::Leaving => self.leave(),
            At::Woken => self.compare(),
            At::Reading(then) => {
                if self.is(Break::LateRead) {
                    self.step("flushes all", At::Late(Late::Read(then)), |state, cpu| {
                        state.cpus[cpu].flush_whole(&settings);
                    });
                } else {
                    self.step("reads the generation", At::Flushing(then), |state, cpu| {
                        state.cpus[cpu].see(state.generation);
                    });
                }
            }
            At::Flushing(then) => self.step("flushes all", follows(then), |state, cpu| {
                state.cpus[cpu].flush_whole(&settings);
                finish(state, cpu, then);
            }),
            At::Late(late) => self.late(late),
        }
    }

    /// Whatever a kernel may want.
    fn kernel(&mut self) {
        let settings = self.protocol.0;
        self.switches();
        if matters(self.me().space, &settings) {
            self.step("goes to ring 3", At::User, |state, cpu| state.cpus[cpu].exit(&settings));
            if self.me().space == A && self.state.is_open() {
                self.step("goes to ring 3 under the kernel root", At::User, |state, cpu| {
                    state.cpus[cpu].exit_open(&settings);
                });
            }
            self.step("idles", At::Idle, |state, cpu| {
                state.cpus[cpu].resting = true;
                if state.cpus[cpu].space == A {
                    state.resting |= bit(cpu);
                }
            });
        } else {
            // It goes to ring 3 and comes back.
            self.interrupt(Back::Kernel);
        }
        let gone =
            if self.is(Break::NewFirst) { self.state.taken } else { self.state.free } & item::PAGE;
        if gone != 0
            && self.state.mapped & item::PAGE == 0
            && settings.items & item::AGAIN != 0
            && (self.state.mapped | self.state.taken) & item::AGAIN == 0
        {
            self.step_with("maps", item::AGAIN, At::Kernel, |state, _| state.mapped |= item::AGAIN);
        }
        if settings.items & item::OPEN & !(self.state.mapped | self.state.taken) != 0 {
            self.step_with("gives", item::OPEN, At::Kernel, |state, _| state.mapped |= item::OPEN);
        }
        for item in [item::PAGE, item::AGAIN, item::TABLE, item::SHARED, item::OPEN] {
            if self.state.mapped & item & !self.state.taken == 0 {
                continue;
            }
            if settings.lock {
                self.step_with("wants to take out", item, At::Locking(item), |_, _| ());
            } else {
                let what = match self.is(Break::FlushFirst) {
                    true => "is going to take out",
                    false => "takes out",
                };
                self.step_with(what, item, At::Kernel, |state, cpu| {
                    take_out(state, cpu, item, &settings);
                });
            }
        }
    }

    fn late(&mut self, late: Late) {
        let settings = self.protocol.0;
        match late {
            Late::Join(generation) => {
                self.step("joins A", At::Loading(generation), |state, cpu| {
                    state.loaded |= bit(cpu);
                });
            }
            Late::Wake(same) => {
                let at = if same { At::Kernel } else { At::Reading(Then::Kernel) };
                self.step("is at rest no more", at, |state, cpu| {
                    state.resting &= !bit(cpu);
                    state.cpus[cpu].resting = !same;
                });
            }
            Late::Load(space) => self.load(space, 0),
            Late::Read(then) => self.step("reads the generation", follows(then), |state, cpu| {
                state.cpus[cpu].see(state.generation);
                finish(state, cpu, then);
            }),
            Late::Flush(letter, left, back) => {
                self.step("flushes", serving(left, back), |state, cpu| {
                    let open = state.is_open();
                    if state.cpus[cpu].flush(letter, open, &settings) {
                        state.cpus[cpu].see(state.generation);
                        state.cpus[cpu].flush_whole(&settings);
                    }
                });
            }
            Late::Online => {
                self.step("says that it is up", At::Kernel, |state, cpu| state.online |= bit(cpu));
            }
        }
    }
}
