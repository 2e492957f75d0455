//! The private slot: the one other kernel-half entry that a user root can have, and then only in the two
//! roots of a process that has an LDT.
//!
//! ```text
//!   slot base  ┌───────────────────────┐
//!              │ espfix, CPUs 0 to 15  │ 4 GiB: in each 64 KiB, page n is CPU n's stack page again
//!      + 4 GiB ├───────────────────────┤
//!              │ espfix, CPUs 16 to 31 │
//!              │ ...                   │
//!    + 511 GiB ├───────────────────────┤
//!              │ LDT A, then LDT B     │ 64 KiB each, each with 64 KiB of nothing behind it
//!              └───────────────────────┘
//! ```
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

/// CPU `cpu`'s stack page, where the user's bits 16 to 31 are zero.
///
/// # Panics
///
/// If `slot` is no [`slot_ok`], or `cpu` is not below [`MAX_CPUS`].
#[must_use]
pub const fn espfix_page(slot: usize, cpu: usize) -> u64 {
    assert!(cpu < MAX_CPUS, "there is no such CPU");
    let group = (cpu / GROUP_CPUS) as u64 * GROUP_BYTES;
    base(slot) + group + (cpu % GROUP_CPUS) as u64 * PAGE_SIZE
}

/// The address of byte `offset` of the stack page that shares bits 16 to 31 with `user_rsp`. `page`:
/// an [`espfix_page`].
#[must_use]
pub const fn espfix_address(page: u64, user_rsp: u64, offset: u64) -> u64 {
    page + (user_rsp & USER_BITS) + offset
}

/// The first address of an LDT.
///
/// # Panics
///
/// If `slot` is no [`slot_ok`].
#[must_use]
pub const fn ldt_base(slot: usize, which: Which) -> u64 {
    let distance = match which {
        Which::A => 0,
        Which::B => LDT_DISTANCE,
    };
    base(slot) + LDT_OFFSET + distance
}

/// What an address in the slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// This CPU's stack page under one of its addresses.
    Espfix {
        /// The CPU's index.
        cpu: usize,
        /// Bytes from the start of the page.
        offset: u64,
    },
    /// An LDT.
    Ldt {
        /// Which of the two.
        which: Which,
        /// Bytes from its start.
        offset: u64,
    },
}

/// What `address` is for; `None` outside of `slot` and where nothing is ever mapped.
///
/// # Panics
///
/// If `slot` is no [`slot_ok`].
#[must_use]
pub fn describe(slot: usize, address: u64) -> Option<Place> {
    let offset = address.checked_sub(base(slot)).filter(|offset| *offset < TOP_LEVEL_BYTES)?;
    for which in [Which::A, Which::B] {
        let start = ldt_base(slot, which);
        if (start..start + LDT_BYTES).contains(&address) {
            return Some(Place::Ldt { which, offset: address - start });
        }
    }
    let group = (offset / GROUP_BYTES) as usize;
    let cpu = group * GROUP_CPUS + (offset % REPEAT_BYTES / PAGE_SIZE) as usize;
    (group < GROUPS).then_some(Place::Espfix { cpu, offset: offset % PAGE_SIZE })
}

const _: () = assert!(GROUPS as u64 * GROUP_BYTES <= LDT_OFFSET, "espfix ends below the LDTs");
const _: () = assert!(GROUP_CPUS as u64 * PAGE_SIZE == REPEAT_BYTES);
