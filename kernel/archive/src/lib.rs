//! Reading an initramfs: newc cpio archives and gzip data, sound on any bytes.
//!
//! What comes from a boot loader may be truncated, corrupt or something else altogether. Nothing
//! here panics, recurses or takes memory without being refused; every error says what is wrong and
//! knows where.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod gzip;
mod newc;

pub use gzip::{compression, gunzip};
pub use newc::{Entry, Error, Reader};
