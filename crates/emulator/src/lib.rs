//! QEMU and Bochs, driven from Rust.
//!
//! A [`Machine`] describes a guest; [`Machine::start`] makes it a running [`Guest`] with
//!
//! - a [`Process`] that cannot outlive its time limit, its `Guest`, or this program,
//! - a [`Console`]: the first serial port, recorded as it comes,
//! - a [`Monitor`]: QMP over a socket pair, so nothing is left in the file system,
//! - a [`GuestMemory`]: the guest's RAM, readable from outside while the guest runs or is stopped,
//! - a [`Stub`], if asked for: the gdb stub, for single steps.
//!
//! Guests that somebody else started are [`Attached`] to; a [`Core`] or a [`Raw`] image is read as a guest's memory; a
//! [`Launched`] QEMU has its user's own arguments.
//!
//! A [`Bochs`] guest boots a PC's way, from a CD with GRUB, and is seen only by its serial port.
//!
//! [`Initramfs`] builds the newc archives that guests boot from, byte for byte the same each time.
//!
//! ```text
//!   Machine --start--> Guest
//!                       |- Process   watchdog thread: spawns, limits, kills, reaps
//!                       |- Console   reader thread: stdout of QEMU
//!                       |- Monitor   socket pair: QMP
//!                       |- GuestMemory   memfd shared with QEMU
//!                       '- Stub          socket pair: gdb's remote protocol
//! ```
//!
//! The crate knows nothing of Ringwall's kernel: any x86-64 guest will do.

mod attach;
mod bochs;
mod connection;
mod console;
mod dump;
mod error;
mod guest;
mod initramfs;
mod launch;
mod machine;
mod memory;
mod monitor;
mod process;
mod ranges;
mod registers;
mod stub;

pub use attach::{Attached, AttachedMemory, Held, Restorer};
pub use bochs::{Bochs, Ending, Model};
pub use connection::Connection;
pub use console::Console;
pub use dump::{Core, DumpError, Raw};
pub use error::Error;
pub use guest::{Exit, Guest};
pub use initramfs::Initramfs;
pub use launch::Launched;
pub use machine::{INTEL_CPU, Machine};
pub use memory::GuestMemory;
pub use monitor::Monitor;
pub use process::{Ended, Process};
pub use ranges::MemoryRange;
pub use registers::{Registers, Table};
pub use stub::{CpuState, GENERAL, RSP, Stub};

/// The program that a [`Machine`]'s guest runs in.
pub const QEMU: &str = "qemu-system-x86_64";

/// A guest's physical memory, whatever it is read from.
pub trait Memory {
    /// Fills `buffer` from physical `address`; false, and an unspecified buffer, if any of it is not memory.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// Whether all of these addresses are memory, without reading it.
    fn holds(&self, address: u64, bytes: u64) -> bool;
}
