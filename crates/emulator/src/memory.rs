//! The guest's physical memory, read from outside.
//!
//! QEMU maps the guest's RAM from a memfd that both sides hold. Reads here see what the guest has
//! written, at any time; what a *running* guest is about to write may of course differ. Which physical addresses the
//! RAM stands at is the machine's own business (part of it goes above 4 GiB, how much depends on the machine and on
//! its size), so it is asked for and not computed:
//!
//! ```text
//!   physical address      0 ......... low   (hole: devices)   4 GiB ......... top
//!   offset in the memfd   0 ......... low                     low ......... size
//! ```

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;

use crate::ranges::{self, MemoryRange};
use crate::{Error, Memory};

/// The RAM of one guest, shared with its emulator.
#[derive(Debug)]
pub struct GuestMemory {
    file: File,
    size: u64,
    ranges: Vec<MemoryRange>,
}

impl GuestMemory {
    /// What QEMU is told to call this memory.
    const NAME: &str = "shared-ram";

    /// Makes `size` bytes of zeroed memory for a guest that is about to start.
    pub(crate) fn new(size: u64) -> Result<GuestMemory, Error> {
        let make = || -> Result<OwnedFd, rustix::io::Errno> {
            let memory = rustix::fs::memfd_create("guest memory", MemfdFlags::CLOEXEC)?;
            rustix::fs::ftruncate(&memory, size)?;
            Ok(memory)
        };
        let memory = make().map_err(|e| Error::host("make the guest's memory")(e.into()))?;
        Ok(GuestMemory { file: File::from(memory), size, ranges: Vec::new() })
    }

    /// A second handle, for the process that is to use the memory.
    pub(crate) fn duplicate(&self) -> Result<OwnedFd, Error> {
        let copy = self.file.try_clone().map_err(Error::host("share the guest's memory"))?;
        Ok(copy.into())
    }

    /// QEMU's arguments that make this the guest's RAM; the process inherits `handle`.
    pub(crate) fn arguments(&self, handle: &OwnedFd) -> [String; 4] {
        let (name, size, number) = (GuestMemory::NAME, self.size, handle.as_raw_fd());
        let place = format!("share=on,mem-path=/proc/self/fd/{number}");
        [
            "-object".into(),
            format!("memory-backend-file,id={name},size={size},{place}"),
            "-machine".into(),
            format!("memory-backend={name}"),
        ]
    }

    /// Says where the RAM stands. Before that, nothing is memory.
    pub(crate) fn lay_out(&mut self, ranges: &[MemoryRange]) {
        let mine = |range: &&MemoryRange| {
            let end = range.offset + (range.end - range.start);
            range.name == GuestMemory::NAME && end <= self.size
        };
        self.ranges = ranges.iter().filter(mine).cloned().collect();
    }

    /// Fills `buffer` from physical address `address`; false, and an unspecified buffer, if any of
    /// it is not RAM.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else { return false };
            let Some(range) = ranges::find(&self.ranges, at) else { return false };
            let length = (range.end - at).min((buffer.len() - done) as u64) as usize;
            let part = &mut buffer[done..done + length];
            if self.file.read_exact_at(part, range.offset + (at - range.start)).is_err() {
                return false;
            }
            done += length;
        }
        true
    }
}

impl Memory for GuestMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        GuestMemory::read(self, address, buffer)
    }

    fn holds(&self, address: u64, bytes: u64) -> bool {
        ranges::hold(&self.ranges, address, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// 5 GiB, 2 of them below 4 GiB, as q35 has it. Every GiB begins with its number.
    fn memory() -> GuestMemory {
        let mut memory = GuestMemory::new(5 * GIB).expect("memory");
        for index in 0..5 {
            memory.file.write_all_at(&[index as u8], index * GIB).expect("a write");
        }
        let range =
            |start, end, name: &str, offset| MemoryRange { start, end, name: name.into(), offset };
        memory.lay_out(&[
            range(0, GIB, GuestMemory::NAME, 0),
            range(GIB, 2 * GIB, GuestMemory::NAME, GIB),
            range(4 * GIB - 0x1000, 4 * GIB, "pc.bios", 0),
            range(4 * GIB, 7 * GIB, GuestMemory::NAME, 2 * GIB),
            range(8 * GIB, 16 * GIB, GuestMemory::NAME, 0),
        ]);
        memory
    }

    #[test]
    fn each_address_is_read_from_its_place() {
        let memory = memory();
        let first = |address| {
            let mut byte = [0xff];
            memory.read(address, &mut byte).then_some(byte[0])
        };
        assert_eq!([first(0), first(GIB), first(4 * GIB)], [Some(0), Some(1), Some(2)]);
        assert_eq!(first(6 * GIB), Some(4));
        assert_eq!([first(2 * GIB), first(7 * GIB), first(u64::MAX)], [None; 3]);
        assert_eq!(first(4 * GIB - 1), None, "not in the file");
        assert_eq!(first(8 * GIB), None, "more than the file has");
    }

    #[test]
    fn a_read_may_span_ranges_but_no_hole() {
        let memory = memory();
        let mut buffer = [0xff; 4];
        assert!(memory.read(GIB - 2, &mut buffer));
        assert_eq!(buffer, [0, 0, 1, 0]);
        assert!(!memory.read(2 * GIB - 2, &mut buffer));
        assert!(!memory.read(u64::MAX - 1, &mut buffer));
        assert!(memory.holds(0, 2 * GIB) && !memory.holds(0, 2 * GIB + 1));
    }
}
