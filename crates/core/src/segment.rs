//! Segment descriptors that a program may choose: for its LDT, and for the three GDT entries of its
//! threads.
//!
//! ```text
//!  63    56 55 54 53 52 51    48 47 46 45 44 43  40 39            16 15          0
//! ┌────────┬──┬──┬──┬──┬────────┬──┬─────┬──┬──────┬────────────────┬─────────────┐
//! │ base   │G │D │L │av│ limit  │P │ DPL │S │ type │ base 23..0     │ limit 15..0 │
//! └────────┴──┴──┴──┴──┴────────┴──┴─────┴──┴──────┴────────────────┴─────────────┘
//! ```
//!
//! Invariant: a [`Descriptor`] is empty, or a code or data segment (S) of ring 3 (DPL), not 64-bit
//! (L), accessed already, and not both present and conforming. So no gate gets in, nothing names a
//! system object, and the CPU never writes to the read-only page that holds it.
//!
//! Intel SDM vol. 3, 3.4.5 (descriptors), 3.4.5.1 (types); AMD APM vol. 2, 4.7.

/// What a segment is for: the upper two bits of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Data; the limit is its end.
    Data = 0,
    /// Data; the limit is the end of what is missing at the bottom.
    ExpandDown = 1,
    /// Code.
    Code = 2,
    /// Code that runs with the caller's privilege.
    Conforming = 3,
}

/// A segment in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// First linear address.
    pub base: u32,
    /// Last offset, in bytes or pages; 20 bits count.
    pub limit: u32,
    /// What it is for.
    pub kind: Kind,
    /// Data can be written, code can be read.
    pub full: bool,
    /// Loading its selector works. Else that is #NP or #SS.
    pub present: bool,
    /// The limit counts pages (G).
    pub pages: bool,
    /// 32-bit code, or a stack of 32-bit pointers (D/B).
    pub wide: bool,
    /// A bit that the CPU leaves to software.
    pub available: bool,
}

/// Why a segment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// Present conforming code: ring 0 could run it by a far jump.
    Conforming,
    /// For a thread: a 16-bit one. The exit keeps the kernel's stack pointer from LDT segments only.
    Narrow,
    /// For a thread: code.
    Code,
    /// For a thread: one that is not present.
    NotPresent,
}

impl core::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Conforming => "a conforming code segment cannot be present",
            Self::Narrow => "a thread's segment cannot be a 16-bit one",
            Self::Code => "a thread's segment cannot be code",
            Self::NotPresent => "a thread's segment has to be present",
        })
    }
}

impl core::error::Error for SegmentError {}

const ACCESSED: u64 = 1 << 40;
const FULL: u64 = 1 << 41;
const KIND: u32 = 42;
const NOT_SYSTEM: u64 = 1 << 44;
const RING_3: u64 = 3 << 45;
const PRESENT: u64 = 1 << 47;
const AVAILABLE: u64 = 1 << 52;
const LONG: u64 = 1 << 53;
const WIDE: u64 = 1 << 54;
const PAGES: u64 = 1 << 55;

/// A descriptor that cannot do harm, whatever it says; see the invariant above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Descriptor(u64);

impl Descriptor {
    /// No segment.
    pub const EMPTY: Descriptor = Descriptor(0);

    /// A descriptor for an LDT.
    ///
    /// # Errors
    ///
    /// [`SegmentError::Conforming`].
    pub const fn for_ldt(segment: &Segment) -> Result<Descriptor, SegmentError> {
        if segment.present && matches!(segment.kind, Kind::Conforming) {
            return Err(SegmentError::Conforming);
        }
        Ok(Descriptor(encode(segment)))
    }

    /// A descriptor for a thread's GDT entry: 32-bit data, present.
    ///
    /// # Errors
    ///
    /// [`SegmentError`].
    pub const fn for_thread(segment: &Segment) -> Result<Descriptor, SegmentError> {
        if !segment.wide {
            return Err(SegmentError::Narrow);
        }
        if matches!(segment.kind, Kind::Code | Kind::Conforming) {
            return Err(SegmentError::Code);
        }
        if !segment.present {
            return Err(SegmentError::NotPresent);
        }
        Ok(Descriptor(encode(segment)))
    }

    /// The descriptor with these bits, if it is one that cannot do harm.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Descriptor> {
        let wanted = ACCESSED | NOT_SYSTEM | RING_3;
        let conforming = bits >> KIND & 3 == Kind::Conforming as u64;
        let sound =
            bits & wanted == wanted && bits & LONG == 0 && !(conforming && bits & PRESENT != 0);
        if bits == 0 || sound { Some(Descriptor(bits)) } else { None }
    }

    /// As the CPU reads it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether it is [`Descriptor::EMPTY`].
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What it says. Of [`Descriptor::EMPTY`], the fields that are all zeros.
    #[must_use]
    pub const fn segment(self) -> Segment {
        let bits = self.0;
        Segment {
            base: (bits >> 16 & 0xff_ffff | bits >> 56 << 24) as u32,
            limit: (bits & 0xffff | bits >> 32 & 0xf_0000) as u32,
            kind: match bits >> KIND & 3 {
                0 => Kind::Data,
                1 => Kind::ExpandDown,
                2 => Kind::Code,
                _ => Kind::Conforming,
            },
            full: bits & FULL != 0,
            present: bits & PRESENT != 0,
            pages: bits & PAGES != 0,
            wide: bits & WIDE != 0,
            available: bits & AVAILABLE != 0,
        }
    }
}

const fn encode(segment: &Segment) -> u64 {
    let (base, limit) = (segment.base as u64, segment.limit as u64);
    let mut bits = limit & 0xffff
        | (base & 0xff_ffff) << 16
        | ACCESSED
        | (segment.kind as u64) << KIND
        | NOT_SYSTEM
        | RING_3
        | (limit & 0xf_0000) << 32
        | base >> 24 << 56;
    if segment.full {
        bits |= FULL;
    }
    if segment.present {
        bits |= PRESENT;
    }
    if segment.available {
        bits |= AVAILABLE;
    }
    if segment.wide {
        bits |= WIDE;
    }
    if segment.pages {
        bits |= PAGES;
    }
    bits
}
