//! An event inside an event: after each instruction of an NMI's way in, its handler and its way out, a machine
//! check; and the other way round.
//!
//! While an NMI runs, another one is sent and stays pending: NMIs are masked until the IRETQ that ends the
//! first. If an IRET of the machine check's let it in earlier, its gate would be the next instruction (SDM
//! vol. 3, 6.7.1).

use std::collections::BTreeSet;

use ringwall_emulator::CpuState;

use super::{Event, Trip, Watch, text};

/// More instructions than an event's way and handler take.
const LONGEST: usize = 10_000;
/// Every which instruction of a handler is disturbed. Of the entry text each one is.
const RUST_STRIDE: usize = 8;

impl Watch {
    /// At state number `index` of a trip: delivers `outer`, and after each of its instructions `inner`, once; then
    /// lets the trip end. Returns how many were delivered.
    ///
    /// # Panics
    ///
    /// When anything is not as it was before, or an NMI arrives inside an NMI.
    pub fn nest(&mut self, trip: &Trip, index: usize, outer: Event, inner: Event) -> usize {
        self.go_to(trip, index);
        let before = self.state();
        let mut state = self.deliver(outer);
        if outer == Event::Nmi {
            self.running.guest.monitor.inject_nmi().expect("a monitor that answers");
        }
        let mut path: Vec<CpuState> = Vec::new();
        let mut disturbed = BTreeSet::new();
        loop {
            let in_text = self.text.holds(state.rip);
            let chosen = in_text || path.len().is_multiple_of(RUST_STRIDE);
            // A resumed instruction comes a second time.
            if chosen && disturbed.insert(state.rip) {
                self.deliver(inner);
                let after = self.finish_event(inner);
                let what = format!("{inner} in an {outer}'s own code");
                self.compare_interrupted(&what, &path, &state, &after);
                state = after;
            }
            let last = self.text.ends.contains(&state.rip);
            let place = self.describe(&state);
            path.push(state);
            assert!(path.len() < LONGEST, "way {}: an {outer} has no end", self.way);
            state = self.step_with_events();
            // The first IRETQ is the NMI's end; the next one is not in yet.
            self.check_masked(outer, &state, &place);
            if last {
                break;
            }
        }
        let earlier = &trip.states[..index];
        self.compare_interrupted(&outer.to_string(), earlier, &before, &state);
        if outer == Event::Nmi {
            self.take_pending(&state, earlier);
        }
        self.leave_ring_3(index);
        let place = self.text.name(before.rip);
        self.finish(trip, &format!("{inner} inside an {outer} at {place}"));
        disturbed.len()
    }

    /// The NMI that was sent during another one has to arrive now.
    fn take_pending(&mut self, before: &CpuState, earlier: &[CpuState]) {
        let gate = self.text.gate(text::NMI);
        let arrived = self.step_with_events().rip == gate;
        assert!(arrived, "way {}: an NMI that came during another one is lost", self.way);
        let after = self.finish_event(Event::Nmi);
        self.compare_interrupted("NMI after an NMI", earlier, before, &after);
    }

    /// Checks that no NMI arrived while `running` runs, if that is one.
    fn check_masked(&self, running: Event, state: &CpuState, place: &str) {
        let unmasked = running == Event::Nmi && state.rip == self.text.gate(text::NMI);
        assert!(!unmasked, "way {}: {} at {place}", self.way, super::UNMASKED);
    }
}
