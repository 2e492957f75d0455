//! The seeds of the fuzz target, once each, without a fuzzer; and made-up inputs of all lengths.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

#[path = "../../../fuzz/src/tables.rs"]
mod tables;

#[test]
fn the_seeds_of_the_tables_target_are_told_without_contradiction() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/tables");
    let mut replayed = 0;
    for seed in fs::read_dir(seeds).expect("the directory of seeds") {
        let seed = seed.expect("an entry of the directory").path();
        println!("{}", seed.display());
        tables::run(&fs::read(&seed).expect("a readable seed"));
        replayed += 1;
    }
    assert!(replayed > 0, "no seeds were found");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_a_guest(bytes in proptest::collection::vec(any::<u8>(), 0..1024)) {
        tables::run(&bytes);
    }
}
