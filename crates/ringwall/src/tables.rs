//! Writing page tables through the direct map.
//!
//! Invariant: tables made here are supervisor tables with all permissions; the leaf alone decides.

use crate::frames::Frames;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use ringwall_core::paging::{
    ADDRESS_MASK, GLOBAL, HUGE, KERNEL_TABLE, NO_EXECUTE, PRESENT, WRITABLE, index,
};
use ringwall_core::root::KERNEL_HALF;
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

/// Entries of one table. Atomic, because the CPU walks it at any time.
pub(crate) type Table = [AtomicU64; 512];

/// Why a page could not be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// The kernel's frame allocator is out of frames.
    NoFrame,
    /// The kernel mapped a large page over this address.
    LargePage(u64),
    /// This address is mapped already.
    AlreadyMapped(u64),
    /// This address is not mapped.
    NotMapped(u64),
}

impl core::fmt::Display for MapError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MapError::NoFrame => f.write_str("no frame left for page tables"),
            MapError::LargePage(address) => {
                write!(f, "the kernel maps {address:#x} with a large page: split it first")
            }
            MapError::AlreadyMapped(address) => write!(f, "{address:#x} is mapped already"),
            MapError::NotMapped(address) => write!(f, "{address:#x} is not mapped"),
        }
    }
}

/// The table in `frame`.
pub(crate) fn table<'a>(frames: &impl Frames, frame: PhysFrame) -> &'a Table {
    let pointer: NonNull<Table> = frames.pointer(frame).cast();
    // SAFETY: the frame is a page table, 512 aligned words; `Frames::pointer` reaches it for good;
    // all access, the CPU's too, is atomic.
    unsafe { pointer.as_ref() }
}

/// A frame of zeros.
pub(crate) fn zeroed(frames: &mut impl Frames) -> Result<PhysFrame, MapError> {
    let frame = frames.allocate_frame().ok_or(MapError::NoFrame)?;
    // SAFETY: the frame is ours alone, and 4 KiB.
    unsafe { frames.pointer(frame).write_bytes(0, 4096) };
    Ok(frame)
}

/// So many frames of zeros, or none.
pub(crate) fn all_zeroed<const N: usize>(
    frames: &mut impl Frames,
) -> Result<[PhysFrame; N], MapError> {
    let mut made = [None; N];
    for number in 0..N {
        match zeroed(frames) {
            Ok(frame) => made[number] = Some(frame),
            Err(error) => {
                for frame in made.into_iter().flatten() {
                    // SAFETY: allocated above, and nobody knows it yet.
                    unsafe { frames.free(frame) };
                }
                return Err(error);
            }
        }
    }
    Ok(made.map(|frame| frame.expect("each was made")))
}

/// The frame that an entry names.
pub(crate) fn frame_of(entry: u64) -> PhysFrame {
    PhysFrame::containing_address(PhysAddr::new(entry & ADDRESS_MASK))
}

fn next<'a>(
    slot: &AtomicU64,
    address: u64,
    frames: &mut impl Frames,
) -> Result<&'a Table, MapError> {
    let entry = slot.load(Ordering::Relaxed);
    if entry & PRESENT == 0 {
        let frame = zeroed(frames)?;
        slot.store(frame.start_address().as_u64() | KERNEL_TABLE, Ordering::Release);
        return Ok(table(frames, frame));
    }
    if entry & HUGE != 0 {
        return Err(MapError::LargePage(address));
    }
    Ok(table(frames, frame_of(entry)))
}

/// The empty leaf entry for the 4 KiB page at `address` below a level-3 table. Tables that are missing on the way are
/// made, and stay whatever follows: after this, mapping the page cannot fail.
///
/// # Errors
/// [`MapError`].
pub(crate) fn empty_leaf<'a>(
    level_3: &'a Table,
    address: u64,
    frames: &mut impl Frames,
) -> Result<&'a AtomicU64, MapError> {
    let level_2 = next(&level_3[index(3, address)], address, frames)?;
    let level_1: &'a Table = next(&level_2[index(2, address)], address, frames)?;
    match &level_1[index(1, address)] {
        slot if slot.load(Ordering::Relaxed) & PRESENT == 0 => Ok(slot),
        _ => Err(MapError::AlreadyMapped(address)),
    }
}

/// Maps the 4 KiB page at `address` below a level-3 table by the leaf entry `leaf`.
///
/// # Errors
/// [`MapError`].
pub(crate) fn map_below(
    level_3: &Table,
    address: u64,
    leaf: u64,
    frames: &mut impl Frames,
) -> Result<(), MapError> {
    empty_leaf(level_3, address, frames)?.store(leaf, Ordering::Release);
    Ok(())
}

/// The level-3 table of `address` below a root, made if missing.
///
/// # Errors
/// [`MapError`].
pub(crate) fn level_3<'a>(
    root: &Table,
    address: u64,
    frames: &mut impl Frames,
) -> Result<&'a Table, MapError> {
    next(&root[index(4, address)], address, frames)
}

/// The slot of the leaf entry of `address` below a level-3 table, 4 KiB pages only.
pub(crate) fn leaf<'a>(
    level_3: &'a Table,
    address: u64,
    frames: &impl Frames,
) -> Option<&'a AtomicU64> {
    let mut entries = level_3;
    for level in [3, 2] {
        let entry = entries[index(level, address)].load(Ordering::Relaxed);
        if entry & PRESENT == 0 || entry & HUGE != 0 {
            return None;
        }
        entries = table(frames, frame_of(entry));
    }
    Some(&entries[index(1, address)])
}

/// The first address, in table order, at which the kernel half of a root maps a page as global.
pub(crate) fn first_global(root: &Table, frames: &impl Frames) -> Option<u64> {
    const SIGN: u64 = 0xffff << 48;
    KERNEL_HALF.into_iter().find_map(|slot| {
        let entry = root[slot].load(Ordering::Relaxed);
        let address = SIGN | (slot as u64) << 39;
        (entry & PRESENT != 0).then(|| global_below(frame_of(entry), 3, address, frames))?
    })
}

fn global_below(frame: PhysFrame, level: u8, base: u64, frames: &impl Frames) -> Option<u64> {
    table(frames, frame).iter().zip(0u64..).find_map(|(slot, number)| {
        let entry = slot.load(Ordering::Relaxed);
        let address = base | number << (12 + 9 * (level - 1));
        match level == 1 || entry & HUGE != 0 {
            _ if entry & PRESENT == 0 => None,
            true => (entry & GLOBAL != 0).then_some(address),
            false => global_below(frame_of(entry), level - 1, address, frames),
        }
    })
}

/// The bytes of a frame that nobody else uses yet.
pub(crate) fn bytes<'a>(frames: &impl Frames, frame: PhysFrame) -> &'a mut [u8; 4096] {
    // SAFETY: callers pass frames that they just allocated and have not mapped yet, once each;
    // `Frames::pointer` reaches all 4096 bytes.
    unsafe { frames.pointer(frame).cast().as_mut() }
}

/// The 4 KiB leaf entry that maps `address` below a level-3 table, made up from a larger page if
/// need be, with the rights that the whole walk leaves (SDM vol. 3, 4.6.1): WRITABLE only if every
/// level has it, NX if any has.
pub(crate) fn translate(level_3: &Table, address: u64, frames: &impl Frames) -> Option<u64> {
    let mut entries = level_3;
    let (mut writable, mut no_execute) = (WRITABLE, 0);
    for level in [3, 2, 1] {
        let entry = entries[index(level, address)].load(Ordering::Relaxed);
        if entry & PRESENT == 0 {
            return None;
        }
        writable &= entry;
        no_execute |= entry & NO_EXECUTE;
        if level == 1 || entry & HUGE != 0 {
            let size = 4096u64 << (9 * (level - 1));
            // Bit 12 of a large page's entry is its PAT bit, bit 7 is not HUGE in a small one's.
            let base = entry & ADDRESS_MASK & !(size - 1);
            let pat = if level == 1 { entry & HUGE } else { (entry >> 12 & 1) << 7 };
            let flags = entry & !ADDRESS_MASK & !HUGE & !WRITABLE & !NO_EXECUTE;
            let frame = base + (address & (size - 1) & !0xfff);
            return Some(frame | flags | pat | writable | no_execute);
        }
        entries = table(frames, frame_of(entry));
    }
    None
}
