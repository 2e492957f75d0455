//! Ringwall's tasks.
fn main() {}
