//! The seeds of the fuzz targets `core` and `monitor`, once each and cut short, without a fuzzer.

use std::fs;
use std::path::Path;

#[path = "../../../fuzz/src/core.rs"]
mod core;
#[path = "../../../fuzz/src/monitor.rs"]
mod monitor;

/// Gives each seed of a target to it, whole and in parts.
fn replay(target: &str, step: usize, run: fn(&[u8])) {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut replayed = 0;
    for seed in fs::read_dir(seeds).expect("the directory of seeds") {
        let bytes = fs::read(seed.expect("a seed").path()).expect("a seed");
        for length in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            run(&bytes[..length]);
        }
        replayed += 1;
    }
    assert!(replayed > 0, "no seeds were found");
}

#[test]
fn the_seeds_of_the_core_target_are_told_without_contradiction() {
    replay("core", 7, core::run);
}

#[test]
fn the_seeds_of_the_monitor_target_end_soon() {
    replay("monitor", 101, monitor::run);
}
