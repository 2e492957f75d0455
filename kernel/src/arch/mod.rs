//! The machine: CPU features, interrupts, the serial line.

pub mod cpu;
pub mod fpu;
pub mod serial;
