//! What can user mode see of a kernel? Read from outside, for any x86-64 guest.
//!
//! [`look`] takes a guest's physical memory and the registers of its CPUs, walks both roots that each of them runs
//! under, and says what of the kernel the user's root shows: every page, what it is, what stands in it that leads to
//! memory which only the kernel's root maps, and what is wrong with that.
//!
//! It believes the page tables and nothing else: no symbol, no cooperation of the kernel.
//!
//! - [`look`] is the whole of it: from memory and CPUs to a [`document::Audit`],
//! - `walk` lists what a root maps (Intel SDM vol. 3, 4.5; AMD APM vol. 2, 5.3), [`Tables`] translates an address,
//! - `pair` finds the roots that belong together,
//! - [`names`] says what the pages are, [`contents`] what stands in them, [`findings`] what is wrong with that,
//! - [`expect`] holds what is seen against a file that declares what may be visible,
//! - [`mod@compare`] sets two audits side by side,
//! - [`boots`] says what of it moves with the kernel's random address from boot to boot.

#![forbid(unsafe_code)]

pub mod boots;
pub mod compare;
pub mod contents;
pub mod cpu;
pub mod document;
mod entry;
pub mod expect;
pub mod findings;
mod hex;
mod look;
#[cfg(test)]
mod made_up;
pub mod names;
mod pair;
mod regions;
#[cfg(test)]
mod sound;
#[cfg(test)]
mod synthetic;
mod tables;
mod tell;
mod walk;

pub use compare::{Comparison, compare};
pub use expect::{Accepted, ExpectError, Expectations};
pub use look::{Subject, look};
pub use names::symbols::{SymbolError, Symbols};
pub use tables::{Page, TableCache, Tables};

/// Bit of CR3 that picks the user root of a root pair.
pub const USER_ROOT: u64 = 1 << 12;

/// A guest's physical memory.
pub trait PhysicalMemory {
    /// Fills `buffer` from physical `address`; false if any of it is not memory.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// Whether `bytes` (at least one) from physical `address` on are memory. This default asks at both ends only; who
    /// knows the ranges should say.
    fn holds(&self, address: u64, bytes: u64) -> bool {
        let last = address.checked_add(bytes.saturating_sub(1));
        let mut byte = [0];
        self.read(address, &mut byte) && last.is_some_and(|last| self.read(last, &mut byte))
    }
}

impl<F: Fn(u64, &mut [u8]) -> bool> PhysicalMemory for F {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self(address, buffer)
    }
}

/// Why page tables could not be walked. The guest's tables are at fault, or the CR3 is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No CPU runs with page tables of 64-bit mode.
    #[error(
        "no CPU has page tables of 64-bit mode: the guest has not started its kernel yet, or it is a 32-bit one"
    )]
    NoTables,
    /// The root lies outside of the guest's memory.
    #[error("the root at physical {address:#x} is not in the guest's memory")]
    Root {
        /// Where the root should be.
        address: u64,
    },
}
