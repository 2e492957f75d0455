//! An event inside an event: after each instruction of an NMI's way in, its handler and its way out, a machine
//! check; and the other way round.
//!
//! While an NMI runs, another one is sent and stays pending: NMIs are masked until the next IRETQ (SDM vol. 3,
//! 6.7.1). If a machine check's let it in while the first is on a stack of its own, its gate would be the next
//! instruction. Once the first has moved to the task stack, on its way out to ring 3, another one may come.

use std::collections::BTreeSet;

use ringwall_emulator::CpuState;

use super::{Event, Text, Trip, Watch, text};

/// More instructions than an event's way and handler take.
const LONGEST: usize = 10_000;
/// Every which instruction of a handler is disturbed. Of the entry text each one is.
const RUST_STRIDE: usize = 32;

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
        let mut stacks = OwnStacks::of(&state);
        let mut pending = outer == Event::Nmi;
        loop {
            stacks.see(&state, &self.text);
            let in_text = self.text.holds(state.rip);
            let chosen = in_text || path.len().is_multiple_of(RUST_STRIDE);
            // A resumed instruction comes a second time.
            let last = self.text.ends.contains(&state.rip);
            // IRETQ loads TF anew; and while an NMI waits that may come, it would come first.
            let traps = inner != Event::Debug || !(last || pending && !stacks.hold(&state));
            if chosen && traps && disturbed.insert(state.rip) {
                self.deliver(inner);
                let after = self.finish_event(inner);
                if inner == Event::Debug {
                    // It came one instruction later.
                    path.push(state);
                    state = after;
                    continue;
                }
                let what = format!("{inner} in an {outer}'s own code");
                self.compare_interrupted(&what, &path, &state, &after);
                state = after;
            }
            assert!(path.len() < LONGEST, "way {}: an {outer} has no end", self.way);
            let here = state.clone();
            path.push(state);
            state = self.step_with_events();
            if pending && self.text.is_gate(text::NMI, state.rip) {
                let place = self.describe(&here);
                let own = stacks.hold(&here);
                assert!(!own, "way {}: {} at {place}", self.way, super::UNMASKED);
                state = self.finish_event(Event::Nmi);
                self.compare_interrupted("NMI after an NMI", &path, &here, &state);
                pending = false;
            } else if last {
                break;
            }
        }
        let earlier = &trip.states[..index];
        self.compare_interrupted(&outer.to_string(), earlier, &before, &state);
        if pending {
            self.take_pending(&state, earlier);
        }
        self.leave_ring_3(index);
        let place = self.text.name(before.rip);
        self.finish(trip, &format!("{inner} inside an {outer} at {place}"));
        disturbed.len()
    }

    /// The NMI that was sent during another one has to arrive now.
    fn take_pending(&mut self, before: &CpuState, earlier: &[CpuState]) {
        let rip = self.step_with_events().rip;
        let arrived = self.text.is_gate(text::NMI, rip);
        assert!(arrived, "way {}: an NMI that came during another one is lost", self.way);
        let after = self.finish_event(Event::Nmi);
        self.compare_interrupted("NMI after an NMI", earlier, before, &after);
    }
}

/// The stacks that an event has for itself: its landing in the stack page, and the one that it goes on on.
struct OwnStacks {
    landing: u64,
    own: Option<u64>,
}

impl OwnStacks {
    const PAGE: u64 = 4096;
    /// At least as much as such a stack has.
    const BYTES: u64 = 16 << 10;

    /// `state` is at the event's first instruction.
    fn of(state: &CpuState) -> OwnStacks {
        OwnStacks { landing: state.rsp(), own: None }
    }

    /// Learns from the next instruction of the event's.
    fn see(&mut self, state: &CpuState, text: &Text) {
        // The handler is called on it.
        if self.own.is_none() && !text.holds(state.rip) {
            self.own = Some(state.rsp());
        }
    }

    fn hold(&self, state: &CpuState) -> bool {
        let page = |address: u64| address & !(OwnStacks::PAGE - 1);
        let near = |own: u64| state.rsp().abs_diff(own) < OwnStacks::BYTES;
        page(state.rsp()) == page(self.landing) || self.own.is_none_or(near)
    }
}
