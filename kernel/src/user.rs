//! Access to a program's memory, with faults as errors.
//!
//! Invariant: user memory is touched nowhere else; SMAP is lifted here alone; no spin lock is held.

use crate::errno::Result;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Copies `into.len()` bytes from user address `from`.
///
/// # Errors
/// `EFAULT` if any byte is outside user memory or cannot be read.
pub fn read_bytes(_from: u64, _into: &mut [u8]) -> Result<()> {
    todo!()
}

/// Copies `from` to user address `to`.
///
/// # Errors
/// `EFAULT` if any byte is outside user memory or cannot be written.
pub fn write_bytes(_to: u64, _from: &[u8]) -> Result<()> {
    todo!()
}

/// Reads one value.
///
/// # Errors
/// `EFAULT`.
pub fn read<T: FromBytes>(_from: u64) -> Result<T> {
    todo!()
}

/// Writes one value.
///
/// # Errors
/// `EFAULT`.
pub fn write<T: IntoBytes + Immutable>(_to: u64, _value: &T) -> Result<()> {
    todo!()
}

/// Reads a NUL-terminated string of at most `limit` bytes, NUL excluded.
///
/// # Errors
/// `EFAULT`; `ENAMETOOLONG` if there is no NUL within `limit`.
pub fn read_string(_from: u64, _limit: usize) -> Result<alloc::vec::Vec<u8>> {
    todo!()
}
