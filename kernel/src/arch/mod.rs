//! The machine: CPU features, interrupts, clocks, the serial line.

pub mod acpi;
pub mod apic;
pub mod clock;
pub mod cpu;
pub mod features;
pub mod fpu;
pub mod frames;
pub mod ipi;
pub mod isolation;
pub mod machine_check;
pub mod msr;
mod ports;
pub mod processors;
pub mod random;
pub mod selectors;
pub mod serial;
pub mod smap;
pub mod smp;
pub mod traps;
mod umip;
