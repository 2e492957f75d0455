//! What the fuzz targets do with their bytes, apart from libFuzzer, so that host tests can replay the seeds.
//!
//! `cargo xtask fuzz` builds and runs the targets with stable Rust; `seeds/TARGET` holds small inputs to begin with.

pub mod core;
pub mod monitor;
pub mod tables;
