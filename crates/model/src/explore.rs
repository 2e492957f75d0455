//! Every state that a machine can reach, breadth first, and the shortest way to the first bad one.
//!
//! Invariant: a state is looked at once, and no state is left out: what the search answers holds for all
//! interleavings of the machine's steps.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::{self, Display};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Something that makes steps.
pub trait Machine {
    /// All there is to know of it between two steps.
    type State: Copy + Eq + Hash;
    /// What happened in a step, for people.
    type Step: Display;

    /// Where it begins.
    fn start(&self) -> Self::State;
    /// Gives `each` every step that is possible, and the state after it.
    fn steps(&self, state: &Self::State, each: &mut dyn FnMut(Self::Step, Self::State));
    /// Of all states that behave like this one, the one that stands for them.
    fn representative(&self, state: &Self::State) -> Self::State;
    /// What is wrong with a state.
    fn fault(&self, state: &Self::State) -> Option<String>;
    /// Whether it may stay for ever in a state that no step leads out of.
    fn may_end(&self, state: &Self::State) -> bool;
}

/// How a machine gets where it must not.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What was done, in order.
    pub steps: Vec<String>,
    /// What is wrong then.
    pub fault: String,
}

impl Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "{number:3}  {step}")?;
        }
        write!(f, "     {}", self.fault)
    }
}

/// Looks at every state; gives how many there are.
///
/// # Errors
///
/// A shortest [`Trace`] to a state with a fault, or to one that no step leads out of and that is no end.
pub fn explore<M: Machine>(machine: &M) -> Result<usize, Box<Trace>> {
    let mut numbers: HashMap<M::State, u32, BuildHasherDefault<Multiply>> = HashMap::default();
    // Each state, and the number of the one it was found from.
    let start = machine.representative(&machine.start());
    let mut found = vec![(start, 0)];
    numbers.insert(start, 0);
    let mut next = 0;
    while let Some(&(state, _)) = found.get(next) {
        let mut count = 0;
        machine.steps(&state, &mut |_, after| {
            count += 1;
            let after = machine.representative(&after);
            if let Entry::Vacant(place) = numbers.entry(after) {
                place.insert(found.len() as u32);
                found.push((after, next as u32));
            }
        });
        let stuck = count == 0 && !machine.may_end(&state);
        let stuck = stuck.then(|| "nothing can go on".to_owned());
        if let Some(fault) = machine.fault(&state).or(stuck) {
            return Err(Box::new(Trace { steps: way_to(machine, &found, next), fault }));
        }
        next += 1;
    }
    Ok(found.len())
}

/// The steps that lead to a state, or to one that it stands for: taken for real, so that names stay what they are.
fn way_to<M: Machine>(machine: &M, found: &[(M::State, u32)], mut number: usize) -> Vec<String> {
    let mut way = Vec::new();
    while number != 0 {
        way.push(found[number].0);
        number = found[number].1 as usize;
    }
    let mut state = machine.start();
    let mut steps = Vec::new();
    for next in way.into_iter().rev() {
        let mut taken = None;
        machine.steps(&state, &mut |step, after| {
            if taken.is_none() && machine.representative(&after) == next {
                taken = Some((step.to_string(), after));
            }
        });
        let (step, after) = taken.expect("what stands for a state makes the same steps");
        steps.push(step);
        state = after;
    }
    steps
}

/// A quick hash for small states: the standard one takes longer than a step.
#[derive(Default)]
pub struct Multiply(u64);

impl Hasher for Multiply {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 29;
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0xff51_afd7_ed55_8ccd)
    }
}
