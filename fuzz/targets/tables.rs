//! libFuzzer's entry to [`ringwall_fuzz::tables`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringwall_fuzz::tables::run(bytes));
