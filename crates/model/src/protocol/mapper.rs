//! The steps of a CPU that takes something out of page tables: change, new generation, whom to tell, answers, free.

use super::settings::{Break, Settings, item};
use super::state::{At, Back, Letter, Mailbox, State, Then};
use super::steps::{Steps, bit, lowest};

impl Steps<'_> {
    /// After the page tables were changed (broken: before).
    pub(super) fn retire(&mut self, targets: Option<u8>) {
        if self.is(Break::EarlyTargets) && targets.is_none() {
            let targets = Some(self.state.loaded);
            self.step("reads whom to tell", At::Taken { targets }, |_, _| ());
            return;
        }
        let item = self.mailbox().letter.item;
        let early = self.is(Break::EarlyGeneration) || self.is(Break::EarlyTargets);
        self.step("makes a generation", At::Retired { targets }, |state, cpu| {
            if early && targets.is_some() {
                state.mapped &= !item;
            }
            if item != item::SHARED {
                state.generation += 1;
                state.boxes[cpu].letter.generation = state.generation;
            }
        });
    }

    /// After the generation was made.
    pub(super) fn aim(&mut self, targets: Option<u8>) {
        let item = self.mailbox().letter.item;
        if self.is(Break::EarlyGeneration) && self.state.mapped & item != 0 {
            self.step_with("takes out", item, At::Retired { targets }, |state, _| {
                state.mapped &= !item;
            });
            return;
        }
        let all = if item == item::SHARED { self.state.online } else { self.state.loaded };
        let left = targets.unwrap_or(all) & !bit(self.cpu);
        self.step("reads whom to tell", At::Sending(left), |_, _| ());
    }

    pub(super) fn send(&mut self, left: u8) {
        let settings = self.protocol.0;
        let letter = self.mailbox().letter;
        if left == 0 {
            self.step("flushes", At::Waiting, |state, cpu| {
                let open = state.is_open();
                if state.cpus[cpu].flush(letter, open, &settings) {
                    state.cpus[cpu].at = At::Reading(Then::Wait);
                }
            });
            return;
        }
        let target = lowest(left);
        let at = At::Sending(left & !bit(target));
        let told = match letter.item {
            item::SHARED | item::OPEN => true,
            item::TABLE if !self.is(Break::IdleTables) => true,
            _ => self.state.resting & bit(target) == 0,
        };
        if !told {
            self.step("leaves one out", at, |_, _| ());
        } else {
            if self.is(Break::LostMessage) {
                self.step("believes that it asks one", at, |_, _| ());
            }
            self.step("asks one", at, |state, cpu| {
                state.boxes[cpu].waits_for |= bit(target);
                let asked = &mut state.boxes[target];
                asked.interrupt |= asked.asked_by == 0;
                asked.asked_by |= bit(cpu);
            });
        }
    }

    pub(super) fn wait(&mut self) {
        let Mailbox { letter, waits_for, .. } = *self.mailbox();
        let early = self.is(Break::FreeEarly) && self.state.free & letter.item == 0;
        if waits_for == 0 && self.state.free & letter.item != 0 {
            self.step("has waited", At::Kernel, |state, cpu| {
                state.boxes[cpu].letter = Letter::default();
            });
        } else if waits_for == 0 || early {
            let at = if waits_for == 0 { At::Kernel } else { At::Waiting };
            self.step_with("frees", letter.item, at, |state, cpu| {
                state.mapped &= !letter.item;
                state.free |= letter.item;
                if state.lock == cpu as u8 + 1 {
                    state.lock = 0;
                }
                if waits_for == 0 {
                    state.boxes[cpu].letter = Letter::default();
                }
            });
        }
        if !self.is(Break::DeafWaiter) {
            self.serve("serves while it waits", Back::Waiting);
        }
    }
}

/// Begins to take `item` out of the page tables.
pub(super) fn take_out(state: &mut State, cpu: usize, item: u8, settings: &Settings) {
    state.taken |= item;
    state.boxes[cpu].letter = Letter { item, generation: 0 };
    let late = [Break::FlushFirst, Break::EarlyGeneration, Break::EarlyTargets];
    if !settings.broken.is_some_and(|broken| late.contains(&broken)) {
        state.mapped &= !item;
    }
    state.cpus[cpu].at = At::Taken { targets: None };
}
