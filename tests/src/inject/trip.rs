//! One undisturbed round trip, and the disturbed ones that are compared with it.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_emulator::CpuState;

use super::{CHANGING, Event, Watch, differences, views};

/// More instructions than any way takes.
const LONGEST: usize = 60_000;
/// How many instructions of Rust code are disturbed on a way.
const SAMPLES: usize = 6;
/// How many of the last ones are, of a way that changes the way itself.
const LAST: usize = 80;
/// How many rounds come before the recorded one.
const ROUNDS: usize = 20;
/// The way whose beginning is not an instruction of the program's.
const TICK: &str = "tick";

/// Every state from the instruction that goes in (the first, in ring 3) to the first in ring 3 again.
#[derive(Clone, Debug)]
pub struct Trip {
    /// The states. All but the first and the last are in ring 0.
    pub states: Vec<CpuState>,
    /// Whether each one's instruction was executed in another round, too.
    repeats: Vec<bool>,
}

impl Trip {
    /// The state that ring 3 sees when it is back.
    ///
    /// # Panics
    ///
    /// Never: a trip has at least two states.
    pub fn end(&self) -> &CpuState {
        self.states.last().expect("a trip has an end")
    }
}

impl Watch {
    /// Goes round a few times first, so that whatever the kernel does once only is done; then records a trip.
    ///
    /// # Panics
    ///
    /// As [`Watch::record`].
    pub fn settle(&mut self) -> Trip {
        for _ in 0..ROUNDS {
            self.next_round();
        }
        let mut trip = self.record();
        self.finish(&trip, "nothing");
        let again = self.record();
        self.finish(&trip, "nothing");
        let (path, same) = (self.text_path(&trip), self.text_path(&again));
        assert!(path == same, "way {}: two rounds differ: {path:x?} and {same:x?}", self.way);
        let common: BTreeSet<u64> = again.states.iter().map(|state| state.rip).collect();
        trip.repeats = trip.states.iter().map(|state| common.contains(&state.rip)).collect();
        trip
    }

    fn text_path(&self, trip: &Trip) -> Vec<u64> {
        let all = trip.states.iter().map(|state| state.rip);
        all.filter(|rip| self.text.holds(*rip)).collect()
    }

    /// Records one round trip, which begins in ring 3. Checks on the way that ring 0 fetches from nothing but
    /// the entry text while a user root is loaded.
    ///
    /// # Panics
    ///
    /// When it does not, or does not come back to ring 3.
    fn record(&mut self) -> Trip {
        self.override_registers();
        let mut states = vec![self.state()];
        states.push(self.go_in());
        loop {
            let state = self.step();
            let back = state.level() == 3;
            if !back && self.under_user_root(&state) {
                let place = self.describe(&state);
                assert!(self.text.holds(state.rip), "way {}: ring 0 is at {place}", self.way);
            }
            if !back && !self.under_user_root(&state) && self.text.ends.is_empty() {
                let partner = CHANGING.iter().find(|(way, _)| *way == self.way);
                let partner = partner.map(|(_, distance)| *distance);
                self.text.read_ends(&mut self.running.guest, partner);
            }
            states.push(state);
            assert!(states.len() < LONGEST, "way {}: no way back to ring 3", self.way);
            if back {
                break;
            }
        }
        Trip { repeats: vec![true; states.len()], states }
    }

    /// At the beginning of a round: gives the program the registers that it is to have.
    pub(super) fn override_registers(&mut self) {
        for (name, value) in self.overrides.clone() {
            self.stub().set_register(name, value).expect("a stub that answers");
        }
        self.state();
    }

    /// From the beginning of a round into ring 0.
    fn go_in(&mut self) -> CpuState {
        self.override_registers();
        if self.way == TICK {
            let gates: Vec<u64> = self.text.interrupt_gates().collect();
            return self.run_to(&gates, "a tick");
        }
        let state = self.step();
        let place = self.describe(&state);
        assert!(state.level() == 0, "way {}: it does not go into the kernel: {place}", self.way);
        state
    }

    /// The indices of one state of each kind: ring 3, every instruction of ring 0 at which CR3, GS base or RSP is the
    /// program's, one just behind them and one of Rust code.
    pub fn kinds(&self, trip: &Trip) -> Vec<usize> {
        let boundaries = self.boundaries(trip);
        let kernel_gs_base = trip.end().kernel_gs_base;
        let settled = |index: &&usize| {
            let state = &trip.states[**index];
            let in_window = self.under_user_root(state)
                || state.gs_base != kernel_gs_base
                || state.rsp() < views::KERNEL_HALF;
            state.level() == 0 && !in_window
        };
        let (inside, windows): (Vec<usize>, Vec<usize>) =
            boundaries.iter().partition(|index| settled(index));
        let (text, rust): (Vec<usize>, Vec<usize>) =
            inside.into_iter().partition(|index| self.text.holds(trip.states[*index].rip));
        let one_each = text.first().into_iter().chain(rust.first());
        let mut result: Vec<usize> = windows.iter().chain(one_each).copied().collect();
        result.sort_unstable();
        result
    }

    /// The indices of the states at which to disturb: ring 3 before it goes in, every instruction in the entry text,
    /// and samples of the Rust code.
    pub fn boundaries(&self, trip: &Trip) -> Vec<usize> {
        let inside = 1..trip.states.len() - 1;
        let (text, rust): (Vec<usize>, Vec<usize>) =
            inside.partition(|index| self.text.holds(trip.states[*index].rip));
        // Only instructions that are executed once on the way can be found again without counting.
        let mut times = BTreeMap::new();
        for index in &rust {
            *times.entry(trip.states[*index].rip).or_insert(0) += 1;
        }
        let once: Vec<usize> = rust
            .into_iter()
            .filter(|index| trip.repeats[*index] && times[&trip.states[*index].rip] == 1)
            .collect();
        // The registers that make the ways in and out are written by the last Rust code there is.
        let changes = CHANGING.iter().any(|(way, _)| *way == self.way);
        let last = once.len() - if changes { LAST.min(once.len()) } else { 0 };
        let (once, last) = once.split_at(last);
        let distance = (once.len() / SAMPLES).max(1);
        let samples = once.iter().skip(distance / 2).step_by(distance).chain(last).copied();
        // A tick comes from outside itself: there is no telling where it is about to.
        let first = (self.way != TICK).then_some(0);
        let mut result: Vec<usize> = first.into_iter().chain(text).chain(samples).collect();
        result.sort_unstable();
        result
    }

    /// From ring 3 at the beginning of a round to state number `index` of it.
    ///
    /// # Panics
    ///
    /// When this round is another one than the recorded one.
    pub fn go_to(&mut self, trip: &Trip, index: usize) {
        if index == 0 {
            self.override_registers();
            return;
        }
        // Interrupts are held at a step, and off in the kernel: from here on nothing comes between.
        let mut state = self.go_in();
        let target = trip.states[index].rip;
        let is_there = |state: &CpuState| state.rip == target;
        let mut left = trip.states[1..=index].iter().filter(|state| is_there(state)).count();
        loop {
            if !is_there(&state) {
                self.run_to(&[target], "an instruction on the way");
            }
            left -= 1;
            if left == 0 {
                break;
            }
            state = self.step();
        }
    }

    /// From anywhere in ring 0 to ring 3, where every register has to be as recorded, to the next round's
    /// beginning.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub fn finish(&mut self, trip: &Trip, what: &str) {
        let end = trip.end().clone();
        let state = self.run_to(&[end.rip], &format!("ring 3 after {what}"));
        let mut expected = end;
        // No program sees CR2, and another fault may have come between.
        expected.cr2 = state.cr2;
        let differences = differences(&expected, &state);
        assert!(
            differences.is_empty(),
            "way {}: ring 3 sees another state after {what}: {}",
            self.way,
            differences.join(", ")
        );
        self.check_view(&state, what);
        self.next_round();
    }

    /// At state number `index` of a trip: goes in, if that is still the beginning.
    pub(super) fn leave_ring_3(&mut self, index: usize) {
        if index == 0 {
            self.go_in();
        }
    }

    /// From ring 3, where a trip has ended, to the beginning of another round. A fault goes back to where the
    /// beginning is, too.
    fn next_round(&mut self) {
        self.step();
        let start = self.start;
        self.run_to(&[start], "another round");
    }

    /// Whether TF, set at state number `index`, traps in ring 0 after the next instruction: not if that goes to or
    /// comes from ring 3, or loads the flags, or is an IRETQ that faults. Of Rust code, only the path is known.
    fn traps(&self, trip: &Trip, index: usize) -> bool {
        let [here, next] = [&trip.states[index], &trip.states[index + 1]];
        let inside = |state: &CpuState| state.level() == 0 && self.text.holds(state.rip);
        let loads_flags = [&self.text.ends, &self.text.loads_flags];
        let loads_flags = loads_flags.into_iter().flatten().any(|address| *address == here.rip);
        inside(here) && inside(next) && !loads_flags
    }

    /// One trip for each boundary, disturbed there. Returns how many there were.
    ///
    /// # Panics
    ///
    /// When any state is another one than it should be.
    pub fn disturb_everywhere(&mut self, trip: &Trip, event: Event) -> usize {
        let mut boundaries = self.boundaries(trip);
        if event == Event::Debug {
            boundaries.retain(|index| self.traps(trip, *index));
        }
        for index in &boundaries {
            self.go_to(trip, *index);
            self.disturb(event, trip, *index);
            self.leave_ring_3(*index);
            let place = self.text.name(trip.states[*index].rip);
            self.finish(trip, &format!("an {event} at {place}"));
        }
        boundaries.len()
    }
}
