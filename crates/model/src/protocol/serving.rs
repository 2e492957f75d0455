//! The steps of a CPU that is asked: by an interrupt or while it waits, a flush, an answer.

use super::settings::Break;
use super::state::{At, Back, Late, State, Then};
use super::steps::{Steps, bit, lowest};

impl Steps<'_> {
    /// An inter-processor interrupt, where interrupts are on.
    pub(super) fn interrupt(&mut self, back: Back) {
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

    pub(super) fn flush_for(&mut self, left: u8, back: Back) {
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
                let open = state.is_open();
                if state.cpus[cpu].flush(letter, open, &settings) {
                    state.cpus[cpu].at = At::Reading(then);
                } else {
                    state.cpus[cpu].at = follows(then);
                    finish(state, cpu, then);
                }
            });
        }
    }
}

pub(super) fn serving(left: u8, back: Back) -> At {
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

pub(super) fn follows(then: Then) -> At {
    match then {
        Then::Answer { left, back, .. } => serving(left, back),
        Then::Wait => At::Waiting,
        Then::Kernel => At::Kernel,
    }
}

/// What comes with the last step of a flush, because nobody else could tell the two apart.
pub(super) fn finish(state: &mut State, cpu: usize, then: Then) {
    match then {
        Then::Answer { sender, .. } => state.boxes[usize::from(sender)].waits_for &= !bit(cpu),
        Then::Wait => (),
        Then::Kernel => state.cpus[cpu].resting = false,
    }
}
