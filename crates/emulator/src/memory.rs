//! The guest's physical memory, read from outside.
//!
//! QEMU maps the guest's RAM from a memfd that both sides hold. Reads here see what the guest has
//! written, at any time; what a *running* guest is about to write may of course differ.
//!
//! ```text
//!   physical address      0 ......... below   (hole: devices)   4 GiB ......... top
//!   offset in the memfd   0 ......... below                     below ......... size
//! ```

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

use crate::Error;

const GIB: u64 = 1 << 30;
/// QEMU's `pc` machine keeps all RAM below the device hole if it is smaller than this ...
const PC_ALL_LOW: u64 = 0xe000_0000;
/// ... and otherwise this much of it.
const PC_LOW: u64 = 3 * GIB;
const HOLE_END: u64 = 4 * GIB;

/// The RAM of one guest of QEMU's `pc` machine.
#[derive(Debug)]
pub struct GuestMemory {
    file: File,
    size: u64,
}

impl GuestMemory {
    /// Makes `size` bytes of zeroed memory for a guest that is about to start.
    pub(crate) fn new(size: u64) -> Result<GuestMemory, Error> {
        let make = || -> Result<OwnedFd, rustix::io::Errno> {
            let memory = rustix::fs::memfd_create("guest memory", MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&memory, size)?;
            Ok(memory)
        };
        let memory = make().map_err(|e| Error::host("make the guest's memory")(e.into()))?;
        Ok(GuestMemory { file: File::from(memory), size })
    }

    /// A second handle, for the process that is to use the memory.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Error> {
        let copy = self.file.try_clone().map_err(Error::host("share the guest's memory"))?;
        Ok(copy.into())
    }

    /// Fills `buffer` from physical address `address`; false, and an unspecified buffer, if any of
    /// it is not RAM.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let length = buffer.len() as u64;
        match file_offset(address, length, self.size) {
            Some(offset) => self.file.read_exact_at(buffer, offset).is_ok(),
            None => false,
        }
    }
}

/// Where in the memory file a range of physical addresses lies, if all of it is RAM.
fn file_offset(address: u64, length: u64, size: u64) -> Option<u64> {
    let low = if size < PC_ALL_LOW { size } else { PC_LOW };
    let end = address.checked_add(length)?;
    if end <= low {
        return Some(address);
    }
    let offset = address.checked_sub(HOLE_END)?.checked_add(low)?;
    (offset.checked_add(length)? <= size).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_memory_is_one_piece() {
        assert_eq!(file_offset(0x1000, 8, GIB), Some(0x1000));
        assert_eq!(file_offset(GIB - 8, 8, GIB), Some(GIB - 8));
        assert_eq!(file_offset(GIB - 4, 8, GIB), None);
        assert_eq!(file_offset(u64::MAX, 8, GIB), None);
    }

    #[test]
    fn large_memory_goes_on_above_the_hole() {
        assert_eq!(file_offset(3 * GIB - 8, 8, 5 * GIB), Some(3 * GIB - 8));
        assert_eq!(file_offset(3 * GIB, 8, 5 * GIB), None);
        assert_eq!(file_offset(4 * GIB, 8, 5 * GIB), Some(3 * GIB));
        assert_eq!(file_offset(6 * GIB - 8, 8, 5 * GIB), Some(5 * GIB - 8));
        assert_eq!(file_offset(6 * GIB, 8, 5 * GIB), None);
    }
}
