//! A guest that is a file: an ELF core made by QEMU's `dump-guest-memory`, or an image of its physical memory.
//!
//! ```text
//!   core:   ELF header, program headers, notes (registers), memory    as written by dump-guest-memory
//!   image:  memory                                                    as written by pmemsave 0 SIZE; no registers
//! ```
//!
//! Headers and notes are read when it is opened, memory when it is asked for: the size of a file does not matter. The
//! file is not trusted: lengths and counts in it are checked against the file's own and against fixed limits. What a
//! file that was cut short no longer has is no memory.

mod error;
mod notes;
mod segments;
mod source;

use std::path::Path;

use object::LittleEndian;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_CORE, FileHeader64, PN_XNUM, PT_LOAD, PT_NOTE,
    ProgramHeader64, SectionHeader64,
};
use object::pod::{self, Pod};

pub use error::DumpError;
use segments::{Segment, Segments};
use source::Source;

use crate::{Memory, Registers};

/// All notes together: 4,096 CPUs take 4 MiB.
const MOST_NOTES: u64 = 16 << 20;
/// More program headers than a core of any machine has, however its memory is mapped.
const MOST_HEADERS: u64 = 1 << 22;
/// Program headers that are read at once.
const HEADERS: usize = 1024;

/// An ELF core of a whole guest.
#[derive(Debug)]
pub struct Core {
    source: Source,
    segments: Segments,
    registers: Vec<Registers>,
    missing: u64,
}

impl Core {
    /// Opens a core.
    ///
    /// # Errors
    ///
    /// [`DumpError`] says why that is no core, and how to make one.
    pub fn open(path: &Path) -> Result<Core, DumpError> {
        Core::new(Source::open(path)?)
    }

    /// Reads a core that is in memory.
    ///
    /// # Errors
    ///
    /// As [`Core::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Core, DumpError> {
        Core::new(Source::Bytes(bytes))
    }

    fn new(source: Source) -> Result<Core, DumpError> {
        let header = header(&source)?;
        let count = count(&source, &header)?;
        let offset = header.e_phoff.get(LittleEndian);
        let mut core =
            Core { source, segments: Segments::default(), registers: Vec::new(), missing: 0 };
        let size = size_of::<ProgramHeader64<LittleEndian>>();
        let mut buffer = vec![0; HEADERS * size];
        let mut notes = 0;
        for first in (0..count).step_by(HEADERS) {
            let bytes = &mut buffer[..(count - first).min(HEADERS as u64) as usize * size];
            let at = offset.checked_add(first * size as u64);
            let at = at.ok_or(DumpError::Damaged("program headers beyond all files"))?;
            core.source.read(at, bytes)?;
            let (headers, _) =
                pod::slice_from_bytes::<ProgramHeader64<LittleEndian>>(bytes, bytes.len() / size)
                    .map_err(|()| DumpError::Damaged("program headers"))?;
            for header in headers {
                core.add(header, &mut notes)?;
            }
        }
        core.segments.finish();
        for (cpu, index) in core.registers.iter_mut().zip(0..) {
            cpu.index = index;
        }
        match core.segments.is_empty() {
            true => Err(DumpError::Damaged("there is no memory in it")),
            false => Ok(core),
        }
    }

    /// Takes one program header in. `notes` counts the bytes of notes so far.
    fn add(
        &mut self,
        header: &ProgramHeader64<LittleEndian>,
        notes: &mut u64,
    ) -> Result<(), DumpError> {
        let offset = header.p_offset.get(LittleEndian);
        let claimed = header.p_filesz.get(LittleEndian);
        let there = claimed.min(self.source.length().saturating_sub(offset));
        match header.p_type.get(LittleEndian) {
            PT_NOTE => {
                *notes = notes.saturating_add(there);
                if *notes > MOST_NOTES {
                    return Err(DumpError::Damaged("more notes than any machine has CPUs"));
                }
                let mut bytes = vec![0; there as usize];
                self.source.read(offset, &mut bytes)?;
                self.registers.extend(notes::registers(&bytes, header.p_align.get(LittleEndian)));
            }
            PT_LOAD => {
                self.missing = self.missing.saturating_add(claimed - there);
                let start = header.p_paddr.get(LittleEndian);
                let end = start.saturating_add(there);
                if !self.segments.add(Segment { start, end, offset }) {
                    return Err(DumpError::Damaged("more pieces of memory than any machine has"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The registers of all CPUs, in the order of QEMU's numbers.
    ///
    /// # Errors
    ///
    /// [`DumpError::NoRegisters`] if another program than QEMU made the core.
    pub fn registers(&self) -> Result<&[Registers], DumpError> {
        match self.registers.is_empty() {
            true => Err(DumpError::NoRegisters),
            false => Ok(&self.registers),
        }
    }

    /// How many bytes of memory the headers promise that the file no longer has. Not 0 if it was cut short.
    pub fn missing(&self) -> u64 {
        self.missing
    }
}

impl Memory for Core {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else { return false };
            let Some(segment) = self.segments.find(at) else { return false };
            let length = (segment.end - at).min((buffer.len() - done) as u64) as usize;
            let Some(offset) = segment.offset.checked_add(at - segment.start) else { return false };
            if self.source.read(offset, &mut buffer[done..done + length]).is_err() {
                return false;
            }
            done += length;
        }
        true
    }

    fn holds(&self, address: u64, bytes: u64) -> bool {
        address.checked_add(bytes).is_some_and(|end| self.segments.hold(address, end))
    }
}

/// An image of physical memory: the byte at each address stands at that offset.
#[derive(Debug)]
pub struct Raw {
    source: Source,
}

impl Raw {
    /// Opens an image.
    ///
    /// # Errors
    ///
    /// [`DumpError::Read`] and [`DumpError::NotAFile`].
    pub fn open(path: &Path) -> Result<Raw, DumpError> {
        Ok(Raw { source: Source::open(path)? })
    }

    /// A CPU in ring 3 under this root, with everything set that a kernel which isolates itself sets; `levels` is 4
    /// or 5. What descriptor tables it has is not known.
    pub fn registers(cr3: u64, levels: u8) -> Registers {
        const PROTECTED_PAGED: u64 = 1 << 31 | 1 << 16 | 1;
        const PAE: u64 = 1 << 5;
        const LA57: u64 = 1 << 12;
        let cr4 = if levels == 5 { PAE | LA57 } else { PAE };
        Registers { cpl: 3, cr0: PROTECTED_PAGED, cr3, cr4, ..Registers::default() }
    }
}

impl Memory for Raw {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.source.read(address, buffer).is_ok()
    }

    fn holds(&self, address: u64, bytes: u64) -> bool {
        address.checked_add(bytes).is_some_and(|end| end <= self.source.length())
    }
}

/// The file header of a core that can be looked at.
fn header(source: &Source) -> Result<FileHeader64<LittleEndian>, DumpError> {
    // Long enough for the words that other formats begin with.
    let mut start = [0; 16];
    let length = source.length().min(start.len() as u64) as usize;
    source.read(0, &mut start[..length])?;
    match start {
        [b'K', b'D', b'U', b'M', b'P', ..] => return Err(DumpError::Kdump),
        _ if start.starts_with(b"makedumpfile") => return Err(DumpError::Kdump),
        _ if start.starts_with(b"PAGEDU") => return Err(DumpError::Windows),
        [b'Q', b'E', b'V', b'M', ..] => return Err(DumpError::Migration),
        [0x7f, b'E', b'L', b'F', class, order, ..] => {
            if (class, order) != (ELFCLASS64, ELFDATA2LSB) {
                return Err(DumpError::NotX86);
            }
        }
        _ => return Err(DumpError::NotElf),
    }
    let header: FileHeader64<LittleEndian> = read(source, 0)?;
    if header.e_type.get(LittleEndian) != ET_CORE {
        return Err(DumpError::NotACore);
    }
    if header.e_machine.get(LittleEndian) != EM_X86_64 {
        return Err(DumpError::NotX86);
    }
    let size = usize::from(header.e_phentsize.get(LittleEndian));
    if size != size_of::<ProgramHeader64<LittleEndian>>() {
        return Err(DumpError::Damaged("program headers of an unknown size"));
    }
    Ok(header)
}

/// The number of program headers. What does not fit into 16 bits stands in the first section header.
fn count(source: &Source, header: &FileHeader64<LittleEndian>) -> Result<u64, DumpError> {
    let count = match header.e_phnum.get(LittleEndian) {
        PN_XNUM => {
            let section: SectionHeader64<LittleEndian> =
                read(source, header.e_shoff.get(LittleEndian))?;
            u64::from(section.sh_info.get(LittleEndian))
        }
        count => u64::from(count),
    };
    let bytes = count * size_of::<ProgramHeader64<LittleEndian>>() as u64;
    match bytes <= source.length() && count <= MOST_HEADERS {
        true => Ok(count),
        false => Err(DumpError::Damaged("too many program headers")),
    }
}

fn read<T: Pod>(source: &Source, offset: u64) -> Result<T, DumpError> {
    let mut bytes = vec![0; size_of::<T>()];
    let damaged = |_| DumpError::Damaged("it ends in the middle of a header");
    source.read(offset, &mut bytes).map_err(damaged)?;
    let (value, _) = pod::from_bytes(&bytes).map_err(|()| DumpError::Damaged("a header"))?;
    Ok(*value)
}

#[cfg(test)]
mod tests;
