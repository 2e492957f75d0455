//! QEMU's monitor, driven from Rust.
