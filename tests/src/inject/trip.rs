//! One undisturbed round trip, and the disturbed ones that are compared with it.

use std::collections::{BTreeMap, BTreeSet};

use ringwall_emulator::CpuState;

use super::{Event, USER_ROOT, Watch, differences};

/// More instructions than any way takes.
const LONGEST: usize = 60_000;
/// How many instructions of Rust code are disturbed on a way.
const SAMPLES: usize = 6;
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
        let mut states = vec![self.state()];
        states.push(self.go_in());
        loop {
            let state = self.step();
            let back = state.level() == 3;
            if !back && state.cr3 & USER_ROOT != 0 {
                let place = self.describe(&state);
                assert!(self.text.holds(state.rip), "way {}: ring 0 is at {place}", self.way);
            }
            if !back && state.cr3 & USER_ROOT == 0 && self.text.ends.is_empty() {
                self.text.read_ends(&mut self.running.guest);
            }
            states.push(state);
            assert!(states.len() < LONGEST, "way {}: no way back to ring 3", self.way);
            if back {
                break;
            }
        }
        Trip { repeats: vec![true; states.len()], states }
    }

    /// From the beginning of a round into ring 0.
    fn go_in(&mut self) -> CpuState {
        if self.way == TICK {
            let gates: Vec<u64> = self.text.interrupt_gates().collect();
            return self.run_to(&gates, "a tick");
        }
        let state = self.step();
        assert!(state.level() == 0, "way {}: it does not go into the kernel", self.way);
        state
    }

    /// The indices of one state of each kind: ring 3, every instruction of ring 0 under the user root, one just inside
    /// the kernel's view and one of Rust code.
    pub fn kinds(&self, trip: &Trip) -> Vec<usize> {
        let boundaries = self.boundaries(trip);
        let at = |index: &usize| &trip.states[*index];
        let kernel = |index: &&usize| at(index).cr3 & USER_ROOT == 0;
        let rust = |index: &&usize| !self.text.holds(at(index).rip);
        let mut result: Vec<usize> =
            boundaries.iter().filter(|index| !kernel(index)).copied().collect();
        let first_inside = boundaries.iter().find(|index| kernel(index) && !rust(index));
        result.extend(first_inside);
        result.extend(boundaries.iter().filter(|index| kernel(index)).find(rust));
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
        let distance = (once.len() / SAMPLES).max(1);
        let samples = once.into_iter().skip(distance / 2).step_by(distance);
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

    /// One trip for each boundary, disturbed there. Returns how many there were.
    ///
    /// # Panics
    ///
    /// When any state is another one than it should be.
    pub fn disturb_everywhere(&mut self, trip: &Trip, event: Event) -> usize {
        let boundaries = self.boundaries(trip);
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
