//! Which physical memory is free: RAM of the map, less the first MiB, the image and what the loader
//! passed.

use super::pvh::{BootInfo, RAM};
use crate::mm::layout::{DIRECT_MAP_BYTES, IMAGE};
use core::ops::Range;

unsafe extern "C" {
    static image_end: u8;
}

const PAGE: u64 = 4096;
const HELD: usize = 6;

/// Calls `free` with each free range, page-aligned.
pub fn for_each_free(info: &BootInfo, mut free: impl FnMut(Range<u64>)) {
    let mut held: [Range<u64>; HELD] = core::array::from_fn(|_| 0..0);
    let image = 0..(&raw const image_end).addr() as u64 - IMAGE;
    for (place, range) in held.iter_mut().zip(core::iter::once(image).chain(info.held())) {
        *place = range.start & !(PAGE - 1)..range.end.next_multiple_of(PAGE);
    }
    held.sort_unstable_by_key(|range| range.start);
    for range in info.memory_map().filter(|range| range.kind == RAM) {
        let end = range.address.saturating_add(range.size).min(DIRECT_MAP_BYTES) & !(PAGE - 1);
        let mut start = range.address.next_multiple_of(PAGE);
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

/// One past the highest byte of RAM.
pub fn end_of_ram(info: &BootInfo) -> u64 {
    let ends = info
        .memory_map()
        .filter(|range| range.kind == RAM)
        .map(|range| range.address.saturating_add(range.size));
    ends.max().unwrap_or(0).min(DIRECT_MAP_BYTES)
}
