//! What a multiboot2 loader hands over, as data: a list of tags, read and checked.
//!
//! ```text
//!   0           8                 8-aligned                                total size
//!   ├ size, 0 ──┼ kind, size, data ┼┄┄ padding ┼ kind, size, data ┼┄ … ┼ 0, 8 ┤
//! ```
//!
//! The list is believed in nothing: a size that leads out of it, or that its tag's fields do not fit in,
//! is an error that says where. Tags of unknown kinds are passed over; of a kind that comes twice, the
//! first counts (for modules that is the rule: the first is the initramfs).
//!
//! Source: Multiboot2 Specification 2.0, "Boot information".
#![no_std]
#![forbid(unsafe_code)]

mod error;

use core::ops::Range;

pub use error::Error;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// What EAX holds when a multiboot2 loader enters a kernel.
pub const MAGIC: u32 = 0x36d7_6289;

/// Bytes before the first tag.
pub const HEADER: usize = size_of::<Header>();

/// Tags start at multiples of this.
const ALIGNMENT: usize = 8;

/// Kinds of tags.
mod kind {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    /// A copy of ACPI 1.0's root pointer.
    pub const OLD_RSDP: u32 = 14;
    /// A copy of ACPI 2.0's root pointer.
    pub const NEW_RSDP: u32 = 15;
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Header {
    total_size: U32,
    reserved: U32,
}

#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct TagHeader {
    kind: U32,
    size: U32,
}

/// What every entry of the memory map begins with.
#[derive(FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct MapEntry {
    address: U64,
    size: U64,
    kind: U32,
}

/// One range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// Physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// 1 is usable RAM; the others are ACPI's.
    pub kind: u32,
}

/// The information, checked from end to end.
#[derive(Clone, Copy, Debug)]
pub struct Information<'a> {
    command_line: &'a [u8],
    module: Option<(u32, u32)>,
    map_entries: &'a [u8],
    map_entry_size: usize,
    rsdp: Option<usize>,
}

/// Reads the size of the whole information, header included, from its first bytes.
///
/// # Errors
/// [`Error::Size`] when that is less than a header and an end take.
pub fn total_size(header: [u8; HEADER]) -> Result<usize, Error> {
    let [a, b, c, d, ..] = header;
    let size = u32::from_le_bytes([a, b, c, d]);
    let least = HEADER + size_of::<TagHeader>();
    (size as usize >= least).then_some(size as usize).ok_or(Error::Size { size })
}

impl<'a> Information<'a> {
    /// Checks `bytes`, the whole information, and finds what a kernel needs in it.
    ///
    /// # Errors
    /// When the list of tags does not end within `bytes`, a tag is too short for what its kind holds,
    /// or there is no memory map.
    pub fn parse(bytes: &'a [u8]) -> Result<Information<'a>, Error> {
        let header = bytes.first_chunk().ok_or(Error::Size { size: bytes.len() as u32 })?;
        let bytes =
            bytes.get(..total_size(*header)?).ok_or(Error::NoEnd { offset: bytes.len() })?;
        let mut found = Information {
            command_line: &[],
            module: None,
            map_entries: &[],
            map_entry_size: 0,
            rsdp: None,
        };
        let mut old_rsdp = None;
        let mut offset = HEADER;
        loop {
            let tag = Tag::at(bytes, offset)?;
            match tag.kind {
                kind::END => break,
                kind::COMMAND_LINE if found.command_line.is_empty() => {
                    found.command_line = until_zero(tag.data);
                }
                kind::MODULE if found.module.is_none() => found.module = Some(tag.module()?),
                kind::MEMORY_MAP if found.map_entry_size == 0 => {
                    (found.map_entry_size, found.map_entries) = tag.memory_map()?;
                }
                kind::OLD_RSDP => old_rsdp = old_rsdp.or(Some(tag.rsdp(20)?)),
                kind::NEW_RSDP => found.rsdp = found.rsdp.or(Some(tag.rsdp(36)?)),
                _ => (),
            }
            offset = tag.next;
        }
        found.rsdp = found.rsdp.or(old_rsdp);
        if found.map_entries.is_empty() { Err(Error::NoMemoryMap) } else { Ok(found) }
    }

    /// The command line, without its zero.
    pub fn command_line(&self) -> &'a [u8] {
        self.command_line
    }

    /// Physical range of the first module.
    pub fn module(&self) -> Option<Range<u64>> {
        self.module.map(|(start, end)| start.into()..end.into())
    }

    /// The memory map.
    pub fn memory_map(&self) -> impl Iterator<Item = MemoryRange> + use<'a> {
        self.map_entries.chunks_exact(self.map_entry_size).filter_map(|bytes| {
            let (entry, _) = MapEntry::ref_from_prefix(bytes).ok()?;
            let (address, size, kind) = (entry.address.get(), entry.size.get(), entry.kind.get());
            Some(MemoryRange { address, size, kind })
        })
    }

    /// Where in the information the copy of ACPI's root pointer is, the newer one if there are both.
    pub fn rsdp_offset(&self) -> Option<usize> {
        self.rsdp
    }
}

/// One tag, inside of the information.
struct Tag<'a> {
    kind: u32,
    offset: usize,
    data: &'a [u8],
    /// Offset of the next tag.
    next: usize,
}

impl<'a> Tag<'a> {
    fn at(bytes: &'a [u8], offset: usize) -> Result<Tag<'a>, Error> {
        let rest = bytes.get(offset..).ok_or(Error::NoEnd { offset })?;
        let Ok((header, _)) = TagHeader::ref_from_prefix(rest) else {
            return Err(Error::NoEnd { offset });
        };
        let (kind, size) = (header.kind.get(), header.size.get());
        let data = rest.get(size_of::<TagHeader>()..size as usize).ok_or(Error::Truncated {
            kind,
            offset,
            size,
        })?;
        let next = (offset + size as usize).next_multiple_of(ALIGNMENT);
        Ok(Tag { kind, offset, data, next })
    }

    /// The two words that every tag with a payload has here begin with.
    fn words(&self) -> Result<(u32, u32, &'a [u8]), Error> {
        let Ok((words, rest)) = <[U32; 2]>::ref_from_prefix(self.data) else {
            return Err(self.short());
        };
        Ok((words[0].get(), words[1].get(), rest))
    }

    fn module(&self) -> Result<(u32, u32), Error> {
        let (start, end, _) = self.words()?;
        if start > end { Err(Error::Module { start, end }) } else { Ok((start, end)) }
    }

    /// Size of an entry, and all entries.
    fn memory_map(&self) -> Result<(usize, &'a [u8]), Error> {
        let (entry_size, _version, entries) = self.words()?;
        if (entry_size as usize) < size_of::<MapEntry>() {
            return Err(Error::EntrySize { size: entry_size });
        }
        Ok((entry_size as usize, entries))
    }

    fn rsdp(&self, least: usize) -> Result<usize, Error> {
        let place = self.offset + size_of::<TagHeader>();
        (self.data.len() >= least).then_some(place).ok_or(self.short())
    }

    fn short(&self) -> Error {
        Error::Truncated {
            kind: self.kind,
            offset: self.offset,
            size: (self.data.len() + size_of::<TagHeader>()) as u32,
        }
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
