//! Kernel page-table isolation for any x86-64 Rust kernel.
#![no_std]
