//! Which physical memory is free: RAM of the map, less the first MiB, the image and the initramfs.

use super::info::BootInfo;
use crate::mm::layout::image_physical;
use core::ops::Range;

unsafe extern "C" {
    static image_end: u8;
}

const PAGE: u64 = 4096;

/// Calls `free` with each free range, page-aligned.
pub fn for_each_free(info: &BootInfo, mut free: impl FnMut(Range<u64>)) {
    let image = 0..image_physical((&raw const image_end).addr() as u64);
    let mut held = [image, info.initramfs().unwrap_or(0..0)]
        .map(|range| range.start & !(PAGE - 1)..range.end.next_multiple_of(PAGE));
    held.sort_unstable_by_key(|range| range.start);
    for range in info.ram() {
        let end = range.end & !(PAGE - 1);
        let mut start = range.start.next_multiple_of(PAGE);
        for hole in &held {
            if hole.end <= start || hole.start >= end {
                continue;
            }
            if hole.start > start {
                free(start..hole.start);
            }
            start = hole.end;
        }
        if start < end {
            free(start..end);
        }
    }
}

/// What starting other CPUs takes.
pub const TRAMPOLINE_BYTES: u64 = 4 * PAGE;

/// So many bytes of RAM below 1 MiB, for the code at which other CPUs start. Nothing there is ever given away.
pub fn place_for_trampoline(info: &BootInfo) -> Option<u64> {
    /// Above what a BIOS and old boot sectors use, below what is no RAM on any PC.
    const WITHIN: Range<u64> = 0x8000..0xa_0000;
    let initramfs = info.initramfs().unwrap_or(0..0);
    let fits = |start: &u64| {
        let end = start + TRAMPOLINE_BYTES;
        end <= WITHIN.end
            && (end <= initramfs.start || *start >= initramfs.end)
            && info.ram().iter().any(|ram| ram.start <= *start && end <= ram.end)
    };
    WITHIN.step_by(PAGE as usize).find(fits)
}

/// One past the highest byte of RAM.
pub fn end_of_ram(info: &BootInfo) -> u64 {
    info.ram().iter().map(|range| range.end).max().unwrap_or(0)
}
