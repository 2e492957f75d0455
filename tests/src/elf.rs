//! ELF files: their size once loaded, and damage for scenarios with an init that must be refused.
//!
//! Offsets are those of a 64-bit ELF header and program header (System V gABI, chapters 4 and 5).

use std::ops::Range;

/// `p_type` of a segment that is loaded.
pub const LOAD: u32 = 1;
/// `p_type` of the name of a dynamic loader.
pub const INTERPRETER: u32 = 3;
/// `p_type` of a note.
pub const NOTE: u32 = 4;

const CLASS: usize = 4;
const CLASS_32: u8 = 1;
const MACHINE: Range<usize> = 18..20;
const MACHINE_386: u16 = 3;
const ENTRY: Range<usize> = 24..32;
const PROGRAM_HEADERS: Range<usize> = 32..40;
const ENTRY_SIZE: Range<usize> = 54..56;
const PROGRAM_HEADER_COUNT: Range<usize> = 56..58;
const PROGRAM_HEADER_SIZE: usize = 56;
const TYPE: Range<usize> = 0..4;
const FILE_OFFSET: Range<usize> = 8..16;
const VIRTUAL_ADDRESS: Range<usize> = 16..24;
const FILE_BYTES: Range<usize> = 32..40;
const MEMORY_BYTES: Range<usize> = 40..48;

/// Says that the file is a 32-bit one. Linux looks at the machine alone, others at the class.
pub fn claim_32_bit(file: &mut [u8]) {
    file[CLASS] = CLASS_32;
    file[MACHINE].copy_from_slice(&MACHINE_386.to_le_bytes());
}

/// Turns the first segment of type `from` into one of type `to`.
///
/// # Panics
///
/// When there is none.
pub fn change_type(file: &mut [u8], from: u32, to: u32) {
    let segment = segments(file, from)[0].clone();
    file[segment][TYPE].copy_from_slice(&to.to_le_bytes());
}

/// Moves loadable segment number `index` to another virtual address.
///
/// # Panics
///
/// When there are not that many.
pub fn move_segment(file: &mut [u8], index: usize, address: u64) {
    let segment = segments(file, LOAD)[index].clone();
    file[segment][VIRTUAL_ADDRESS].copy_from_slice(&address.to_le_bytes());
}

/// Sets the size in memory of loadable segment number `index`.
///
/// # Panics
///
/// When there are not that many.
pub fn resize_segment(file: &mut [u8], index: usize, size: u64) {
    let segment = segments(file, LOAD)[index].clone();
    file[segment][MEMORY_BYTES].copy_from_slice(&size.to_le_bytes());
}

/// Moves loadable segment number `index` to another place in the file.
///
/// # Panics
///
/// When there are not that many.
pub fn move_in_file(file: &mut [u8], index: usize, offset: u64) {
    let segment = segments(file, LOAD)[index].clone();
    file[segment][FILE_OFFSET].copy_from_slice(&offset.to_le_bytes());
}

/// Sets where the program headers are, how many, and how large each is said to be.
pub fn set_program_headers(file: &mut [u8], offset: u64, count: u16, size: u16) {
    file[PROGRAM_HEADERS].copy_from_slice(&offset.to_le_bytes());
    file[PROGRAM_HEADER_COUNT].copy_from_slice(&count.to_le_bytes());
    file[ENTRY_SIZE].copy_from_slice(&size.to_le_bytes());
}

/// Sets the address of the first instruction.
pub fn set_entry(file: &mut [u8], address: u64) {
    file[ENTRY].copy_from_slice(&address.to_le_bytes());
}

/// The virtual address of loadable segment number `index`.
///
/// # Panics
///
/// When there are not that many.
pub fn segment_address(file: &[u8], index: usize) -> u64 {
    let segment = segments(file, LOAD)[index].clone();
    u64::from_le_bytes(file[segment][VIRTUAL_ADDRESS].try_into().expect("eight bytes"))
}

/// The virtual address of `bytes`, the first that are in a loadable segment.
pub fn address_of(file: &[u8], bytes: &[u8]) -> Option<u64> {
    segments(file, LOAD).into_iter().find_map(|segment| {
        let number = |field: Range<usize>| {
            u64::from_le_bytes(file[segment.clone()][field].try_into().expect("eight bytes"))
        };
        let offset = number(FILE_OFFSET) as usize;
        let content = &file[offset..offset + number(FILE_BYTES) as usize];
        let place = content.windows(bytes.len()).position(|window| window == bytes)?;
        Some(number(VIRTUAL_ADDRESS) + place as u64)
    })
}

/// How many bytes of the file are loaded into memory.
pub fn loaded_bytes(file: &[u8]) -> u64 {
    let size = |segment: &Range<usize>| {
        u64::from_le_bytes(file[segment.clone()][FILE_BYTES].try_into().expect("eight bytes"))
    };
    segments(file, LOAD).iter().map(size).sum()
}

/// Where the program headers of one type are.
fn segments(file: &[u8], wanted: u32) -> Vec<Range<usize>> {
    let start = u64::from_le_bytes(file[PROGRAM_HEADERS].try_into().expect("eight bytes")) as usize;
    let count = u16::from_le_bytes(file[PROGRAM_HEADER_COUNT].try_into().expect("two bytes"));
    (0..usize::from(count))
        .map(|index| start + index * PROGRAM_HEADER_SIZE)
        .map(|header| header..header + PROGRAM_HEADER_SIZE)
        .filter(|header| file[header.clone()][TYPE] == wanted.to_le_bytes())
        .collect()
}
