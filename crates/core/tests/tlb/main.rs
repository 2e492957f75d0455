//! The flush planner against the worst TLB there can be: it caches every translation that the loaded root has, and every
//! upper entry on the way there, at once, in both halves of every PCID, and forgets none that nothing flushed.
//!
//! Three CPUs map and unmap (programs' pages, the table that they share, pages of the kernel half that are global
//! without PCID), switch, rest, go to user mode and come back, isolated and open, in any order; spaces end; messages to
//! other CPUs arrive whenever they like. A frame is free once every CPU that was told has answered. From then on no CPU
//! may run with a way to it; nor to any page in whose place there is another one now. What is broken on purpose has to be
//! found.

mod breaks;
mod machine;
mod memory;
mod steps;
mod world;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use ringwall_core::tlb::Features;

use breaks::Break;
use world::World;

/// Looks for a fault in `cases` stories; of the first one it finds it makes the shortest that it can, unless the fault is
/// there on purpose.
fn search(features: Features, broken: Break, cases: u32) -> Result<(), String> {
    let max_shrink_iters = if broken == Break::None { u32::MAX } else { 0 };
    let config = Config { cases, max_shrink_iters, failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::XorShift));
    let result = runner.run(&steps::steps(), |steps| {
        let mut world = World::new(features, broken);
        steps.into_iter().try_for_each(|step| world.step(step)).map_err(TestCaseError::fail)
    });
    result.map_err(|error| error.to_string())
}

#[test]
fn no_stale_translation_is_used() {
    for number in 0..8 {
        let features =
            Features { pcid: number & 1 != 0, invpcid: number & 2 != 0, isolated: number & 4 != 0 };
        search(features, Break::None, 300).unwrap_or_else(|error| panic!("{features:?}: {error}"));
    }
}
