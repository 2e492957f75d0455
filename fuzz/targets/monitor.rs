//! libFuzzer's entry to [`ringwall_fuzz::monitor`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ringwall_fuzz::monitor::run(bytes));
