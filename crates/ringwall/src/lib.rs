//! Kernel page-table isolation for any x86-64 Rust kernel.
#![no_std]

pub mod frame;
pub use frame::Frame;

/// GDT selector of 64-bit user code (RPL 3).
pub const USER_CODE_SELECTOR: u16 = 0x33;
/// GDT selector of user data and stack (RPL 3).
pub const USER_DATA_SELECTOR: u16 = 0x2b;

/// One process's pair of roots.
pub struct AddressSpace;
