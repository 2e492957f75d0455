//! What the library asks of a kernel at boot, and what it answers if that will not do.
//!
//! Invariant: nothing is mapped before a [`Setup`] has been checked.

use crate::entry::Variant;
use crate::isolation::KERNEL_ENTRIES;
use crate::tables::MapError;
use core::ops::RangeInclusive;
use ringwall_core::area::{AreaError, EntryArea};
use ringwall_core::hardening::Hardening;
use ringwall_core::private;
use ringwall_core::root::ROOT_PAIR_BYTES;
use ringwall_core::tlb;
use x86_64::structures::paging::PhysFrame;

/// What [`Isolation::new`](crate::Isolation::new) wants to know.
#[derive(Clone, Debug)]
pub struct Setup<'a> {
    /// The kernel's root: its kernel half is complete, and its top-level entries will not change.
    pub kernel_root: PhysFrame,
    /// Addresses in the top 2 GiB that nothing uses; the entry area gets a random place there, of
    /// [`EntryArea::positions`] less the places at which [`EntryArea::gates_read_as_pointers`].
    pub region: RangeInclusive<u64>,
    /// A random number, from the best source there is.
    pub random: u64,
    /// Whether to isolate: [`ringwall_core::policy`] decides.
    pub isolate: bool,
    /// Whether isolation can be switched off for a process, and on again ([`AddressSpace::open`](crate::AddressSpace::open)):
    /// costs two pages. Without [`Setup::isolate`] it means nothing.
    pub switchable: bool,
    /// Whether CR4.PCIDE may be set, on every CPU: CPUID.01H:ECX.PCID, and nothing speaks against it.
    pub pcid: bool,
    /// Whether every CPU has INVPCID: CPUID.07H:EBX.INVPCID.
    pub invpcid: bool,
    /// What the entry code does beyond isolation: [`ringwall_core::hardening`] decides.
    pub hardening: Hardening,
    /// Whether CR4.FSGSBASE is on, on every CPU.
    pub fsgsbase: bool,
    /// Whether SYSRET leaves SS's attributes as they are: AMD's and Hygon's CPUs.
    pub sysret_keeps_ss: bool,
    /// Vectors that ring 3 may raise by INT n: 3 and 4 and whatever the ABI has.
    pub user_vectors: &'a [u8],
    /// A top-level slot that the kernel root does not use: it is filled in the roots of processes that
    /// have an LDT. [`ringwall_core::private::DEFAULT_SLOT`] if nothing speaks against it.
    pub private_slot: usize,
}

/// Why the entry area could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// The region is no place for the entry area.
    Area(AreaError),
    /// A page could not be mapped.
    Map(MapError),
    /// The kernel half has more top-level entries than [`KERNEL_ENTRIES`].
    TooManyKernelEntries(usize),
    /// The kernel root is not at a multiple of 8 KiB: the paranoid entries take bit 12 of CR3 for the mark of a
    /// user root.
    RootNotAligned(u64),
    /// The kernel maps this address as global: its translation would outlive the switch to a user root.
    GlobalPage(u64),
    /// Ring 3 may not raise this vector: it has an error code, or an entry that trusts nothing.
    BadUserVector(u8),
    /// The private slot is not in the kernel half, is the entry area's, or the kernel root uses it.
    PrivateSlot(usize),
    /// There is no such CPU: the layout has room for [`ringwall_core::area::MAX_CPUS`].
    NoSuchCpu(usize),
}

impl From<AreaError> for SetupError {
    fn from(error: AreaError) -> Self {
        SetupError::Area(error)
    }
}

impl From<MapError> for SetupError {
    fn from(error: MapError) -> Self {
        SetupError::Map(error)
    }
}

impl core::fmt::Display for SetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            SetupError::Area(error) => write!(f, "no place for the entry area: {error}"),
            SetupError::Map(error) => write!(f, "entry area: {error}"),
            SetupError::TooManyKernelEntries(count) => {
                write!(f, "{count} top-level kernel entries, at most {KERNEL_ENTRIES} are copied")
            }
            SetupError::RootNotAligned(root) => {
                write!(f, "the kernel root {root:#x} is not at a multiple of 8 KiB")
            }
            SetupError::GlobalPage(address) => {
                write!(f, "the kernel maps {address:#x} as global; with isolation no page may be")
            }
            SetupError::BadUserVector(vector) => {
                write!(f, "vector {vector} cannot be left to INT n in ring 3")
            }
            SetupError::PrivateSlot(slot) => {
                write!(f, "top-level slot {slot} cannot be the private slot")
            }
            SetupError::NoSuchCpu(index) => write!(f, "no place for CPU {index} in the entry area"),
        }
    }
}

impl Setup<'_> {
    pub(crate) fn variant(&self) -> Variant {
        match (self.isolate, self.pcid) {
            (false, _) => Variant::Plain,
            (true, false) => Variant::Isolated,
            (true, true) => Variant::Pcid,
        }
    }

    pub(crate) fn tlb(&self) -> tlb::Features {
        tlb::Features { pcid: self.pcid, invpcid: self.invpcid, isolated: self.isolate }
    }
}

pub(crate) fn check(setup: &Setup<'_>) -> Result<(), SetupError> {
    let root = setup.kernel_root.start_address().as_u64();
    if !root.is_multiple_of(ROOT_PAIR_BYTES) {
        return Err(SetupError::RootNotAligned(root));
    }
    // INT n pushes no error code, and INT 1, 2, 8 and 18 would open the paranoid entries to ring 3.
    let bad = |vector: &&u8| matches!(vector, 1 | 2 | 8 | 10..=14 | 17 | 18 | 21 | 29 | 30);
    match setup.user_vectors.iter().find(bad) {
        Some(vector) => Err(SetupError::BadUserVector(*vector)),
        None if !private::slot_ok(setup.private_slot) => {
            Err(SetupError::PrivateSlot(setup.private_slot))
        }
        None => Ok(()),
    }
}

/// Knuth's MMIX generator: the high bits are its good ones.
pub(crate) fn next_random(random: u64) -> u64 {
    random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f)
}

/// A random place, at which no gate reads as a pointer if there is one.
pub(crate) fn choose(setup: &Setup<'_>) -> Result<EntryArea, AreaError> {
    /// More than enough: each try succeeds with 7 chances of 16.
    const TRIES: usize = 64;
    let mut random = setup.random;
    let mut area = EntryArea::choose(random, &setup.region)?;
    for _ in 0..TRIES {
        if !area.gates_read_as_pointers() {
            break;
        }
        random = next_random(random);
        area = EntryArea::choose(random, &setup.region)?;
    }
    Ok(area)
}
