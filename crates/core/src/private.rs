//! The private slot: the one other kernel-half entry that a user root can have, and then only in the two
//! roots of a process that has an LDT.
//!
//! ```text
//!   slot base  ┌───────────────────────┐
//!              │ espfix                │ 4 GiB for 16 CPUs: in each 64 KiB, a page for each of them, its
//!              │ ...                   │ stack page again
//!    + 511 GiB ├───────────────────────┤
//!              │ LDT A, then LDT B     │ 64 KiB each, each with 64 KiB of nothing behind it
//!              └───────────────────────┘
//! ```
//!
//! Which 4 GiB, which page of 16 and which 256 KiB of the last GiB is chance's to say, once at boot: what is
//! there is a program's own choice in part, and at known addresses it would be of use to exploits
//! (CVE-2023-0597).
//!
//! **espfix.** IRETQ to a 16-bit stack segment loads SP alone: bits 16 to 31 of ESP are left as the kernel
//! had them, and the program reads them. So such a frame is popped from an address whose bits 16 to 31
//! are the program's own. The CPU's stack page, as the user view shows it, repeats every 64 KiB through
//! 4 GiB for that: one table of 4 KiB pages, one directory that names nothing but it.
//!
//! **LDT.** The CPU reads descriptors under either root, whenever a selector is loaded. There are two
//! places, so that a new table is mapped before the old one goes.
//!
//! Invariants: everything here is a supervisor page, read-only, not executable, not global; no two
//! uses share an address; all of it is within one top-level slot, which is not the entry area's.
//!
//! Intel SDM vol. 2, IRET; vol. 3, 3.5.1 (LDT), 4.6 (access rights).

use crate::area::{MAX_CPUS, PAGE_SIZE};
use crate::paging::{ACCESSED, NO_EXECUTE, PRESENT, TOP_LEVEL_BYTES};
use crate::root::{ENTRY_SLOT, KERNEL_HALF};

/// The slot that suits most kernels: the entry area's neighbour.
pub const DEFAULT_SLOT: usize = ENTRY_SLOT - 1;

/// CPUs whose stack pages repeat in the same 4 GiB.
pub const GROUP_CPUS: usize = 16;
/// Groups of CPUs.
pub const GROUPS: usize = MAX_CPUS / GROUP_CPUS;
/// Bytes of address space of a group: what 32 bits of stack pointer can name.
pub const GROUP_BYTES: u64 = 1 << 32;
/// The stack pages of a group repeat after so many bytes.
pub const REPEAT_BYTES: u64 = 1 << 16;
/// The bits of a stack pointer that IRETQ to a 16-bit stack segment leaves alone.
pub const USER_BITS: u64 = GROUP_BYTES - REPEAT_BYTES;

/// Most descriptors that an LDT can have: a selector has 13 bits of index (SDM vol. 3, 3.4.2).
pub const LDT_ENTRIES: usize = 8192;
/// Bytes of an LDT at its greatest.
pub const LDT_BYTES: u64 = LDT_ENTRIES as u64 * 8;
/// Pages of an LDT at its greatest.
pub const LDT_PAGES: usize = (LDT_BYTES / PAGE_SIZE) as usize;

/// The bits of every leaf entry in the slot, in both roots. Never DIRTY: with WRITABLE clear, that would
/// be a shadow stack.
pub const LEAF: u64 = PRESENT | ACCESSED | NO_EXECUTE;

const LDT_OFFSET: u64 = 511 << 30;
const LDT_DISTANCE: u64 = 2 * LDT_BYTES;

/// Places that the two LDTs can have together. All of one place is in one table of 4 KiB pages.
pub const LDT_PLACES: u64 = (TOP_LEVEL_BYTES - LDT_OFFSET) / (2 * LDT_DISTANCE);

/// Which of the two places an LDT is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The lower one.
    A,
    /// The upper one.
    B,
}

impl Which {
    /// The place that is free while this one is in use.
    #[must_use]
    pub const fn other(self) -> Which {
        match self {
            Which::A => Which::B,
            Which::B => Which::A,
        }
    }
}

/// Whether `slot` can be the private slot: in the kernel half, and not the entry area's.
#[must_use]
pub const fn slot_ok(slot: usize) -> bool {
    slot >= KERNEL_HALF.start && slot < KERNEL_HALF.end && slot != ENTRY_SLOT
}

/// The first address of the slot.
///
/// # Panics
///
/// If it is no [`slot_ok`].
#[must_use]
pub const fn base(slot: usize) -> u64 {
    assert!(slot_ok(slot), "the private slot is in the kernel half, beside the entry area's");
    0xffff_0000_0000_0000 + slot as u64 * TOP_LEVEL_BYTES
}

/// Places that a group may begin at.
pub const GROUP_PLACES: u64 = LDT_OFFSET / GROUP_BYTES;

/// Which of the [`GROUP_CPUS`] pages that repeat is CPU `cpu`'s.
#[must_use]
pub const fn espfix_index(random: u64, cpu: usize) -> usize {
    (cpu ^ (random >> 32) as usize) % GROUP_CPUS
}

/// CPU `cpu`'s stack page, where the user's bits 16 to 31 are zero. Of `random`, bits 0 to 35 decide between
/// [`GROUP_PLACES`] places of a group and [`GROUP_CPUS`] in it.
///
/// # Panics
///
/// If `slot` is no [`slot_ok`], or `cpu` is not below [`MAX_CPUS`].
#[must_use]
pub const fn espfix_page(slot: usize, random: u64, cpu: usize) -> u64 {
    assert!(cpu < MAX_CPUS, "there is no such CPU");
    let first = (random & 0xffff_ffff) % GROUP_PLACES;
    let group = ((cpu / GROUP_CPUS) as u64 + first) % GROUP_PLACES;
    base(slot) + group * GROUP_BYTES + espfix_index(random, cpu) as u64 * PAGE_SIZE
}

/// The first address of an LDT. Of `random`, bits 36 to 47 decide between [`LDT_PLACES`] places.
///
/// # Panics
///
/// If `slot` is no [`slot_ok`].
#[must_use]
pub const fn ldt_base(slot: usize, random: u64, which: Which) -> u64 {
    let place = (random >> 36) % LDT_PLACES * (2 * LDT_DISTANCE);
    let distance = match which {
        Which::A => 0,
        Which::B => LDT_DISTANCE,
    };
    base(slot) + LDT_OFFSET + place + distance
}

const _: () =
    assert!(GROUPS as u64 <= GROUP_PLACES, "espfix ends below the LDTs, no two groups meet");
const _: () = assert!(GROUP_CPUS as u64 * PAGE_SIZE == REPEAT_BYTES);
const _: () = assert!((2 << 20) % (2 * LDT_DISTANCE) == 0, "an entry of level 2 is 2 MiB");
