//! Where the kernel's symbols are in this guest: the slide between addresses as linked and as found, by vote.
//!
//! ```text
//!   target of a gate  -  symbol with the same low bits  =  a candidate for the slide
//! ```
//!
//! Every known way into the kernel (gates, SYSCALL) votes for each slide that would put a symbol exactly at its
//! target. First slides by whole 2 MiB, as Linux randomises, then by whole pages. A kernel may copy its entry text
//! elsewhere: then the ways in vote for the copy, and the image is tried where it was linked. No vote, no slide.

use std::collections::{HashMap, HashSet};

use crate::names::symbols::Symbols;
use crate::tables::Tables;

/// How the kernel may move: by whole large pages, or by whole pages.
const STEPS: [u64; 2] = [1 << 21, 1 << 12];
/// At least this many targets have to agree.
const VOTES_LEAST: usize = 3;
/// Targets that vote, and candidates that one target may name.
const TARGETS_MOST: usize = 512;
const CANDIDATES_MOST: usize = 4096;
/// Slides that are looked at more closely.
const RANKED: usize = 64;
/// So many targets at equal distances, no more than so many bytes, are stubs.
const ROW: usize = 8;
const STUB: u64 = 16;
/// Symbols looked at to see whether the image is where it was linked.
const SAMPLES: usize = 64;

/// Where symbols are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slide {
    /// What to add to a symbol's address, for the kernel image; wraps. `None` if the image is not where any vote puts it.
    pub image: Option<u64>,
    /// The same for the entry text, which may be a copy.
    pub entry: Option<u64>,
    /// How many ways in have a symbol exactly at their target.
    pub votes: usize,
    /// How many were asked.
    pub of: usize,
}

/// Finds the slide from targets of gates and SYSCALL. `kernel` is the memory that the kernel sees.
pub fn vote(symbols: &Symbols, targets: &[u64], kernel: &Tables) -> Slide {
    let targets = irregular(targets);
    let best = STEPS.iter().find_map(|step| best(symbols, &targets, *step, kernel));
    let fits = |slide: u64| image_fits(symbols, slide, kernel);
    let image = best.map(|(slide, _)| slide).filter(|slide| fits(*slide));
    Slide {
        image: image.or_else(|| fits(0).then_some(0)),
        entry: best.map(|(slide, _)| slide),
        votes: best.map_or(0, |(_, votes)| votes),
        of: targets.len(),
    }
}

/// The targets without long rows of stubs at equal distances: such a row fits any table of symbols with the same step.
fn irregular(targets: &[u64]) -> Vec<u64> {
    let mut targets: Vec<u64> = targets.to_vec();
    targets.sort_unstable();
    targets.dedup();
    targets.truncate(TARGETS_MOST);
    let mut kept = Vec::new();
    let mut rest = &targets[..];
    while let [first, ..] = rest {
        let step = rest.get(1).map_or(0, |second| second - first);
        let row = 1 + rest.windows(2).take_while(|pair| pair[1] - pair[0] == step).count();
        if row < ROW || step > STUB {
            kept.push(*first);
            rest = &rest[1..];
        } else {
            rest = &rest[row..];
        }
    }
    kept
}

/// The slide by a multiple of `step` that most targets vote for, if it stands out. Of several the one at which the
/// image is.
fn best(symbols: &Symbols, targets: &[u64], step: u64, kernel: &Tables) -> Option<(u64, usize)> {
    let wanted: HashSet<u64> = targets.iter().map(|target| target % step).collect();
    let mut by_low_bits: HashMap<u64, Vec<u64>> = HashMap::new();
    for (address, _) in symbols.iter().filter(|symbol| wanted.contains(&(symbol.0 % step))) {
        let list = by_low_bits.entry(address % step).or_default();
        if list.len() < CANDIDATES_MOST && list.last() != Some(&address) {
            list.push(address);
        }
    }
    let mut votes: HashMap<u64, usize> = HashMap::new();
    for target in targets {
        let candidates = by_low_bits.get(&(target % step));
        for address in candidates.into_iter().flatten() {
            *votes.entry(target.wrapping_sub(*address)).or_default() += 1;
        }
    }
    let mut ranked: Vec<(usize, u64)> =
        votes.into_iter().map(|(slide, votes)| (votes, slide)).collect();
    // Most votes first, then the smallest move: what a hash table gives first is chance.
    ranked.sort_unstable_by_key(|(votes, slide)| {
        (std::cmp::Reverse(*votes), (*slide as i64).unsigned_abs(), *slide)
    });
    ranked.truncate(RANKED);
    let fitting: Vec<(usize, u64)> =
        ranked.iter().copied().filter(|(_, slide)| image_fits(symbols, *slide, kernel)).collect();
    // Rows of symbols at equal distances get votes from rows of targets: where the image then cannot be does not count.
    let ranked = if fitting.is_empty() { ranked } else { fitting };
    let (most, slide) = *ranked.first()?;
    // Chance puts a few symbols at any distance. The right one stands out.
    let second = ranked.get(1).map_or(0, |other| other.0);
    let stands_out = most >= VOTES_LEAST && most >= 2 * second;
    stands_out.then_some((slide, most))
}

/// Whether most of a sample of the symbols is supervisor memory at this slide. Not all: what was needed for booting
/// only may be gone.
fn image_fits(symbols: &Symbols, slide: u64, kernel: &Tables) -> bool {
    let step = (symbols.len() / SAMPLES).max(1);
    let sample: Vec<u64> = symbols.iter().step_by(step).map(|symbol| symbol.0).collect();
    let mapped =
        sample.iter().filter(|address| kernel.is_supervisor(address.wrapping_add(slide))).count();
    mapped * 4 > sample.len() * 3
}
