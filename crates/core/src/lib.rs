//! Kernel page-table isolation as data.
#![no_std]
#![forbid(unsafe_code)]
