//! libFuzzer's entry to [`ringwall_fuzz::core`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringwall_fuzz::core::run(bytes));
