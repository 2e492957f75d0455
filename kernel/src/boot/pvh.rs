//! What the PVH boot protocol hands over: memory map, initramfs, command line, ACPI.
//!
//! Xen's public header `hvm/start_info.h` defines it; QEMU's -kernel speaks it for an ELF image with
//! the PHYS32_ENTRY note.

use crate::mm::layout::{DIRECT_MAP_BYTES, direct};
use core::ops::Range;
use zerocopy::FromBytes;

const MAGIC: u32 = 0x336e_c578;
/// Memory type of the map: usable RAM, as ACPI counts them.
pub const RAM: u32 = 1;

#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
struct Module {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

/// One range of the memory map.
#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
pub struct MemoryRange {
    /// Physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// [`RAM`] or something else.
    pub kind: u32,
    reserved: u32,
}

/// What the loader said.
#[derive(Clone, Copy, Debug)]
pub struct BootInfo {
    /// Physical address of the start info itself.
    address: u64,
    info: StartInfo,
}

/// Reads a `T` at a physical address below 4 GiB, which is all that the boot root maps.
fn read<T: FromBytes>(physical: u64) -> Option<T> {
    let end = physical.checked_add(size_of::<T>() as u64)?;
    if physical == 0 || end > 1 << 32 {
        return None;
    }
    // SAFETY: the first 4 GiB are in the direct map from boot on; `T` is valid for any bytes, and
    // nothing writes there during boot.
    Some(unsafe { direct(physical).cast::<T>().read_unaligned() })
}

impl BootInfo {
    /// Reads the start info at a physical address.
    ///
    /// # Errors
    /// A sentence for the console.
    pub fn read(address: u64) -> Result<BootInfo, &'static str> {
        let info: StartInfo =
            read(address).ok_or("the boot loader's start info is not below 4 GiB")?;
        if info.magic != MAGIC {
            return Err("the boot loader does not speak PVH (bad magic in its start info)");
        }
        if info.version < 1 || info.memory_map_entries == 0 {
            return Err("the boot loader gave no memory map (PVH version 0)");
        }
        Ok(BootInfo { address, info })
    }

    /// The memory map.
    pub fn memory_map(&self) -> impl Iterator<Item = MemoryRange> {
        let start = self.info.memory_map;
        let size = size_of::<MemoryRange>() as u64;
        (0..u64::from(self.info.memory_map_entries)).map_while(move |i| read(start + i * size))
    }

    /// Physical range of the initramfs: the first module.
    pub fn initramfs(&self) -> Option<Range<u64>> {
        if self.info.modules == 0 {
            return None;
        }
        let module: Module = read(self.info.module_list)?;
        let end = module.address.checked_add(module.size)?;
        (end <= DIRECT_MAP_BYTES).then_some(module.address..end)
    }

    /// Copies the command line, at most `into.len()` bytes, and tells its length.
    pub fn command_line(&self, into: &mut [u8]) -> usize {
        let start = self.info.command_line;
        let bytes = (0..into.len() as u64).map_while(|i| {
            if start == 0 { None } else { read::<u8>(start + i).filter(|byte| *byte != 0) }
        });
        into.iter_mut().zip(bytes).map(|(place, byte)| *place = byte).count()
    }

    /// Physical address of ACPI's root pointer, 0 if the loader knows none.
    pub fn rsdp(&self) -> u64 {
        self.info.rsdp
    }

    /// Physical ranges that hold what the loader passed, and must not be given away yet.
    pub fn held(&self) -> impl Iterator<Item = Range<u64>> {
        let info = self.info;
        let map = u64::from(info.memory_map_entries) * size_of::<MemoryRange>() as u64;
        let modules = u64::from(info.modules) * size_of::<Module>() as u64;
        [
            self.address..self.address + size_of::<StartInfo>() as u64,
            info.memory_map..info.memory_map + map,
            info.module_list..info.module_list + modules,
        ]
        .into_iter()
        .chain(self.initramfs())
    }
}
