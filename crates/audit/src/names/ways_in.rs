//! Entry text: the executable pages that SYSCALL and the IDT's gates lead to.
//!
//! A stretch of entry text is what lies between its first and its last target, to the end of the last target's
//! 4 KiB page: all of it in one run of executable memory. What is executable beyond has another reason.

use crate::document::{Kind, Region};
use crate::names::gates::{Gate, list, vector_name};
use crate::names::mark::Mark;

const PAGE: u64 = 4096;
/// Targets further apart than this in one run are two stretches: what is between them is something else.
const GAP: u64 = 1 << 14;
/// Vectors listed by name before they are only counted.
const LISTED: usize = 3;

/// Marks the entry text in executable supervisor runs, ascending.
pub fn find(runs: &[Region], gates: &[Gate], syscalls: &[u64]) -> Vec<Mark> {
    let mut targets: Vec<(u64, Option<u8>)> =
        gates.iter().map(|gate| (gate.target, Some(gate.vector))).collect();
    targets.extend(syscalls.iter().map(|target| (*target, None)));
    targets.sort_unstable();
    targets.dedup();

    let runs = || runs.iter().filter(|run| run.rights.executable && !run.rights.user);
    let mut marks = Vec::new();
    for run in runs() {
        let from = targets.partition_point(|(target, _)| *target < run.address);
        let to = targets.partition_point(|(target, _)| *target <= run.last());
        for stretch in targets[from..to].chunk_by(|a, b| b.0 - a.0 <= GAP) {
            let first = stretch[0].0 & !(PAGE - 1);
            let last = stretch[stretch.len() - 1].0 | (PAGE - 1);
            marks.push(Mark::new(first, last - first + 1, Kind::EntryText, words(stretch)));
        }
    }
    // Neither SYSCALL nor the gates are known: what can be executed at all must be the way in.
    if targets.is_empty() {
        let text = |run: &Region| {
            Mark::new(run.address, run.bytes, Kind::EntryText, "executable, most likely entry text")
        };
        marks.extend(runs().map(text));
    }
    marks
}

/// Which ways in there are: `entry text (SYSCALL, 256 vectors)`.
fn words(stretch: &[(u64, Option<u8>)]) -> String {
    let mut vectors: Vec<u8> = stretch.iter().filter_map(|(_, vector)| *vector).collect();
    vectors.sort_unstable();
    vectors.dedup();
    let mut ways = Vec::new();
    if stretch.iter().any(|(_, vector)| vector.is_none()) {
        ways.push("SYSCALL".to_string());
    }
    match vectors.len() {
        0 => {}
        few if few <= LISTED => ways.extend(vectors.into_iter().map(vector_name)),
        many => ways.push(format!("{many} vectors")),
    }
    format!("entry text ({})", list(&ways))
}
