//! What operations may cost, in kernel instructions: the bounds that the project promises.

use std::collections::BTreeMap;
use std::time::Duration;

use ringwall_tests::{Boot, Library, kernel_file};

/// Each operation of `programs/bench.c` that has a bound, with isolation on.
const BOUNDS: [(&str, u64); 6] = [
    ("getppid", 80),
    ("page-fault", 2_200),
    ("pipe-pingpong", 4_500),
    ("thread", 20_000),
    ("fork", 130_000),
    ("sigsegv", 1_400),
];

/// What isolation may add to a system call.
const MORE: u64 = 7;

/// Runs the measuring program; lines read `bench NAME MEDIAN ...`.
fn measure(pti: &str) -> BTreeMap<String, u64> {
    let boot = Boot::new().pti(pti).counted().limit(Duration::from_secs(240));
    let output = boot.program(Library::Glibc, "bench").run();
    output.powered_off();
    let lines = output.serial.lines().filter_map(|line| line.strip_prefix("bench "));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect()
}

#[test]
fn within_bounds() {
    let isolated = measure("on");
    println!("isolated: {isolated:#?}");
    let open = measure("off");
    println!("not isolated: {open:#?}");
    if kernel_file().is_none() {
        println!("not our kernel: measured and not compared");
        return;
    }
    for (name, bound) in BOUNDS {
        let cost = isolated.get(name).unwrap_or_else(|| panic!("nothing measured {name}"));
        assert!(*cost <= bound, "{name} takes {cost} instructions, {bound} are allowed");
    }
    let more = isolated["getppid"].saturating_sub(open["getppid"]);
    assert!(more <= MORE, "isolation adds {more} instructions to getppid, {MORE} are allowed");
}
