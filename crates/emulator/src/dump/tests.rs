//! Cores made for the purpose: sound ones, and ones that no QEMU would write.

use std::io::Write;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::notes::tests::note;
use super::*;

/// A program header: type, offset, physical address, size in the file.
type Header = (u32, u64, u64, u64);

/// The file header, these program headers, and then `contents`; offsets in the headers count from the start of the
/// contents.
fn core(headers: &[Header], contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(16, 0);
    bytes.extend(4_u16.to_le_bytes());
    bytes.extend(62_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend([64, 56, headers.len() as u16, 0, 0, 0].map(u16::to_le_bytes).concat());
    let base = 64 + 56 * headers.len() as u64;
    for (kind, offset, physical, size) in headers {
        bytes.extend([*kind, 0].map(u32::to_le_bytes).concat());
        let words = [offset.wrapping_add(base), 0, *physical, *size, *size, 0];
        bytes.extend(words.map(u64::to_le_bytes).concat());
    }
    bytes.extend(contents);
    bytes
}

/// One CPU, 16 bytes at 0 and 16 at 1 MiB, each byte with its own number.
fn sound() -> Vec<u8> {
    let notes = note(440);
    let length = notes.len() as u64;
    let contents: Vec<u8> = notes.into_iter().chain(0..32).collect();
    core(
        &[(PT_NOTE, 0, 0, length), (PT_LOAD, length, 0, 16), (PT_LOAD, length + 16, 1 << 20, 16)],
        &contents,
    )
}

#[test]
fn registers_and_memory_are_found() {
    let core = Core::from_bytes(sound()).expect("a sound core");
    assert_eq!(core.registers().expect("a note").len(), 1);
    assert_eq!(core.missing(), 0);
    let mut buffer = [0; 4];
    assert!(core.read((1 << 20) + 12, &mut buffer));
    assert_eq!(buffer, [28, 29, 30, 31]);
    assert!(!core.read((1 << 20) + 13, &mut buffer));
    assert!(core.holds(0, 16) && !core.holds(0, 17) && !core.holds(u64::MAX, 1));
}

#[test]
fn a_file_is_as_good_as_bytes() {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(&sound()).expect("a write");
    let core = Core::open(file.path()).expect("a sound core");
    let mut buffer = [0; 2];
    assert!(core.read(14, &mut buffer));
    assert_eq!(buffer, [14, 15]);

    let raw = Raw::open(file.path()).expect("any file");
    assert!(raw.read(0, &mut buffer));
    assert_eq!(buffer, [0x7f, b'E']);
    assert!(!raw.holds(0, 1 << 40) && !raw.read(1 << 40, &mut buffer));
    assert!(matches!(Core::open("/dev/null".as_ref()), Err(DumpError::NotAFile)));
    assert!(matches!(Core::open("/nonexistent".as_ref()), Err(DumpError::Read(_))));
}

#[test]
fn what_was_cut_off_is_missing_and_no_memory() {
    let mut bytes = sound();
    bytes.truncate(bytes.len() - 4);
    let core = Core::from_bytes(bytes).expect("the rest");
    assert_eq!(core.missing(), 4);
    assert!(core.holds(1 << 20, 12) && !core.holds(1 << 20, 13));
}

#[test]
fn many_headers_are_counted_in_the_section() {
    // With more than 1,024 of them, they come in several parts, too.
    let headers: Vec<Header> = (0..3000).map(|index| (PT_LOAD, index, index << 12, 1)).collect();
    let mut bytes = core(&headers, &[7; 3000]);
    let section = bytes.len() as u64;
    bytes.extend([0; 44]);
    bytes.extend(3000_u32.to_le_bytes());
    bytes.extend([0; 16]);
    bytes[40..48].copy_from_slice(&section.to_le_bytes());
    bytes[56..58].copy_from_slice(&PN_XNUM.to_le_bytes());
    let core = Core::from_bytes(bytes).expect("a sound core");
    assert!(core.holds(2999 << 12, 1));
    assert!(matches!(core.registers(), Err(DumpError::NoRegisters)));
}

#[test]
fn other_formats_are_named() {
    let error = |bytes: &[u8]| Core::from_bytes(bytes.to_vec()).expect_err("no core").to_string();
    assert!(error(b"KDUMP   \x06").contains("without -z"));
    assert!(error(b"makedumpfile\0").contains("without -z"));
    assert!(error(b"PAGEDU64").contains("without -w"));
    assert!(error(b"QEVM\0\0\0\x03").contains("migration"));
    assert!(error(b"").contains("--raw"));
    let mut program = sound();
    program[16] = 2;
    assert!(error(&program).contains("no core"));
    let mut other = sound();
    other[4] = 1;
    assert!(error(&other).contains("64-bit x86"));
}

#[test]
fn headers_that_lie_are_refused() {
    let with = |at: usize, value: &[u8]| {
        let mut bytes = sound();
        bytes[at..at + value.len()].copy_from_slice(value);
        Core::from_bytes(bytes)
    };
    assert!(with(54, &[0]).is_err(), "size of a header");
    assert!(with(56, &[0xfe, 0xff]).is_err(), "more headers than the file holds");
    assert!(with(56, &[0xff, 0xff]).is_err(), "no section to count them");
    assert!(with(32, &[0xff; 8]).is_err(), "headers at the end of all addresses");
    assert!(with(56, &[0, 0]).is_err(), "no memory");
    let end = Core::from_bytes(core(&[(PT_LOAD, 0, u64::MAX - 3, 8)], &[1; 8])).expect("a core");
    assert!(!end.holds(u64::MAX - 3, 8) && !end.read(u64::MAX - 3, &mut [0; 8]));
}

proptest! {
    #[test]
    fn no_bytes_are_trouble(
        mut bytes in Just(sound()),
        changes in prop::collection::vec((0..700_usize, any::<u8>()), 0..12),
        length in 0..800_usize,
        address: u64,
    ) {
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(length);
        if let Ok(core) = Core::from_bytes(bytes) {
            for address in [0, 1 << 20, address] {
                let mut buffer = [0; 24];
                let read = core.read(address, &mut buffer);
                prop_assert!(!read || core.holds(address, 24));
            }
        }
    }
}
