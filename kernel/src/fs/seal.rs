//! Seals of a file in memory, and the mappings that keep one of them off: memfd_create(2), F_ADD_SEALS in fcntl(2).
//!
//! Invariant: with F_SEAL_WRITE there is no shared mapping through which a program may write. Both are one word, so no
//! mapping slips in while the seal is put on.

use super::inode::Inode;
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use linux_raw_sys::general as abi;

/// Seals in the lower half, mappings that may write in the upper one.
pub struct Seals(AtomicU64);

/// One mapping.
const MAPPING: u64 = 1 << 32;

impl Seals {
    /// `seals`, and no mapping.
    pub const fn new(seals: u32) -> Seals {
        Seals(AtomicU64::new(seals as u64))
    }

    /// The seals.
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Acquire) as u32
    }

    /// Changes the word to what `next` gives.
    fn change(&self, next: impl Fn(u64) -> Result<u64>) -> Result<u64> {
        let mut now = self.0.load(Ordering::Acquire);
        loop {
            let new = next(now)?;
            match self.0.compare_exchange(now, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(new),
                Err(other) => now = other,
            }
        }
    }

    /// Puts more on; gives all.
    ///
    /// # Errors
    /// `EPERM` when sealed against sealing, `EBUSY` for F_SEAL_WRITE while a mapping may write.
    pub fn add(&self, seals: u32) -> Result<u32> {
        let all = self.change(|now| {
            if now as u32 & abi::F_SEAL_SEAL != 0 {
                return Err(Errno::EPERM);
            }
            if seals & abi::F_SEAL_WRITE != 0 && now >= MAPPING {
                return Err(Errno::EBUSY);
            }
            Ok(now | u64::from(seals))
        });
        all.map(|all| all as u32)
    }
}

/// A shared mapping through which programs may write, or may be allowed to: all that became of one mmap, by fork too.
pub struct WritableMapping(Arc<dyn Inode>);

impl WritableMapping {
    /// One of `inode`.
    ///
    /// # Errors
    /// `EPERM` if a seal is against it.
    pub fn of(inode: &Arc<dyn Inode>) -> Result<WritableMapping> {
        if let Some(seals) = inode.sealing() {
            let against = u64::from(abi::F_SEAL_WRITE | abi::F_SEAL_FUTURE_WRITE);
            seals.change(
                |now| if now & against == 0 { Ok(now + MAPPING) } else { Err(Errno::EPERM) },
            )?;
        }
        Ok(WritableMapping(inode.clone()))
    }
}

impl Drop for WritableMapping {
    fn drop(&mut self) {
        if let Some(seals) = self.0.sealing() {
            seals.0.fetch_sub(MAPPING, Ordering::AcqRel);
        }
    }
}
