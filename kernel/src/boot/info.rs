//! What the boot loader handed over, whichever protocol it speaks.
//!
//! Everything but the initramfs is copied, so the loader's own tables are free memory afterwards (ACPI's
//! root pointer has to be followed before that).

use super::{multiboot2, pvh};
use crate::BOOT_MAPPED;
use crate::mm::layout::{DIRECT_MAP_BYTES, direct};
use core::fmt;
use core::ops::Range;
use ringwall_rules::memory_map::{MemoryMap, TooMany};
use zerocopy::FromBytes;

/// Memory type of a map: usable RAM, as ACPI counts them; both protocols do.
pub const RAM: u32 = 1;
/// Longest command line, as Linux's on x86.
const COMMAND_LINE: usize = 2048;
/// Most ranges of RAM that are used; firmware gives about ten.
const RANGES: usize = 64;

/// What the loader said.
#[derive(Debug)]
pub struct BootInfo {
    ram: [Range<u64>; RANGES],
    ranges: usize,
    initramfs: Option<Range<u64>>,
    command_line: [u8; COMMAND_LINE],
    length: usize,
    rsdp: u64,
}

/// Why there is no [`BootInfo`]: the loader's fault.
#[derive(Debug)]
pub enum Error {
    /// A sentence for the console.
    Loader(&'static str),
    /// The multiboot2 information is damaged.
    Multiboot2(ringwall_multiboot2::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Loader(sentence) => f.write_str(sentence),
            Error::Multiboot2(error) => {
                write!(f, "the boot loader's multiboot2 information is damaged: {error}")
            }
        }
    }
}

impl BootInfo {
    /// Reads what is at a physical address, by the protocol that `magic` names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(magic: u32, address: u64) -> Result<BootInfo, Error> {
        match magic {
            pvh::MAGIC => pvh::read(address).map_err(Error::Loader),
            ringwall_multiboot2::MAGIC => multiboot2::read(address),
            _ => Err(Error::Loader("the boot loader speaks neither PVH nor multiboot2")),
        }
    }

    /// Nothing known yet.
    pub(super) fn empty() -> BootInfo {
        BootInfo {
            ram: [const { 0..0 }; RANGES],
            ranges: 0,
            initramfs: None,
            command_line: [0; COMMAND_LINE],
            length: 0,
            rsdp: 0,
        }
    }

    /// Notes what the memory map says: entries of address, size and kind. What is beyond the direct map is left out.
    ///
    /// # Errors
    /// A sentence for the console.
    pub(super) fn set_memory(
        &mut self,
        entries: impl Iterator<Item = (u64, u64, u32)>,
    ) -> Result<(), &'static str> {
        let mut map = MemoryMap::new();
        for (address, size, kind) in entries {
            let end = address.saturating_add(size).min(DIRECT_MAP_BYTES);
            map.add(address..end, kind == RAM)
                .map_err(|TooMany| "the boot loader's memory map has too many entries")?;
        }
        map.for_each_usable(|range| {
            if let Some(place) = self.ram.get_mut(self.ranges) {
                *place = range;
                self.ranges += 1;
            }
        });
        Ok(())
    }

    /// Notes the initramfs.
    pub(super) fn set_initramfs(&mut self, range: Range<u64>) {
        self.initramfs = (range.end <= BOOT_MAPPED && !range.is_empty()).then_some(range);
    }

    /// Notes the command line; what is too long is cut off.
    pub(super) fn set_command_line(&mut self, bytes: impl IntoIterator<Item = u8>) {
        let places = self.command_line.iter_mut().zip(bytes);
        self.length = places.map(|(place, byte)| *place = byte).count();
    }

    /// Notes where ACPI's root pointer is.
    pub(super) fn set_rsdp(&mut self, address: u64) {
        self.rsdp = address;
    }

    /// Ranges of usable RAM, ascending and apart.
    pub fn ram(&self) -> &[Range<u64>] {
        &self.ram[..self.ranges]
    }

    /// Physical range of the initramfs: the first module. It must not be given away before it was read.
    pub fn initramfs(&self) -> Option<Range<u64>> {
        self.initramfs.clone()
    }

    /// The command line.
    pub fn command_line(&self) -> &[u8] {
        &self.command_line[..self.length]
    }

    /// Physical address of ACPI's root pointer, 0 if the loader knows none.
    pub fn rsdp(&self) -> u64 {
        self.rsdp
    }
}

/// Reads a `T` at a physical address below 4 GiB, which is all that the boot root maps.
pub(super) fn read<T: FromBytes>(physical: u64) -> Option<T> {
    let end = physical.checked_add(size_of::<T>() as u64)?;
    if physical == 0 || end > BOOT_MAPPED {
        return None;
    }
    // SAFETY: the first 4 GiB are in the direct map from boot on; `T` is valid for any bytes, and
    // nothing writes there during boot.
    Some(unsafe { direct(physical).cast::<T>().read_unaligned() })
}
