//! The steps of a CPU that gets another address space, or the same again after it idled: join, generation, CR3, leave.

use super::settings::{Break, item};
use super::state::{A, At, Late, Slot, Then};
use super::steps::{Steps, bit};

impl Steps<'_> {
    /// To any space that is not in use already.
    pub(super) fn switches(&mut self) {
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

    pub(super) fn load(&mut self, space: u8, generation: u8) {
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

    pub(super) fn leave(&mut self) {
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

    pub(super) fn compare(&mut self) {
        let same = self.state.generation == self.me().seen();
        let at = if same { At::Kernel } else { At::Reading(Then::Kernel) };
        self.step("reads the generation", at, |state, cpu| state.cpus[cpu].resting = !same);
    }
}
