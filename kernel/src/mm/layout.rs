//! Where everything is in the kernel half.
//!
//! ```text
//! 0xffff_8000_0000_0000  direct map of physical memory     (top-level slot 256; 4-level paging)
//! 0xffff_8080_0000_0000  task stacks, each with its guard  (slot 257)
//! 0xffff_ff00_0000_0000  LDT and espfix of a process that has an LDT (slot 510)
//! 0xffff_ffff_8010_0000  kernel image                      (slot 511)
//! 0xffff_ffff_c000_0000  ... the entry area, at a random page (slot 511)
//! ```
//!
//! Invariant: the kernel half's top-level entries are all made at boot and never change, so that
//! every root can copy them once. Slot 510 alone is a process's own.

/// Physical address 0 as the kernel sees it.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Most physical memory the direct map covers: one top-level slot.
pub const DIRECT_MAP_BYTES: u64 = 1 << 39;
/// Task stacks.
pub const STACKS: u64 = 0xffff_8080_0000_0000;
/// Link base of the image: virtual = physical + this.
pub const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// First address of the region that the entry area is placed in.
pub const ENTRY_REGION: u64 = 0xffff_ffff_c000_0000;
/// Top-level slot that the library fills for a process with an LDT.
pub const PRIVATE_SLOT: usize = ringwall::core::private::DEFAULT_SLOT;
/// First address past the memory a program can have (one page below the canonical end, so that no
/// SYSCALL can return to a non-canonical address).
pub const USER_END: u64 = 0x0000_7fff_ffff_f000;

/// The kernel's pointer to physical address `physical`.
pub const fn direct(physical: u64) -> *mut u8 {
    (DIRECT_MAP + physical) as *mut u8
}
