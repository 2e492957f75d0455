//! Kernel page-table isolation for any x86-64 Rust kernel.
//!
//! Under a user root, user mode's page tables show nothing of the kernel but the entry area: 8 KiB
//! shared by all CPUs and 8 KiB for each. All code between ring 3 and your Rust is here.
//!
//! # For a kernel author
//!
//! 1. Implement [`Frames`] for your frame allocator and direct map.
//! 2. Implement [`Handlers`]: plain functions that get a [`Frame`] by reference.
//! 3. At boot: decide by [`policy`], call [`Isolation::new`] once, [`Isolation::make_cpu`] and
//!    [`Cpu::activate`] for each CPU.
//! 4. For each process: an [`AddressSpace`]. For each context switch: [`switch_to`].
//! 5. To run a program: [`Frame::new_user`] and [`return_to_user`].
//! 6. To take something out of a program's tables: [`AddressSpace::retire`], and each of [`Shootdown::targets`]
//!    calls [`flush()`] before the frames are free.
//!
//! `examples/minimal` is a whole kernel made of the first five, `docs/integration.md` tells all.
//!
//! # Reading order
//!
//! [`entry`] (the theory), [`entry::layout`], [`entry::windows`], the `.s` files, then [`isolation`],
//! [`cpu`] and [`address_space`].
//!
//! # Panics
//!
//! Only where stated, and only for a caller's mistake. The library has no global state: all of it is
//! in the values you hold and in the entry area.
#![no_std]

#[cfg(test)]
extern crate self as ringwall;
#[cfg(test)]
extern crate std;

#[cfg(test)]
#[allow(dead_code, reason = "others use the rest of it")]
#[path = "../tests/host/mod.rs"]
mod host;

pub mod address_space;
pub mod breaks;
pub mod counters;
pub mod cpu;
pub mod current;
pub mod descriptors;
pub mod entry;
pub mod flush;
pub mod frame;
pub mod frames;
pub mod handlers;
pub mod isolation;
pub mod ldt;
mod paranoid;
pub mod setup;
mod tables;
pub mod user_mapped;

pub use address_space::AddressSpace;
pub use counters::Counters;
pub use cpu::{Cpu, CpuError, Stacks};
pub use current::{
    SyscallHandler, Way, leave, local_word, reload_ldt, return_to_user, set_local_word,
    set_syscall_handler, set_thread_segments, set_way, switch_to,
};
pub use descriptors::{USER_CODE_32_SELECTOR, USER_CODE_SELECTOR, USER_DATA_SELECTOR};
pub use flush::{Shootdown, flush, flush_kernel, rest};
pub use frame::Frame;
pub use frames::Frames;
pub use handlers::{DoubleFault, Handlers};
pub use isolation::Isolation;
pub use ldt::Ldt;
pub use ringwall_core as core;
pub use ringwall_core::policy;
pub use setup::{Setup, SetupError};
pub use tables::MapError;
