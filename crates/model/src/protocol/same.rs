//! States that behave alike are one state.
//!
//! Two reasons make the space small enough to be searched whole; neither leaves a behaviour out:
//!
//! - CPUs have no names in the protocol: of the six ways to number three CPUs, the least counts.
//! - What can make no difference any more is put to one value: an obligation to flush a half of a PCID that holds
//!   nothing, say.

use super::settings::{Break, Settings, item};
use super::state::{A, At, CPUS, Cpu, Late, Slot, State, Then};

const ORDERS: [[usize; CPUS]; 6] =
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

impl State {
    /// The one that stands for all that behave as this one.
    pub(super) fn representative(mut self, settings: &Settings) -> State {
        for cpu in &mut self.cpus {
            cpu.drop_what_makes_no_difference(self.generation, settings);
        }
        // An interrupt that finds nothing does nothing.
        self.boxes.iter_mut().for_each(|mailbox| mailbox.interrupt &= mailbox.asked_by != 0);
        ORDERS.iter().map(|order| self.renumbered(order)).min().unwrap_or(self)
    }

    /// CPU `cpu` becomes number `order[cpu]`.
    fn renumbered(&self, order: &[usize; CPUS]) -> State {
        let set = |set: u8| (0..CPUS).fold(0, |all, cpu| all | (set >> cpu & 1) << order[cpu]);
        let mut other = *self;
        (other.loaded, other.resting) = (set(self.loaded), set(self.resting));
        other.online = set(self.online);
        if self.lock != 0 {
            other.lock = order[usize::from(self.lock - 1)] as u8 + 1;
        }
        for (cpu, place) in order.iter().enumerate() {
            other.cpus[*place] = self.cpus[cpu];
            other.cpus[*place].at = match self.cpus[cpu].at {
                At::Taken { targets } => At::Taken { targets: targets.map(set) },
                At::Retired { targets } => At::Retired { targets: targets.map(set) },
                At::Late(Late::Read(then)) => At::Late(Late::Read(renumber(then, set))),
                At::Late(Late::Flush(letter, left, back)) => {
                    At::Late(Late::Flush(letter, set(left), back))
                }
                At::Sending(left) => At::Sending(set(left)),
                At::Serving { left, back } => At::Serving { left: set(left), back },
                At::Reading(then) => At::Reading(renumber(then, set)),
                At::Flushing(then) => At::Flushing(renumber(then, set)),
                at => at,
            };
            other.boxes[*place] = self.boxes[cpu];
            other.boxes[*place].waits_for = set(self.boxes[cpu].waits_for);
            other.boxes[*place].asked_by = set(self.boxes[cpu].asked_by);
        }
        other
    }
}

fn renumber(then: Then, set: impl Fn(u8) -> u8) -> Then {
    match then {
        Then::Answer { sender, left, back } => {
            let sender = set(1 << sender).trailing_zeros() as u8;
            Then::Answer { sender, left: set(left), back }
        }
        Then::Wait | Then::Kernel => then,
    }
}

impl Cpu {
    fn drop_what_makes_no_difference(&mut self, generation: u8, settings: &Settings) {
        if !settings.pcid {
            // Nothing is remembered of a space that is not loaded.
            if self.space != A {
                self.slots[0] = Slot { space: self.space, ..Slot::default() };
            }
            return;
        }
        let sound = !settings.broken.is_some_and(forgets_to_flush);
        // What its next switch to A compares with.
        let generation = if let At::Loading(read) = self.at { read } else { generation };
        for number in 0..self.slots.len() {
            let is_loaded = number == usize::from(self.loaded);
            let slot = &mut self.slots[number];
            // A half that is flushed before its next use may as well be empty now: nothing fills it until then.
            let due = slot.user_due || is_loaded && self.exit_flush && !self.user;
            if due && sound {
                self.cached[number][1] = 0;
            }
            if !is_loaded && sound && slot.space == A && slot.seen != generation {
                self.cached[number] = [0; 2];
            }
            let [kernel, user] = self.cached[number];
            if user == 0 {
                slot.user_due = false;
                if is_loaded {
                    self.exit_flush = false;
                }
                if kernel == 0 && !is_loaded {
                    // Kept or flushed: nothing is what it will hold.
                    slot.seen = 0;
                }
            }
        }
        if self.slots.iter().all(|slot| slot.space != 0)
            && settings.spaces as usize == self.slots.len()
        {
            // Every space has its slot.
            self.next = 0;
        }
    }
}

/// Whether a PCID may be used without a flush that was due.
fn forgets_to_flush(broken: Break) -> bool {
    use Break::{
        AlwaysKeep, ForgottenDue, LateJoin, LateOnline, OnePcid, OpenTakesMark, UsedSlot, UserHalf,
    };
    matches!(
        broken,
        AlwaysKeep
            | ForgottenDue
            | LateJoin
            | LateOnline
            | OnePcid
            | OpenTakesMark
            | UsedSlot
            | UserHalf
    )
}

/// Whether it makes a difference what a CPU does on `space`: in ring 3, at rest, or in the kernel.
pub(super) fn matters(space: u8, settings: &Settings) -> bool {
    space == A || settings.reuse || settings.items & item::SHARED != 0
}
