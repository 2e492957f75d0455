//! The list of addresses in a kernel's file, by which its image can slide (KASLR).
//!
//! ```text
//!   link with --emit-relocs  ──►  .rela.* sections  ──►  image_list, in the read-only data  ──►  boot/start.s
//!                                 dropped after that      32-bit places, 0, 64-bit places, 0      adds the slide
//! ```
//!
//! The kernel is compiled for a fixed place: position-independent code would cost every system call an instruction
//! or two. The linker notes each field that it filled with an address; those whose address is the moving image's
//! are listed, by the low halves of their own addresses. What is relative to the place it is at slides by itself.
//!
//! Invariant: a kind of relocation that is not understood ends the build, and so does a distance between the moving image
//! and the boot part, which stays. x86-64 psABI, 4.4 "Relocation".

use anyhow::{Context, Result, bail, ensure};
use object::elf;
use object::read::elf::ElfFile64;
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionFlags,
    SymbolSection,
};

/// Link addresses from here on slide; the boot part, below, stays.
const IMAGE: u64 = 0xffff_ffff_8000_0000;
/// The list's room begins and ends at these symbols of the linker script.
const LIST: [&str; 2] = ["image_list", "image_rodata_end"];

/// How a field refers to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    /// By its lower half, sign-extended.
    Narrow,
    /// Whole.
    Wide,
    /// By the distance from here.
    Relative,
    /// By the distance to a word of the linker's with the address (the GOT); or without it, as the linker likes.
    Through,
}

impl Reference {
    fn of(kind: u32) -> Option<Reference> {
        match kind {
            elf::R_X86_64_32 | elf::R_X86_64_32S => Some(Reference::Narrow),
            elf::R_X86_64_64 => Some(Reference::Wide),
            elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 | elf::R_X86_64_PC64 => {
                Some(Reference::Relative)
            }
            elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
                Some(Reference::Through)
            }
            _ => None,
        }
    }
}

impl Reference {
    /// Whether the field at `place` would be wrong after a slide, and nothing could be added to mend it everywhere: a
    /// distance from what stays to what slides, or the other way round. `slides`: what it refers to does.
    fn is_torn(self, place: u64, slides: bool) -> bool {
        self == Reference::Relative && slides != (place >= IMAGE)
    }
}

/// Whether the linker made the distance's own instruction of one that went through a word: LEA, CALL or JMP. (CALL
/// got an address-size prefix to fill the place, JMP a NOP behind it, so its displacement begins a byte earlier.)
fn is_direct(before: [u8; 2]) -> bool {
    matches!(before, [0x8d, _] | [0x67, 0xe8] | [_, 0xe9] | [0xe9, _])
}

/// The places that have to change, by the low halves of their addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    narrow: Vec<u32>,
    wide: Vec<u32>,
}

impl Places {
    /// The list as the kernel reads it.
    fn bytes(&self) -> Vec<u8> {
        let words = self.narrow.iter().chain(&[0]).chain(&self.wide).chain(&[0]);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }
}

/// Puts the list into a kernel that was linked with `--emit-relocs`, and takes out what it was made of, which
/// GRUB would refuse.
///
/// # Errors
///
/// When the file is no such kernel, the list has not enough room in it, or there is an address in it that could not slide.
pub fn put_into(kernel: &mut [u8]) -> Result<()> {
    let (list, room) = {
        let file = ElfFile64::parse(&*kernel).context("the kernel is no ELF file")?;
        (places(&file)?.bytes(), room(&file)?)
    };
    ensure!(
        list.len() <= room.len(),
        "the list of addresses takes {} bytes, and there is room for {}: raise boot::place::LIST_BYTES",
        list.len(),
        room.len()
    );
    let room = kernel.get_mut(room).context("the list's room is outside the file")?;
    room[..list.len()].copy_from_slice(&list);
    drop_relocations(kernel)
}

fn places(file: &ElfFile64<'_>) -> Result<Places> {
    let mut places = Places::default();
    let loaded = |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_ALLOC) != 0);
    for section in file.sections().filter(|section| loaded(section.flags())) {
        let start = section.address();
        let data = section.data()?;
        for (place, relocation) in section.relocations() {
            let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
            if r_type == elf::R_X86_64_NONE {
                continue;
            }
            let Some(reference) = Reference::of(r_type) else {
                bail!("relocation of kind {r_type} at {place:#x}: the kernel could not slide");
            };
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(symbol)?;
            let slides = symbol.address() >= IMAGE && symbol.section() != SymbolSection::Absolute;
            ensure!(
                !reference.is_torn(place, slides),
                "the distance at {place:#x} is between what slides and what stays"
            );
            match reference {
                Reference::Narrow if slides => {
                    ensure!(r_type == elf::R_X86_64_32S, "a zero-extended address at {place:#x}");
                    places.narrow.push(place as u32);
                }
                Reference::Wide if slides => places.wide.push(place as u32),
                Reference::Through => {
                    let offset = (place - start) as usize;
                    let distance = data.get(offset..).and_then(|bytes| bytes.first_chunk());
                    let distance = distance.map(|bytes| i64::from(i32::from_le_bytes(*bytes)));
                    let distance = distance.context("a relocation outside its section")?;
                    let word = place.wrapping_add_signed(4 + distance);
                    if word_at(file, word) == Some(symbol.address()) {
                        if slides {
                            places.wide.push(word as u32);
                        }
                        continue;
                    }
                    let before = offset.checked_sub(2).and_then(|at| data.get(at..offset));
                    let before = before.and_then(|bytes| bytes.first_chunk()).copied();
                    ensure!(
                        before.is_some_and(is_direct),
                        "what the linker made of the instruction at {place:#x} is not known: {before:x?}"
                    );
                }
                Reference::Narrow | Reference::Wide | Reference::Relative => {}
            }
        }
    }
    ensure!(!places.wide.is_empty(), "the kernel was not linked with --emit-relocs");
    places.narrow.sort_unstable();
    places.wide.sort_unstable();
    // Many go through the same word.
    places.wide.dedup();
    Ok(places)
}

/// The word at an address, if the file has it.
fn word_at(file: &ElfFile64<'_>, address: u64) -> Option<u64> {
    let mut sections = file.sections();
    let word = sections.find_map(|section| section.data_range(address, 8).ok().flatten())?;
    word.try_into().ok().map(u64::from_le_bytes)
}

/// Where in the file the list goes.
fn room(file: &ElfFile64<'_>) -> Result<std::ops::Range<usize>> {
    let mut ends = [0; 2];
    for (end, name) in ends.iter_mut().zip(LIST) {
        let symbol = file.symbol_by_name(name).with_context(|| format!("no symbol {name}"))?;
        *end = symbol.address();
    }
    let holds = |start: u64, bytes: u64| (start..start + bytes).contains(&ends[0]);
    let mut sections = file.sections();
    let section = sections.find(|section| holds(section.address(), section.size()));
    let section = section.context("the list's room is in no section")?;
    let (offset, _) = section.file_range().context("the list's room is not in the file")?;
    let start = (offset + ends[0] - section.address()) as usize;
    Ok(start..start + (ends[1] - ends[0]) as usize)
}

/// Makes the headers of all relocation sections inactive. ELF-64: header of the file and of sections.
fn drop_relocations(kernel: &mut [u8]) -> Result<()> {
    let (sections, count) = {
        let header = kernel.first_chunk::<64>().context("no ELF header")?;
        let word = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let offset = header[40..48].try_into().map(u64::from_le_bytes)?;
        ensure!(word(58) == 64, "section headers of another size");
        (usize::try_from(offset)?, usize::from(word(60)))
    };
    for number in 0..count {
        let at = sections + number * 64 + 4;
        let kind = kernel.get_mut(at..at + 4).context("section headers outside the file")?;
        if kind == elf::SHT_RELA.to_le_bytes() {
            kind.copy_from_slice(&elf::SHT_NULL.to_le_bytes());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_two_lists_each_with_an_end() {
        let places = Places { narrow: vec![0x8010_b000, 0x8010_b010], wide: vec![0x10_0240] };
        let words: Vec<u32> = places
            .bytes()
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect();
        assert_eq!(words, [0x8010_b000, 0x8010_b010, 0, 0x10_0240, 0]);
    }

    #[test]
    fn kinds_that_nobody_thought_of_are_not_understood() {
        assert_eq!(Reference::of(elf::R_X86_64_32S), Some(Reference::Narrow));
        assert_eq!(Reference::of(elf::R_X86_64_64), Some(Reference::Wide));
        assert_eq!(Reference::of(elf::R_X86_64_PLT32), Some(Reference::Relative));
        for kind in [elf::R_X86_64_GOTTPOFF, elf::R_X86_64_16, 77] {
            assert_eq!(Reference::of(kind), None);
        }
    }

    #[test]
    fn a_distance_between_what_slides_and_what_stays_is_refused() {
        let (stays, slides) = (0x10_0240, IMAGE + 0x1000);
        for (place, target_slides, torn) in [
            (stays, false, false),
            (stays, true, true),
            (slides, true, false),
            (slides, false, true),
        ] {
            assert_eq!(Reference::Relative.is_torn(place, target_slides), torn);
            assert!(!Reference::Wide.is_torn(place, target_slides));
        }
    }

    #[test]
    fn a_load_from_the_linkers_word_is_not_direct() {
        assert!(is_direct([0x8d, 0x05]), "lea rax, [rip + ...]");
        assert!(is_direct([0x67, 0xe8]), "call");
        assert!(!is_direct([0x8b, 0x05]), "mov rax, [rip + ...]");
        assert!(!is_direct([0xff, 0x15]), "call [rip + ...]");
        // What lld makes of TEST and of arithmetic, with the address in it.
        assert!(!is_direct([0xf7, 0xc0]) && !is_direct([0x81, 0xf8]));
    }

    #[test]
    fn relocation_sections_become_inactive() {
        let mut file = vec![0; 64 + 2 * 64];
        file[40] = 64;
        file[58] = 64;
        file[60] = 2;
        file[64 + 4] = elf::SHT_RELA as u8;
        file[128 + 4] = elf::SHT_SYMTAB as u8;
        drop_relocations(&mut file).expect("headers");
        assert_eq!((file[64 + 4], file[128 + 4]), (0, elf::SHT_SYMTAB as u8));
        assert!(drop_relocations(&mut file[..100]).is_err());
    }

    #[test]
    fn what_is_no_kernel_is_an_error() {
        assert!(put_into(&mut [0; 100]).is_err());
    }
}
