//! Root pairs: the two top-level tables of an address space, and the CR3 values that pick one.
//!
//! ```text
//!   physical    pair             pair + 4 KiB        pair + 8 KiB
//!               ├─ kernel root ──┼─ user root ───────┤
//!   CR3 bit 12        0                1                     (USER_ROOT_BIT)
//!   CR3 bit 11        0                1             PCID half (USER_PCID_BIT, with CR4.PCIDE)
//!
//!   63        52 51                            12 11  10           0
//!   ┌──┬────────┬───────────────────────────┬───┬───┬──────────────┐
//!   │NF│   0    │ pair, 8 KiB aligned       │ U │ U │ PCID         │
//!   └──┴────────┴───────────────────────────┴───┴───┴──────────────┘
//! ```
//!
//! Invariant: from any CR3 value that a [`RootPair`] makes, clearing two bits gives the kernel's half
//! of the same pair. The entry code does exactly that ([`to_kernel`]), so no page that user mode's
//! tables show needs to hold a physical address. It follows that **every** root loaded while the
//! entry code is live must be half of a pair: a boot-time root with address bit 12 set would be
//! taken for a user root by the first NMI.
//!
//! Intel SDM vol. 3, 4.5 (CR3), 4.10.1 (PCID), 4.10.4.1 (MOV to CR3, bit 63); AMD APM vol. 2, 3.1.2.

use crate::paging::{NO_EXECUTE, PRESENT, USER};
use core::fmt;
use core::ops::Range;

/// The CR3 bit that picks the user root of a pair.
pub const USER_ROOT_BIT: u64 = 1 << 12;
/// The CR3 bit that picks the user half of a PCID. Always clear without CR4.PCIDE.
pub const USER_PCID_BIT: u64 = 1 << 11;
/// With CR4.PCIDE: writing CR3 with this bit keeps the TLB's entries of the PCID. It is not stored,
/// so reading CR3 gives it clear. Without CR4.PCIDE it is reserved: never set it there.
pub const NO_FLUSH: u64 = 1 << 63;
/// The bits of CR3 that hold the PCID, with CR4.PCIDE.
pub const PCID_MASK: u64 = 0xfff;
/// The bits of CR3 that hold the root's physical address.
pub const ADDRESS_MASK: u64 = crate::paging::ADDRESS_MASK;
/// The operand of the entry code's AND: everything but the two bits that say "user". As a
/// sign-extended 32-bit immediate it is `!0x1800`.
pub const TO_KERNEL_MASK: u64 = !(USER_ROOT_BIT | USER_PCID_BIT);
/// Bytes of a root pair, and its alignment: two tables of 4 KiB.
pub const ROOT_PAIR_BYTES: u64 = 8192;
/// Physical addresses end here, whatever the CPU (SDM vol. 3, 4.1.4: MAXPHYADDR is at most 52).
pub const PHYSICAL_END: u64 = 1 << 52;

/// The indices of a top-level table that map the user half. Both roots have these entries.
pub const USER_HALF: Range<usize> = 0..256;
/// The indices of a top-level table that map the kernel half.
pub const KERNEL_HALF: Range<usize> = 256..512;
/// The one index of the kernel half that a user root fills: the entry area's.
pub const ENTRY_SLOT: usize = 511;

const _: () = assert!(TO_KERNEL_MASK as i64 as i32 as i64 == TO_KERNEL_MASK as i64);
const _: () = assert!(ROOT_PAIR_BYTES == 2 * USER_ROOT_BIT);

/// Why a block of memory cannot be a root pair. The caller's fault, each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootError {
    /// The physical address is no multiple of [`ROOT_PAIR_BYTES`]: bit 12 could not pick a half; or the single
    /// root's is no multiple of 4 KiB.
    Misaligned(u64),
    /// The physical address does not lie below [`PHYSICAL_END`]: CR3 cannot hold it.
    TooHigh(u64),
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned(phys) => write!(f, "root pair at {phys:#x} is not aligned"),
            Self::TooHigh(phys) => write!(f, "root pair at {phys:#x} is not below 2^52"),
        }
    }
}

impl core::error::Error for RootError {}

/// Where the two roots of one address space are, as physical addresses. It owns nothing: the
/// 8 KiB stay the caller's, who must keep them for as long as any CPU may load the values made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RootPair {
    kernel_root: u64,
}

impl RootPair {
    /// The pair in the [`ROOT_PAIR_BYTES`] at physical address `phys`.
    ///
    /// # Errors
    ///
    /// [`RootError`] if `phys` is not 8 KiB aligned or not below 2^52.
    pub const fn new(phys: u64) -> Result<Self, RootError> {
        if phys >= PHYSICAL_END {
            Err(RootError::TooHigh(phys))
        } else if !phys.is_multiple_of(ROOT_PAIR_BYTES) {
            Err(RootError::Misaligned(phys))
        } else {
            Ok(Self { kernel_root: phys })
        }
    }

    /// The one root that serves for both without isolation, at physical address `phys`: any page will do. Only
    /// what takes `isolated` makes sense of it, with `false`, and the kernel's CR3 values.
    ///
    /// # Errors
    ///
    /// [`RootError`] if `phys` is not 4 KiB aligned or not below 2^52.
    pub const fn single(phys: u64) -> Result<Self, RootError> {
        if phys >= PHYSICAL_END {
            Err(RootError::TooHigh(phys))
        } else if !phys.is_multiple_of(ROOT_PAIR_BYTES / 2) {
            Err(RootError::Misaligned(phys))
        } else {
            Ok(Self { kernel_root: phys })
        }
    }

    /// The pair that a CR3 value belongs to, whichever half and PCID it picks.
    #[must_use]
    pub const fn of_cr3(cr3: u64) -> Self {
        Self { kernel_root: cr3 & ADDRESS_MASK & !USER_ROOT_BIT }
    }

    /// Physical address of the kernel root: the lower half.
    #[must_use]
    pub const fn kernel_root(self) -> u64 {
        self.kernel_root
    }

    /// Physical address of the user root: the upper half.
    #[must_use]
    pub const fn user_root(self) -> u64 {
        self.kernel_root | USER_ROOT_BIT
    }

    /// CR3 for the kernel, without PCID.
    #[must_use]
    pub const fn kernel_cr3(self) -> u64 {
        self.kernel_root
    }

    /// CR3 to leave to ring 3 with, without PCID: the user root, or without isolation the one root
    /// there is.
    #[must_use]
    pub const fn user_cr3(self, isolated: bool) -> u64 {
        if isolated { self.user_root() } else { self.kernel_root }
    }

    /// CR3 for the kernel under `pcid`. Needs CR4.PCIDE.
    #[must_use]
    pub const fn kernel_cr3_with(self, pcid: Pcid, tlb: Tlb) -> u64 {
        self.kernel_root | pcid.kernel() as u64 | tlb.bit()
    }

    /// CR3 to leave to ring 3 with, under `pcid`'s user half; without isolation the one root under
    /// the kernel half. Needs CR4.PCIDE.
    #[must_use]
    pub const fn user_cr3_with(self, isolated: bool, pcid: Pcid, tlb: Tlb) -> u64 {
        if isolated {
            self.user_root() | pcid.user() as u64 | tlb.bit()
        } else {
            self.kernel_cr3_with(pcid, tlb)
        }
    }
}

/// What a write to CR3 does with the TLB's entries of the PCID it loads, with CR4.PCIDE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tlb {
    /// They stay: bit 63 is set.
    Keep,
    /// They go, global ones excepted: bit 63 is clear.
    Flush,
}

impl Tlb {
    const fn bit(self) -> u64 {
        match self {
            Self::Keep => NO_FLUSH,
            Self::Flush => 0,
        }
    }
}

/// A process-context identifier with its two halves: 0 to 2047 for the kernel root, the same with
/// bit 11 set for the user root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pcid(u16);

impl Pcid {
    /// How many there are: 2048.
    pub const COUNT: u16 = USER_PCID_BIT as u16;

    /// Number 0: what CR3 has before CR4.PCIDE is set.
    pub const FIRST: Self = Self(0);

    /// PCID number `value`; `None` if bit 11 or a higher one is set.
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        if value < Self::COUNT { Some(Self(value)) } else { None }
    }

    /// The PCID of the kernel root.
    #[must_use]
    pub const fn kernel(self) -> u16 {
        self.0
    }

    /// The PCID of the user root.
    #[must_use]
    pub const fn user(self) -> u16 {
        self.0 | Self::COUNT
    }
}

/// What the entry code makes of the CR3 that it was entered with: the kernel's half of the same
/// pair, one AND. Of a value that is the kernel's already it changes nothing, so an entry that does
/// not know may do it blindly.
#[must_use]
pub const fn to_kernel(cr3: u64) -> u64 {
    cr3 & TO_KERNEL_MASK
}

/// [`to_kernel`] with CR4.PCIDE: the TLB's entries of the kernel's half stay.
#[must_use]
pub const fn to_kernel_keep(cr3: u64) -> u64 {
    to_kernel(cr3) | NO_FLUSH
}

/// Whether `cr3` picks the user root of its pair.
#[must_use]
pub const fn is_user(cr3: u64) -> bool {
    cr3 & USER_ROOT_BIT != 0
}

/// One top-level entry of the user half, as each root has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Halves {
    /// For the kernel root.
    pub kernel: u64,
    /// For the user root.
    pub user: u64,
}

/// The two forms of a top-level entry of the user half.
///
/// The user root gets `entry`; the kernel root gets it with NX, so that a return to ring 3 that
/// forgot to write CR3 faults on its first fetch. Two cases differ, both on the closed side:
///
/// * not present: zero in both, whatever else `entry` holds;
/// * present without [`USER`]: the kernel root gets it as it is, the user root gets nothing.
///   Ring 3 could not use the mapping, but Meltdown could.
#[must_use]
pub const fn user_half_entries(entry: u64) -> Halves {
    if entry & PRESENT == 0 {
        Halves { kernel: 0, user: 0 }
    } else if entry & USER == 0 {
        Halves { kernel: entry, user: 0 }
    } else {
        Halves { kernel: entry | NO_EXECUTE, user: entry }
    }
}

/// Whether `index` is a top-level entry that maps the user half.
#[must_use]
pub const fn user_half_index_ok(index: usize) -> bool {
    index < USER_HALF.end
}
