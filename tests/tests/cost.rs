//! What operations may cost, in kernel instructions: the bounds that the project promises.
//!
//! Programs' memory is not moved at random (`norandmaps`): where a stack lies in its page table makes some thousand
//! instructions for a thread or a fork, more or less. So a run repeats to the instruction, and the bounds are close.

use std::collections::BTreeMap;
use std::time::Duration;

use ringwall_tests::{Boot, Library, kernel_file};

/// Each operation of `programs/bench.c`, with isolation on: what it took (`bench/runs/2026-11-23/cost.txt`) and two
/// or three in a hundred more, for another compiler's choices.
const BOUNDS: [(&str, u64); 7] = [
    ("getppid", 78),
    ("page-fault", 970),
    ("sigsegv", 1_360),
    ("pipe-pingpong", 2_260),
    ("context-switch", 810),
    ("thread", 7_250),
    ("fork", 48_500),
];

/// The same for a guest with four CPUs, in a hundred of that: a thread that wakes up has to be put somewhere, and a
/// change of memory that two CPUs have known asks whether they still do.
const FOUR_CPUS: u64 = 103;

/// What isolation may add to a system call: what it adds today. None of it is the compiler's choice.
const MORE: u64 = 5;

/// Runs the measuring program; lines read `bench NAME MEDIAN ...`.
fn measure(pti: &str, cpus: u32) -> BTreeMap<String, u64> {
    let boot = Boot::new().pti(pti).cpus(cpus).counted().append("norandmaps");
    let output = boot.limit(Duration::from_secs(240)).program(Library::Glibc, "bench").run();
    output.powered_off();
    let lines = output.serial.lines().filter_map(|line| line.strip_prefix("bench "));
    let costs: BTreeMap<String, u64> = lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect();
    println!("pti={pti}, {cpus} CPUs: {costs:#?}");
    costs
}

/// Compares with the bounds, times `hundredths`.
fn judge(costs: &BTreeMap<String, u64>, hundredths: u64) {
    for (name, bound) in BOUNDS {
        let bound = bound * hundredths / 100;
        let cost = costs.get(name).unwrap_or_else(|| panic!("nothing measured {name}"));
        assert!(*cost <= bound, "{name} takes {cost} instructions, {bound} are allowed");
    }
}

#[test]
fn within_bounds() {
    let isolated = measure("on", 1);
    let open = measure("off", 1);
    if kernel_file().is_none() {
        println!("not our kernel: measured and not compared");
        return;
    }
    judge(&isolated, 100);
    let more = isolated["getppid"].saturating_sub(open["getppid"]);
    assert!(more <= MORE, "isolation adds {more} instructions to getppid, {MORE} are allowed");
}

#[test]
fn within_bounds_on_four_cpus() {
    let isolated = measure("on", 4);
    if kernel_file().is_some() {
        judge(&isolated, FOUR_CPUS);
    }
}
