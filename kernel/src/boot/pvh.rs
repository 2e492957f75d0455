//! What the PVH boot protocol hands over: memory map, initramfs, command line, ACPI.
//!
//! Xen's public header `hvm/start_info.h` defines it; QEMU's -kernel speaks it for an ELF image with
//! the PHYS32_ENTRY note.

use super::info::{BootInfo, read as read_physical};
use zerocopy::FromBytes;

/// What the start info begins with.
pub const MAGIC: u32 = 0x336e_c578;

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

#[derive(Clone, Copy, Debug, FromBytes)]
#[repr(C)]
struct MemoryRange {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// Reads the start info at a physical address.
///
/// # Errors
/// A sentence for the console.
pub fn read(address: u64) -> Result<BootInfo, &'static str> {
    let start: StartInfo =
        read_physical(address).ok_or("the boot loader's start info is not below 4 GiB")?;
    if start.magic != MAGIC {
        return Err("the boot loader does not speak PVH (bad magic in its start info)");
    }
    if start.version < 1 || start.memory_map_entries == 0 {
        return Err("the boot loader gave no memory map (PVH version 0)");
    }
    let mut info = BootInfo::empty();
    let places = (0..u64::from(start.memory_map_entries))
        .map(|index| start.memory_map.saturating_add(index * size_of::<MemoryRange>() as u64));
    let entries = places.map_while(read_physical::<MemoryRange>);
    info.set_memory(entries.map(|entry| (entry.address, entry.size, entry.kind)))?;
    if start.modules > 0
        && let Some(Module { address, size, .. }) = read_physical(start.module_list)
    {
        info.set_initramfs(address..address.saturating_add(size));
    }
    if start.command_line != 0 {
        let places = start.command_line..u64::MAX;
        let bytes = places.map_while(read_physical::<u8>).take_while(|byte| *byte != 0);
        info.set_command_line(bytes);
    }
    info.set_rsdp(start.rsdp);
    Ok(info)
}
