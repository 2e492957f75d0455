//! Rules of the kernel's interface that are data in and data out: no memory of programs, no locks,
//! no machine. They live here so that the host tests them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod affinity;
pub mod breakpoints;
pub mod calendar;
pub mod chacha;
pub mod cpus;
pub mod futex;
pub mod isolation;
pub mod machine_check;
pub mod memory_map;
pub mod places;
pub mod ports;
pub mod processors;
pub mod script;
pub mod segments;
pub mod stepping;
pub mod umip;
