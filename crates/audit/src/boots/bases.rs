//! The places that a kernel chooses at random and hides, found in what its root maps.
//!
//! ```text
//!   ffff8880...  [ linear map of all memory       ]  direct map: where physical 0 is, or would be
//!   ffffc900...  [ many small runs                ]  areas: whatever is a gap of 1 GiB away from its
//!   ffffea00...  [ few runs                       ]         neighbours, in ascending order
//!   ffffffff8... [ text, read-only data, data     ]  kernel image: top 2 GiB
//! ```
//!
//! No symbol is needed. An area that user mode's root shows from end to end is no secret, and no base. Areas are compared
//! from boot to boot only where every boot has as many of them.

use crate::document::{Audit, Kind, Region};

/// Runs with a larger hole between them belong to different areas: what is randomised by itself is at least a
/// top-level or third-level entry away from its neighbours.
const GAP: u64 = 1 << 30;
/// Kernels are linked here, because code can then reach everything with 32-bit signed addresses.
const TOP: u64 = 0xffff_ffff_8000_0000;
/// A linear map of less than this is somebody's buffer.
const LINEAR: u64 = 16 << 20;
/// Most areas that are told apart.
const AREAS: usize = 64;

/// Name of the base that the kernel's text is at.
pub const IMAGE: &str = "kernel image";
/// Name of the base of the linear map of physical memory.
pub const DIRECT_MAP: &str = "direct map";

/// The bases of one boot, by name.
pub fn bases(audit: &Audit) -> Vec<(String, u64)> {
    let Some((kernel, visible)) = kernel_half(audit) else { return Vec::new() };
    let image = image(kernel);
    let direct_map = direct_map(kernel);
    let mut bases = Vec::new();
    bases.extend(image.map(|address| (IMAGE.to_owned(), address)));
    bases.extend(direct_map.map(|(offset, _)| (DIRECT_MAP.to_owned(), offset)));
    let known = [image, direct_map.map(|(_, first)| first)];
    let others = areas(kernel).filter(|area| area.first().is_some_and(|first| first.address < TOP));
    let others = others.filter_map(|area| {
        let (first, last) = (area.first()?.address, area.last()?.last());
        let is_known = known.iter().flatten().any(|base| (first..=last).contains(base));
        let is_secret = area.iter().any(|region| !shown(visible, region.address));
        (is_secret && !is_known).then_some(first)
    });
    bases.extend(others.take(AREAS).zip(1..).map(|(base, number)| (area_name(number), base)));
    bases
}

/// The name of the area number `number`, from 1.
pub fn area_name(number: usize) -> String {
    format!("area {number}")
}

/// What the kernel root maps in the kernel half, and what of it user mode's root does. Without isolation that is all of
/// it, and called secret nevertheless: otherwise there would be nothing to compare.
fn kernel_half(audit: &Audit) -> Option<(&[Region], &[Region])> {
    let isolated = audit.views.iter().find(|view| !view.kernel.is_empty());
    match isolated {
        Some(view) => Some((&view.kernel, &view.visible)),
        None => audit.views.first().map(|view| (&view.visible[..], &[][..])),
    }
}

/// Whether one of `visible`, which ascend, holds the address.
fn shown(visible: &[Region], address: u64) -> bool {
    let after = visible.partition_point(|region| region.address <= address);
    after > 0 && visible[after - 1].contains(address)
}

/// Runs with no more than [`GAP`] between them.
fn areas(kernel: &[Region]) -> impl Iterator<Item = &[Region]> {
    kernel.chunk_by(|a, b| b.address.saturating_sub(a.last()) <= GAP)
}

/// The first address of what a name says is the image; without one, of the largest piece of executable memory and what
/// leans against it, in the top 2 GiB if there is any.
fn image(kernel: &[Region]) -> Option<u64> {
    let named =
        |region: &&Region| region.name.as_ref().is_some_and(|name| name.kind == Kind::Image);
    if let Some(region) = kernel.iter().find(named) {
        return Some(region.address);
    }
    let executable = |region: &&Region| region.rights.executable && !region.rights.user;
    let start = kernel.partition_point(|region| region.address < TOP);
    let top =
        if kernel[start..].iter().any(|r| executable(&r)) { &kernel[start..] } else { kernel };
    // Text is one piece, but its pages may have several sizes and so be several runs. Modules and entry areas are
    // smaller, and behind a hole.
    let pieces = top.chunk_by(|a, b| a.last().checked_add(1) == Some(b.address));
    let weight = |piece: &&[Region]| -> u64 {
        let bytes = piece.iter().filter(executable).map(|region| region.bytes);
        bytes.fold(0, u64::saturating_add)
    };
    // Of equally large ones the first.
    let largest = pieces.rev().filter(|piece| weight(piece) > 0).max_by_key(weight)?;
    largest.iter().find(executable).map(|region| region.address)
}

/// Where physical address 0 is in the largest linear map, and the first address that it really maps.
fn direct_map(kernel: &[Region]) -> Option<(u64, u64)> {
    let mut maps: Vec<(u64, u64, u64)> = Vec::new();
    let linear = kernel.iter().filter(|region| region.contiguous && region.repeats.is_none());
    for region in linear {
        maps.push((region.address.wrapping_sub(region.physical), region.bytes, region.address));
    }
    maps.sort_unstable_by_key(|(offset, _, first)| (*offset, *first));
    let sums = maps.chunk_by(|a, b| a.0 == b.0).map(|map| {
        let bytes = map.iter().map(|(_, bytes, _)| *bytes).fold(0, u64::saturating_add);
        (bytes, map[0])
    });
    let (bytes, (offset, _, first)) = sums.max_by_key(|(bytes, _)| *bytes)?;
    (bytes >= LINEAR).then_some((offset, first))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::document::{Rights, View};

    /// A run of contiguous 4 KiB pages.
    pub fn run(address: u64, physical: u64, bytes: u64, executable: bool) -> Region {
        let rights = Rights { executable, writable: !executable, ..Rights::default() };
        Region {
            address,
            bytes,
            physical,
            contiguous: true,
            page_size: 0x1000,
            pages: bytes / 0x1000,
            rights,
            ..Region::default()
        }
    }

    /// What a kernel such as Linux maps, with its image, direct map and heap at these places.
    pub fn kernel(image: u64, direct_map: u64, heap: u64) -> Vec<Region> {
        let scattered = Region { contiguous: false, ..run(heap, 0x333_0000, 0x9_0000, false) };
        vec![
            // All of memory but a hole.
            run(direct_map, 0, 0x9000, false),
            run(direct_map + 0x10_0000, 0x10_0000, 64 << 20, false),
            scattered,
            run(image, 0x400_0000, 0x60_0000, true),
            run(image + 0x60_0000, 0x460_0000, 0x1000, true),
            run(image + 0x80_0000, 0x480_0000, 0x20_0000, false),
            // A module.
            run(0xffff_ffff_c000_0000, 0x700_0000, 0x4000, true),
        ]
    }

    #[test]
    fn image_direct_map_and_heap_are_found() {
        let at = (0xffff_ffff_9ac0_0000, 0xffff_8f00_4000_0000, 0xffff_b000_c000_0000);
        let view =
            View { kernel_root: Some(1), kernel: kernel(at.0, at.1, at.2), ..View::default() };
        let audit = Audit { views: vec![view], ..Audit::default() };
        let expected = [(IMAGE, at.0), (DIRECT_MAP, at.1), ("area 1", at.2)];
        assert_eq!(bases(&audit), expected.map(|(name, base)| (name.to_owned(), base)));
    }

    #[test]
    fn what_user_mode_sees_wholly_is_no_secret() {
        let (image, map, heap) =
            (0xffff_ffff_9ac0_0000, 0xffff_8f00_4000_0000, 0xffff_b000_c000_0000);
        let visible = vec![run(heap, 0x333_0000, 0x9_0000, false)];
        let kernel = kernel(image, map, heap);
        let view = View { kernel_root: Some(1), kernel, visible, ..View::default() };
        let names = bases(&Audit { views: vec![view], ..Audit::default() });
        assert_eq!(
            names.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(),
            [IMAGE, DIRECT_MAP]
        );
    }

    #[test]
    fn an_empty_look_has_no_bases() {
        assert_eq!(bases(&Audit::default()), []);
        let views = vec![View::default()];
        assert_eq!(bases(&Audit { views, ..Audit::default() }), []);
    }
}
