//! The entry area: the only kernel-half addresses of a user root, and what each of its pages is.
//!
//! ```text
//!   base ┌─────────────┐
//!        │ entry text  │  both views, split
//!        ├─────────────┤
//!        │ IDT         │  both views, one page
//!        ├─────────────┤ ─┐ gdt()
//!        │ GDT and TSS │  │                 both views, one page
//!        ├─────────────┤  │ stack() = GS base
//!        │ stack page  │  │ CPU 0           both views, split
//!        ├─────────────┤  │ alias()
//!        │ alias       │  │                 kernel view only: the user view's stack page again
//!        ├─────────────┤  │ data()
//!        │ kernel data │  │                 kernel view only
//!        ├─────────────┤ ─┘
//!        │ ...         │    CPU 1, and so on to MAX_CPUS
//!        ├─────────────┤
//!        │ open text   │  kernel view only: the ways in and out of processes whose isolation is switched off
//!        ├─────────────┤
//!        │ open IDT    │  kernel view only: its gates lead to the open text
//!    end └─────────────┘
//! ```
//!
//! Address space is reserved for [`MAX_CPUS`], so a CPU that comes up late has its place; only pages
//! of CPUs that are up are mapped. The two pages behind the stack page are kernel-only: an access
//! relative to the GS base reaches the user-visible page with offsets below 4096 and kernel-only ones
//! from there on.
//!
//! Invariants: an [`EntryArea`] lies wholly inside [`TOP`], so kernel text and entry text reach each
//! other with `call rel32`, and no address of it wraps. Every address of it is in exactly one page.
//!
//! Intel SDM vol. 3, 7.7 (TSS), 6.10 (IDT), 3.4.4.1 (GS base).

use crate::paging::canonical;
use core::fmt;
use core::ops::RangeInclusive;

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;
/// How many CPUs the area has room for.
pub const MAX_CPUS: usize = 512;
/// Pages that exist once and come first: the entry text and the IDT.
pub const SHARED_PAGES: u64 = 2;
/// Pages that exist once and come last: the open text and its IDT.
pub const OPEN_PAGES: u64 = 2;
/// Pages of each CPU: GDT and TSS, stack page, alias, kernel data.
pub const CPU_PAGES: u64 = 4;
/// Pages of the whole area.
pub const AREA_PAGES: u64 = OPEN_NUMBER + OPEN_PAGES;
/// Number of the first of [`OPEN_PAGES`].
const OPEN_NUMBER: u64 = SHARED_PAGES + CPU_PAGES * MAX_CPUS as u64;
/// Bytes of the whole area: a little over 8 MiB of address space.
pub const AREA_BYTES: u64 = AREA_PAGES * PAGE_SIZE;

/// The addresses that an area may use: the top 2 GiB but for the last page, so that the address
/// after an area is a number too, and no area has the addresses that small negative numbers have.
pub const TOP: RangeInclusive<u64> = TOP_START..=TOP_LAST;
const TOP_START: u64 = 0xffff_ffff_8000_0000;
const TOP_LAST: u64 = u64::MAX - PAGE_SIZE;

/// Why an area cannot be where it was asked to be. The caller's fault, each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaError {
    /// The base is no multiple of [`PAGE_SIZE`].
    Misaligned(u64),
    /// The base is not canonical.
    NotCanonical(u64),
    /// The area from this base would not lie wholly inside [`TOP`].
    OutsideTop(u64),
    /// No page-aligned base lets the area fit between these addresses, both included.
    NoRoom {
        /// First address that was allowed.
        first: u64,
        /// Last address that was allowed.
        last: u64,
    },
}

impl fmt::Display for AreaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misaligned(base) => write!(f, "entry area at {base:#x} is not page-aligned"),
            Self::NotCanonical(base) => write!(f, "entry area at {base:#x} is not canonical"),
            Self::OutsideTop(base) => {
                write!(f, "entry area at {base:#x} is not wholly inside the top 2 GiB")
            }
            Self::NoRoom { first, last } => {
                write!(
                    f,
                    "no room for {AREA_BYTES:#x} bytes of entry area in {first:#x}..={last:#x}"
                )
            }
        }
    }
}

impl core::error::Error for AreaError {}

/// Which kind of page of the area.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// Entry text, shared.
    Text,
    /// IDT, shared.
    Idt,
    /// Entry text without switches, shared: for open processes, in the kernel view only.
    OpenText,
    /// IDT whose gates lead there, shared.
    OpenIdt,
    /// A CPU's GDT and TSS.
    Gdt,
    /// A CPU's stack page: its entry stack, landing stacks and scratch. The GS base.
    Stack,
    /// The user view's stack page under its second name, in the kernel view only.
    Alias,
    /// A CPU's kernel-only data.
    Data,
}

impl Page {
    /// What the page is called in prose.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "entry text",
            Self::Idt => "IDT",
            Self::OpenText => "open entry text",
            Self::OpenIdt => "open IDT",
            Self::Gdt => "GDT and TSS",
            Self::Stack => "stack page",
            Self::Alias => "alias of the user view's stack page",
            Self::Data => "kernel data",
        }
    }
}

/// Where in the area an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The kind of page.
    pub page: Page,
    /// The CPU's index, for a page that each CPU has.
    pub cpu: Option<usize>,
    /// Bytes from the start of the page, below [`PAGE_SIZE`].
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.page.name())?;
        if let Some(cpu) = self.cpu {
            write!(f, " of CPU {cpu}")?;
        }
        write!(f, " + {:#x}", self.offset)
    }
}

/// An entry area's place. It owns nothing: it is arithmetic on the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryArea {
    base: u64,
}

impl EntryArea {
    /// The area that starts at `base`.
    ///
    /// # Errors
    ///
    /// [`AreaError`] if `base` is not canonical, not page-aligned, or the area would leave [`TOP`].
    pub const fn new(base: u64) -> Result<Self, AreaError> {
        if !canonical(base) {
            Err(AreaError::NotCanonical(base))
        } else if !base.is_multiple_of(PAGE_SIZE) {
            Err(AreaError::Misaligned(base))
        } else if base < TOP_START || base > TOP_LAST - (AREA_BYTES - 1) {
            Err(AreaError::OutsideTop(base))
        } else {
            Ok(Self { base })
        }
    }

    /// How many bases let an area fit into the addresses `within`, [`TOP`] excepted ones left out.
    ///
    /// Its binary logarithm is the entropy of [`choose`](Self::choose) in bits: 18.99 for all of
    /// [`TOP`], 17.99 for one gigabyte of it.
    #[must_use]
    pub const fn positions(within: &RangeInclusive<u64>) -> u64 {
        match Self::bases(within) {
            Some((first, last)) => (last - first) / PAGE_SIZE + 1,
            None => 0,
        }
    }

    /// The area at a base chosen by `random` among all that fit into the addresses `within`, both
    /// ends included. Keep the kernel image and whatever else has its place out of `within`.
    ///
    /// With `random` uniform over `u64`, the choice is uniform over [`positions`](Self::positions)
    /// bases: none is likelier than another by more than one part in 2^44. A `random` with less
    /// entropy must have it in its **high** bits: the low 44 decide nothing.
    ///
    /// # Errors
    ///
    /// [`AreaError::NoRoom`] if no base fits.
    pub const fn choose(random: u64, within: &RangeInclusive<u64>) -> Result<Self, AreaError> {
        let Some((first, _)) = Self::bases(within) else {
            return Err(AreaError::NoRoom { first: *within.start(), last: *within.end() });
        };
        let position = (random as u128 * Self::positions(within) as u128) >> 64;
        Self::new(first + position as u64 * PAGE_SIZE)
    }

    /// Whether bytes of the IDT, read as one unaligned word, give an address in a kernel-only page.
    ///
    /// Bytes 4 to 11 of a gate are the stack's number, the type (8E, or EE where ring 3 may use the
    /// gate) and the entry text's address from bit 16 up: read as a word, an address in the text's own
    /// 64 KiB, at 8E00 or EE00 there. It leads nowhere, but whoever searches visible memory for
    /// pointers cannot know that, so such a base is better avoided. 7 of 16 bases are left: of
    /// [`choose`](Self::choose)'s entropy, that takes 1.2 bits.
    #[must_use]
    pub const fn gates_read_as_pointers(self) -> bool {
        let block = self.base & !0xffff;
        self.is_kernel_only(block | 0x8000) || self.is_kernel_only(block | 0xe000)
    }

    const fn is_kernel_only(self, addr: u64) -> bool {
        matches!(
            self.describe(addr),
            Some(Place { page: Page::OpenText | Page::OpenIdt | Page::Alias | Page::Data, .. })
        )
    }

    /// First and last base that fit.
    const fn bases(within: &RangeInclusive<u64>) -> Option<(u64, u64)> {
        let (start, end) = (*within.start(), *within.end());
        let start = if start > TOP_START { start } else { TOP_START };
        let end = if end < TOP_LAST { end } else { TOP_LAST };
        if start > end || end - start < AREA_BYTES - 1 {
            return None;
        }
        let last = (end - (AREA_BYTES - 1)) & !(PAGE_SIZE - 1);
        let Some(first) = start.checked_next_multiple_of(PAGE_SIZE) else { return None };
        if first <= last { Some((first, last)) } else { None }
    }

    /// The first address, that of the entry text.
    #[must_use]
    pub const fn base(self) -> u64 {
        self.base
    }

    /// The address after the last.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.base + AREA_BYTES
    }

    /// The entry text's page.
    #[must_use]
    pub const fn text(self) -> u64 {
        self.base
    }

    /// The IDT's page.
    #[must_use]
    pub const fn idt(self) -> u64 {
        self.base + PAGE_SIZE
    }

    /// The page of the entry text without switches.
    #[must_use]
    pub const fn open_text(self) -> u64 {
        self.base + OPEN_NUMBER * PAGE_SIZE
    }

    /// The page of the IDT whose gates lead there.
    #[must_use]
    pub const fn open_idt(self) -> u64 {
        self.open_text() + PAGE_SIZE
    }

    /// The pages of CPU `index`; `None` from [`MAX_CPUS`] on.
    #[must_use]
    pub const fn cpu(self, index: usize) -> Option<CpuArea> {
        if index >= MAX_CPUS {
            return None;
        }
        let first = self.base + (SHARED_PAGES + index as u64 * CPU_PAGES) * PAGE_SIZE;
        Some(CpuArea { index, first })
    }

    /// The address of a page; for one that each CPU has, that of CPU `cpu`.
    ///
    /// `None` if `cpu` is not below [`MAX_CPUS`]; shared pages do not look at it.
    #[must_use]
    pub const fn address(self, page: Page, cpu: usize) -> Option<u64> {
        match page {
            Page::Text => Some(self.text()),
            Page::Idt => Some(self.idt()),
            Page::OpenText => Some(self.open_text()),
            Page::OpenIdt => Some(self.open_idt()),
            Page::Gdt | Page::Stack | Page::Alias | Page::Data => match self.cpu(cpu) {
                Some(area) => area.address(page),
                None => None,
            },
        }
    }

    /// Whether `addr` is in the area, mapped or not.
    #[must_use]
    pub const fn contains(self, addr: u64) -> bool {
        self.base <= addr && addr < self.end()
    }

    /// Which page, and whose, `addr` is in; `None` outside the area. That its CPU is up, and the
    /// page mapped, it does not say.
    #[must_use]
    pub const fn describe(self, addr: u64) -> Option<Place> {
        if !self.contains(addr) {
            return None;
        }
        let number = (addr - self.base) / PAGE_SIZE;
        let offset = addr % PAGE_SIZE;
        if number < SHARED_PAGES {
            let page = if number == 0 { Page::Text } else { Page::Idt };
            return Some(Place { page, cpu: None, offset });
        }
        if number >= OPEN_NUMBER {
            let page = if number == OPEN_NUMBER { Page::OpenText } else { Page::OpenIdt };
            return Some(Place { page, cpu: None, offset });
        }
        let page = match (number - SHARED_PAGES) % CPU_PAGES {
            0 => Page::Gdt,
            1 => Page::Stack,
            2 => Page::Alias,
            _ => Page::Data,
        };
        Some(Place { page, cpu: Some(((number - SHARED_PAGES) / CPU_PAGES) as usize), offset })
    }
}

/// One CPU's four pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CpuArea {
    index: usize,
    first: u64,
}

impl CpuArea {
    /// The CPU's index, below [`MAX_CPUS`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.index
    }

    /// The page of the GDT and the TSS.
    #[must_use]
    pub const fn gdt(self) -> u64 {
        self.first
    }

    /// The stack page.
    #[must_use]
    pub const fn stack(self) -> u64 {
        self.first + PAGE_SIZE
    }

    /// What the kernel's GS base is on this CPU: the stack page.
    #[must_use]
    pub const fn gs_base(self) -> u64 {
        self.stack()
    }

    /// The user view's stack page under its second name.
    #[must_use]
    pub const fn alias(self) -> u64 {
        self.first + 2 * PAGE_SIZE
    }

    /// The CPU's kernel-only data.
    #[must_use]
    pub const fn data(self) -> u64 {
        self.first + 3 * PAGE_SIZE
    }

    /// The address of one of this CPU's pages; `None` for a shared one.
    #[must_use]
    pub const fn address(self, page: Page) -> Option<u64> {
        match page {
            Page::Text | Page::Idt | Page::OpenText | Page::OpenIdt => None,
            Page::Gdt => Some(self.gdt()),
            Page::Stack => Some(self.stack()),
            Page::Alias => Some(self.alias()),
            Page::Data => Some(self.data()),
        }
    }
}
