//! What a multiboot2 loader (GRUB) hands over. The list of tags is `ringwall_multiboot2`'s to check.

use super::info::{BootInfo, Error, read as read_physical};
use crate::BOOT_MAPPED;
use crate::mm::layout::direct;
use ringwall_multiboot2::{HEADER, Information, total_size};

/// Reads the information at a physical address.
///
/// # Errors
/// What is wrong with it.
pub fn read(address: u64) -> Result<BootInfo, Error> {
    const OUTSIDE: Error = Error::Loader("the boot loader's information is not below 4 GiB");
    let header: [u8; HEADER] = read_physical(address).ok_or(OUTSIDE)?;
    let size = total_size(header).map_err(Error::Multiboot2)?;
    if address + size as u64 > BOOT_MAPPED {
        return Err(OUTSIDE);
    }
    // SAFETY: the first 4 GiB are in the direct map from boot on, and nothing writes there during boot.
    let bytes = unsafe { core::slice::from_raw_parts(direct(address), size) };
    let found = Information::parse(bytes).map_err(Error::Multiboot2)?;
    let mut info = BootInfo::empty();
    info.set_memory(found.memory_map().map(|range| (range.address, range.size, range.kind)))
        .map_err(Error::Loader)?;
    if let Some(module) = found.module() {
        info.set_initramfs(module);
    }
    info.set_command_line(found.command_line().iter().copied());
    info.set_rsdp(found.rsdp_offset().map_or(0, |offset| address + offset as u64));
    Ok(info)
}
