//! What a CPU may do next: each step is one access to what CPUs share, or one change of the CPU's own TLB.

use std::fmt::{self, Display};

use super::mapper::take_out;
use super::same::matters;
use super::settings::{Break, Settings, item};
use super::state::{A, At, Back, CPUS, Cpu, Late, Mailbox, Slot, State, Then};
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
            let used = stale != 0 && !cpu.resting && cpu.at != At::Off && cpu.at != At::Online;
            used.then(|| format!("CPU {number} reaches {}, which is free", item::name(stale)))
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
        if self.state.taken & item::PAGE != 0
            && self.state.mapped & item::PAGE == 0
            && settings.items & item::AGAIN != 0
            && (self.state.mapped | self.state.taken) & item::AGAIN == 0
        {
            self.step_with("maps", item::AGAIN, At::Kernel, |state, _| state.mapped |= item::AGAIN);
        }
        for item in [item::PAGE, item::AGAIN, item::TABLE, item::SHARED] {
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

    /// To any space that is not in use already.
    fn switches(&mut self) {
        let me = *self.me();
        if self.protocol.0.reuse && me.space == 2 {
            self.reuse();
        }
        let first = if self.protocol.0.items == item::SHARED { A + 1 } else { A };
        for space in first..=self.protocol.0.spaces {
            if space == me.space {
                if me.resting {
                    self.wake(space);
                }
            } else if space != A {
                self.load(space, 0);
            } else if self.is(Break::LateJoin) {
                let generation = self.state.generation;
                self.step("reads the generation", At::Late(Late::Join(generation)), |_, _| ());
            } else {
                self.step("joins A", At::Joined, |state, cpu| state.loaded |= bit(cpu));
            }
        }
    }

    /// A further space gets A's slot; in the model it is called 2 from then on, and the one that was is forgotten.
    fn reuse(&mut self) {
        let settings = self.protocol.0;
        let Some(slot) = self.me().slots.iter().position(|slot| slot.space == A) else { return };
        self.step("gives A's slot away", At::Kernel, |state, cpu| {
            let cpu = &mut state.cpus[cpu];
            let before = usize::from(cpu.loaded);
            cpu.next = slot as u8;
            cpu.load(3, 0, &settings);
            (cpu.space, cpu.slots[slot].space) = (2, 2);
            (cpu.slots[before], cpu.cached[before]) = (Slot::default(), [0; 2]);
            (cpu.next, cpu.resting) = (0, false);
        });
    }

    fn load(&mut self, space: u8, generation: u8) {
        let settings = self.protocol.0;
        let from_a = self.me().space == A;
        if from_a && self.is(Break::EarlyLeave) && self.me().at != At::Late(Late::Load(space)) {
            self.step("leaves A", At::Late(Late::Load(space)), |state, cpu| {
                state.loaded &= !bit(cpu);
                state.resting &= !bit(cpu);
            });
            return;
        }
        let leaves = from_a && !self.is(Break::EarlyLeave);
        let at = if leaves { At::Leaving } else { At::Kernel };
        let what = if space == A { "loads A" } else { "loads another space" };
        self.step(what, at, |state, cpu| {
            state.cpus[cpu].load(space, generation, &settings);
            if !leaves {
                state.cpus[cpu].resting = false;
            }
        });
    }

    fn leave(&mut self) {
        if self.me().resting {
            self.step("is at rest no more", At::Leaving, |state, cpu| {
                state.resting &= !bit(cpu);
                state.cpus[cpu].resting = false;
            });
        } else {
            self.step("leaves A", At::Kernel, |state, cpu| state.loaded &= !bit(cpu));
        }
    }

    fn wake(&mut self, space: u8) {
        if space != A {
            self.step("wakes", At::Kernel, |state, cpu| state.cpus[cpu].resting = false);
        } else if self.is(Break::LateWake) {
            let same = self.state.generation == self.me().seen();
            self.step("reads the generation", At::Late(Late::Wake(same)), |_, _| ());
        } else {
            self.step("is at rest no more", At::Woken, |state, cpu| state.resting &= !bit(cpu));
        }
    }

    fn compare(&mut self) {
        let same = self.state.generation == self.me().seen();
        let at = if same { At::Kernel } else { At::Reading(Then::Kernel) };
        self.step("reads the generation", at, |state, cpu| state.cpus[cpu].resting = !same);
    }

    /// An inter-processor interrupt, where interrupts are on.
    fn interrupt(&mut self, back: Back) {
        let settings = self.protocol.0;
        if self.mailbox().interrupt {
            let left = self.mailbox().asked_by;
            self.step("is interrupted", serving(left, back), |state, cpu| {
                state.cpus[cpu].enter(&settings);
                state.boxes[cpu].interrupt = false;
                state.boxes[cpu].asked_by = 0;
            });
        }
    }

    /// Without an interrupt; one may still come, and find nothing.
    pub(super) fn serve(&mut self, what: &'static str, back: Back) {
        let left = self.mailbox().asked_by;
        if left != 0 {
            self.step(what, serving(left, back), |state, cpu| state.boxes[cpu].asked_by = 0);
        }
    }

    fn flush_for(&mut self, left: u8, back: Back) {
        let settings = self.protocol.0;
        let sender = lowest(left);
        let left = left & !bit(sender);
        let letter = self.state.boxes[sender].letter;
        if self.is(Break::AnswerFirst) {
            let at = At::Late(Late::Flush(letter, left, back));
            self.step("answers", at, |state, cpu| state.boxes[sender].waits_for &= !bit(cpu));
            return;
        }
        if let At::Serving { .. } = self.me().at {
            let then = Then::Answer { sender: sender as u8, left, back };
            self.step("flushes and answers", At::Kernel, |state, cpu| {
                if state.cpus[cpu].flush(letter, &settings) {
                    state.cpus[cpu].at = At::Reading(then);
                } else {
                    state.cpus[cpu].at = follows(then);
                    finish(state, cpu, then);
                }
            });
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
                    if state.cpus[cpu].flush(letter, &settings) {
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

fn serving(left: u8, back: Back) -> At {
    if left != 0 {
        return At::Serving { left, back };
    }
    match back {
        Back::Kernel => At::Kernel,
        Back::Idle => At::Idle,
        Back::Waiting => At::Waiting,
        Back::Locking(item) => At::Locking(item),
    }
}

fn follows(then: Then) -> At {
    match then {
        Then::Answer { left, back, .. } => serving(left, back),
        Then::Wait => At::Waiting,
        Then::Kernel => At::Kernel,
    }
}

/// What comes with the last step of a flush, because nobody else could tell the two apart.
fn finish(state: &mut State, cpu: usize, then: Then) {
    match then {
        Then::Answer { sender, .. } => state.boxes[usize::from(sender)].waits_for &= !bit(cpu),
        Then::Wait => (),
        Then::Kernel => state.cpus[cpu].resting = false,
    }
}
