//! Programs: from an ELF image to memory that is ready to run.
//!
//! ```text
//!   file:    ├─ p_offset ─ p_filesz ─┤
//!   memory:  ├─ pages of the file, copy on write ─┤─ zeros (p_memsz) ─┤
//!              p_vaddr + bias                tail cleared
//! ```
//!
//! Nothing of the image is believed: every address and size is checked before it is used, and what
//! is made is a new address space that is thrown away if anything is wrong. ELF-64 Object File
//! Format; gabi chapter 5.

use super::Mm;
use super::layout::USER_END;
use super::map::{LOWEST, check_commit};
use super::mapping::{MappedFile, Mapping, Protection, RegionFlags};
use super::page::PAGE;
use super::space::Space;
use super::spread::spread;
use super::stack::{self, Told};
use super::vdso;
use crate::errno::{Errno, Result};
use crate::fs::{File, Inode, Paths};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};
use linux_raw_sys::auxvec as aux;
use linux_raw_sys::errno::ELIBBAD;
use ringwall::AddressSpace;

/// Bytes of an ELF-64 file header, and of a program header.
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
/// Most program headers: 64 KiB of them.
const MOST_HEADERS: u16 = (65536 / PROGRAM_HEADER) as u16;
/// Longest path of a dynamic loader.
const LONGEST_PATH: u64 = 4096;
/// Where images that can be anywhere are put, before it is randomised: two thirds up.
const ANYWHERE: u64 = (USER_END / 3 * 2) & !(PAGE - 1);
/// How far such images, and the heap, are moved at random.
const IMAGE_SPREAD: u64 = 0xfff_ffff * PAGE;
const HEAP_SPREAD: u64 = 0x1fff * PAGE;

/// A program image made ready to run.
pub struct Loaded {
    /// Its memory.
    pub mm: Arc<Mm>,
    /// First instruction.
    pub entry: u64,
    /// Stack pointer, argc at it.
    pub stack: u64,
    /// Where the arguments lie, for /proc/PID/cmdline.
    pub arguments: Range<u64>,
}

impl Mm {
    /// Makes the memory of a new program from an ELF image (64-bit, for x86-64; with its dynamic
    /// loader, found through `paths`, if it asks for one). Interpreter scripts (#!) are resolved by the caller.
    ///
    /// # Errors
    /// `ENOEXEC`, `ENOMEM`, `E2BIG`, `ENOENT` (a dynamic loader that is not there), `EINVAL`,
    /// `ELIBBAD`.
    pub fn load(
        paths: &Paths,
        image: &File,
        path: &[u8],
        arguments: &[Vec<u8>],
        environment: &[Vec<u8>],
    ) -> Result<Loaded> {
        let program = Image::read(image)?;
        let loader = match program.loader_path()? {
            Some(path) => Some(Image::open_loader(paths, &path)?),
            None => None,
        };
        super::admit()?;
        let mm = Mm::empty()?;
        // Linux gives every program a name, even an empty one.
        let unnamed = [Vec::new()];
        let mut told = Told {
            path,
            arguments: if arguments.is_empty() { &unnamed } else { arguments },
            environment,
            auxiliary: [(aux::AT_NULL, 0); 6],
            executable: program.wants_executable_stack(),
        };
        told.check(mm.stack_limit())?;
        let (entry, stack, arguments) = {
            let mut space = mm.space.lock();
            let (top, ceiling) = stack::places(&mm);
            space.ceiling = ceiling;
            let placed = program.map(&mut space, mm.roots(), program.bias()?)?;
            space.place_heap(placed.end)?;
            let (start, base) = match &loader {
                Some(loader) => loader.map_anywhere(&mut space, mm.roots())?,
                None => (placed.entry, 0),
            };
            let vdso = vdso::map(&mut space, mm.roots(), top)?;
            told.auxiliary = [
                (aux::AT_SYSINFO_EHDR, vdso),
                (aux::AT_PHDR, placed.headers),
                (aux::AT_PHENT, PROGRAM_HEADER as u64),
                (aux::AT_PHNUM, u64::from(program.header.e_phnum)),
                (aux::AT_BASE, base),
                (aux::AT_ENTRY, placed.entry),
            ];
            let stack = stack::make(&mut space, mm.roots(), top, &told)?;
            (start, stack, space.arguments.clone())
        };
        Ok(Loaded { mm, entry, stack, arguments })
    }
}

/// An ELF image whose headers are good.
struct Image {
    file: Arc<MappedFile>,
    header: FileHeader<LittleEndian>,
    headers: Vec<u8>,
}

/// Where an image came to lie.
struct Placed {
    /// Address of its program headers; 0 if it does not show them.
    headers: u64,
    entry: u64,
    /// Page-aligned end.
    end: u64,
}

/// Fills `into` from `offset` on.
fn read_exactly(inode: &dyn Inode, offset: u64, into: &mut [u8]) -> Result<()> {
    let mut done = 0;
    while done < into.len() {
        let at = offset.checked_add(done as u64).ok_or(Errno::ENOEXEC)?;
        match inode.read_at(at, &mut into[done..])? {
            0 => return Err(Errno::ENOEXEC),
            bytes => done += bytes,
        }
    }
    Ok(())
}

impl Image {
    fn read(file: &File) -> Result<Image> {
        let inode = file.inode();
        let mut start = [0; HEADER];
        read_exactly(&**inode, 0, &mut start)?;
        let header = parse_ident::<LittleEndian>(&start)
            .and_then(|ident| FileHeader::parse_tail(ident, &start[abi::EI_NIDENT..]))
            .map_err(|_| Errno::ENOEXEC)?;
        let good = header.class == Class::ELF64
            && header.e_machine == abi::EM_X86_64
            && matches!(header.e_type, abi::ET_EXEC | abi::ET_DYN)
            && usize::from(header.e_phentsize) == PROGRAM_HEADER
            && (1..=MOST_HEADERS).contains(&header.e_phnum);
        if !good {
            return Err(Errno::ENOEXEC);
        }
        let bytes = usize::from(header.e_phnum) * PROGRAM_HEADER;
        let mut headers = Vec::new();
        headers.try_reserve_exact(bytes).map_err(|_| Errno::ENOMEM)?;
        headers.resize(bytes, 0);
        read_exactly(&**inode, header.e_phoff, &mut headers)?;
        let file = Arc::new(MappedFile { inode: inode.clone(), path: file.path(), writable: None });
        Ok(Image { file, header, headers })
    }

    fn segments(&self) -> impl Iterator<Item = ProgramHeader> {
        SegmentTable::new(LittleEndian, Class::ELF64, &self.headers).iter()
    }

    fn loaded_segments(&self) -> impl Iterator<Item = ProgramHeader> {
        self.segments().filter(|segment| segment.p_type == abi::PT_LOAD)
    }

    /// Path of the dynamic loader, if the image asks for one.
    fn loader_path(&self) -> Result<Option<Vec<u8>>> {
        let Some(segment) = self.segments().find(|segment| segment.p_type == abi::PT_INTERP) else {
            return Ok(None);
        };
        if !(2..=LONGEST_PATH).contains(&segment.p_filesz) {
            return Err(Errno::ENOEXEC);
        }
        let mut path = alloc::vec![0; segment.p_filesz as usize];
        read_exactly(&*self.file.inode, segment.p_offset, &mut path)?;
        if path.pop() != Some(0) {
            return Err(Errno::ENOEXEC);
        }
        path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
        Ok(Some(path))
    }

    fn open_loader(paths: &Paths, path: &[u8]) -> Result<Image> {
        let file = paths.open_executable(path)?;
        let bad = Errno(ELIBBAD as usize);
        Image::read(&file).map_err(|error| match error {
            Errno::ENOMEM => error,
            _ => bad,
        })
    }

    fn wants_executable_stack(&self) -> bool {
        self.segments()
            .find(|segment| segment.p_type == abi::PT_GNU_STACK)
            .is_some_and(|segment| segment.p_flags & abi::PF_X != 0)
    }

    /// The addresses that the image wants, whole pages.
    fn span(&self) -> Result<Range<u64>> {
        let mut span = Range { start: u64::MAX, end: 0 };
        for segment in self.loaded_segments() {
            let end = segment.p_vaddr.checked_add(segment.p_memsz).ok_or(Errno::EINVAL)?;
            if end > USER_END {
                return Err(Errno::EINVAL);
            }
            span.start = span.start.min(segment.p_vaddr & !(PAGE - 1));
            span.end = span.end.max(end.next_multiple_of(PAGE));
        }
        // An image of no segments is mapped nowhere, and its program faults at once.
        Ok(if span.start < span.end { span } else { 0..0 })
    }

    /// Greatest alignment that a segment asks for.
    fn alignment(&self) -> u64 {
        let asked = self.loaded_segments().map(|segment| segment.p_align);
        asked.filter(|align| align.is_power_of_two() && *align <= 1 << 30).fold(PAGE, u64::max)
    }

    /// How far a program is moved: not at all, or to where programs that can be anywhere are put.
    fn bias(&self) -> Result<u64> {
        if self.header.e_type == abi::ET_EXEC {
            return Ok(0);
        }
        let span = self.span()?;
        if span.is_empty() {
            return Err(Errno::EINVAL);
        }
        let start = ANYWHERE + spread(IMAGE_SPREAD);
        // A lowest address that is not 0 is moved away from.
        Ok((start & !(self.alignment() - 1)).wrapping_sub(span.start & !(self.alignment() - 1)))
    }

    /// Maps a dynamic loader where there is room; gives its entry and where it lies.
    fn map_anywhere(&self, space: &mut Space, roots: &AddressSpace) -> Result<(u64, u64)> {
        let bad = Errno(ELIBBAD as usize);
        let span = self.span()?;
        if span.is_empty() || self.header.e_type != abi::ET_DYN {
            return Err(bad);
        }
        let align = self.alignment();
        let room = (span.end - span.start).checked_add(align).ok_or(bad)?;
        let at = space.place(0, room, 0)?.next_multiple_of(align);
        let bias = at.wrapping_sub(span.start & !(align - 1));
        let placed = self.map(space, roots, bias)?;
        Ok((placed.entry, bias))
    }

    /// Maps all segments, `bias` from where they want to be.
    fn map(&self, space: &mut Space, roots: &AddressSpace, bias: u64) -> Result<Placed> {
        let mut placed = Placed { headers: 0, entry: 0, end: 0 };
        for segment in self.loaded_segments() {
            let start = segment.p_vaddr.wrapping_add(bias);
            let end = start.checked_add(segment.p_memsz).ok_or(Errno::EINVAL)?;
            if end > USER_END - PAGE || segment.p_filesz > segment.p_memsz {
                return Err(Errno::EINVAL);
            }
            self.map_segment(space, roots, &segment, start)?;
            placed.end = placed.end.max(end.next_multiple_of(PAGE));
            let into = self.header.e_phoff.wrapping_sub(segment.p_offset);
            if into < segment.p_filesz {
                placed.headers = start + into;
            }
        }
        placed.entry = self.header.e_entry.wrapping_add(bias);
        if placed.entry >= USER_END {
            return Err(Errno::EINVAL);
        }
        Ok(placed)
    }

    fn map_segment(
        &self,
        space: &mut Space,
        roots: &AddressSpace,
        segment: &ProgramHeader,
        start: u64,
    ) -> Result<()> {
        let into_page = start % PAGE;
        if segment.p_offset % PAGE != into_page {
            return Err(Errno::EINVAL);
        }
        let first = start - into_page;
        let file_end = start + segment.p_filesz;
        let end = (start + segment.p_memsz).next_multiple_of(PAGE);
        let rights = rights(segment.p_flags);
        let zeros = if segment.p_filesz == 0 { first } else { file_end.next_multiple_of(PAGE) };
        segment.p_offset.checked_add(end - first).ok_or(Errno::EINVAL)?;
        if rights.contains(Protection::WRITE) {
            check_commit(end - first)?;
        }
        if zeros > first {
            let mut mapping = Mapping::anonymous(rights, RegionFlags::empty());
            mapping.file = Some(self.file.clone());
            mapping.offset = segment.p_offset - into_page;
            space.replace(roots, first..zeros, mapping)?;
        }
        if end > zeros {
            let mapping = Mapping::anonymous(rights, RegionFlags::empty());
            space.replace(roots, zeros..end, mapping)?;
        }
        if segment.p_filesz > 0
            && segment.p_memsz > segment.p_filesz
            && !file_end.is_multiple_of(PAGE)
        {
            // What the file has behind the segment is not the program's.
            let page = space.own(roots, file_end).map_err(|fault| match fault {
                super::Fault::NoMemory => Errno::ENOMEM,
                _ => Errno::ENOEXEC,
            })?;
            page.clear((file_end % PAGE) as usize..PAGE as usize);
        }
        Ok(())
    }
}

fn rights(flags: u32) -> Protection {
    let mut rights = Protection::empty();
    rights.set(Protection::READ, flags & abi::PF_R != 0);
    rights.set(Protection::WRITE, flags & abi::PF_W != 0);
    rights.set(Protection::EXECUTE, flags & abi::PF_X != 0);
    rights
}

impl Space {
    /// Puts the empty heap behind the program, a random way off.
    fn place_heap(&mut self, end: u64) -> Result<()> {
        let start = end.max(LOWEST).checked_add(spread(HEAP_SPREAD));
        let start = start.filter(|&start| start < USER_END).ok_or(Errno::ENOMEM)?;
        self.heap = start..start;
        Ok(())
    }
}
