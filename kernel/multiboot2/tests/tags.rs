//! Sound lists of tags, and every way to damage one.

use proptest::prelude::*;
use ringwall_multiboot2::{Error, Information, MemoryRange, total_size};

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The information with these tags and an end.
fn information(tags: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    for (kind, data) in tags.iter().chain([&(0, Vec::new())]) {
        bytes.extend(words(&[*kind, data.len() as u32 + 8]));
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0xee);
    }
    let size = bytes.len() as u32;
    bytes[..4].copy_from_slice(&size.to_le_bytes());
    bytes
}

fn map() -> (u32, Vec<u8>) {
    (6, words(&[24, 0, 0, 0, 0x9f000, 0, 1, 0, 0x10_0000, 1, 0x3ff_0000, 2, 2, 0]))
}

fn example() -> Vec<u8> {
    information(&[
        (1, b"pti=on -- x\0behind".to_vec()),
        (77, vec![1, 2, 3]),
        (3, words(&[0x20_0000, 0x20_1234, 0])),
        (14, vec![14; 20]),
        map(),
        (15, vec![15; 36]),
        (3, words(&[0x50_0000, 0x60_0000])),
        (1, b"second\0".to_vec()),
    ])
}

#[test]
fn a_sound_list_is_read() {
    let bytes = example();
    let information = Information::parse(&bytes).expect("sound");
    assert_eq!(information.command_line(), b"pti=on -- x");
    assert_eq!(information.module(), Some(0x20_0000..0x20_1234));
    let rsdp = information.rsdp_offset().expect("a root pointer");
    assert_eq!(bytes[rsdp..rsdp + 36], [15; 36]);
    let ranges: Vec<_> = information.memory_map().collect();
    let second = MemoryRange { address: 0x1_0010_0000, size: 0x2_03ff_0000, kind: 2 };
    assert_eq!(ranges, [MemoryRange { address: 0, size: 0x9f000, kind: 1 }, second]);
}

#[test]
fn the_old_root_pointer_will_do() {
    let bytes = information(&[map(), (14, vec![14; 20])]);
    let rsdp = Information::parse(&bytes).expect("sound").rsdp_offset().expect("a root pointer");
    assert_eq!(bytes[rsdp..rsdp + 20], [14; 20]);
}

#[test]
fn little_is_needed() {
    let bytes = information(&[map()]);
    let information = Information::parse(&bytes).expect("sound");
    assert_eq!(information.command_line(), b"");
    assert_eq!((information.module(), information.rsdp_offset()), (None, None));
}

#[test]
fn the_length_comes_first() {
    assert_eq!(total_size([16, 0, 0, 0, 9, 9, 9, 9]), Ok(16));
    assert_eq!(total_size([15, 0, 0, 0, 0, 0, 0, 0]), Err(Error::Size { size: 15 }));
}

#[test]
fn damage_is_named() {
    let fails = |bytes: &[u8]| Information::parse(bytes).expect_err("damaged");
    let bytes = example();
    assert_eq!(fails(&bytes[..7]), Error::Size { size: 7 });
    assert_eq!(fails(&bytes[..40]), Error::NoEnd { offset: 40 });
    assert_eq!(fails(&information(&[])), Error::NoMemoryMap);
    let no_entry = (6, words(&[24, 0]));
    assert_eq!(fails(&information(&[no_entry])), Error::NoMemoryMap);
    let small = (6, words(&[16, 0, 0, 0, 0, 0]));
    assert_eq!(fails(&information(&[small])), Error::EntrySize { size: 16 });
    let reversed = (3, words(&[2, 1]));
    assert_eq!(fails(&information(&[reversed])), Error::Module { start: 2, end: 1 });
    for (kind, length) in [(3, 7), (6, 4), (14, 19), (15, 35)] {
        let error = Error::Truncated { kind, offset: 8, size: length + 8 };
        assert_eq!(fails(&information(&[(kind, vec![0; length as usize])])), error);
    }
    // A tag of size 0 would be read for ever, one of 7 has no room for its own header.
    for size in [0u32, 7, 1 << 20, u32::MAX] {
        let mut bytes = information(&[map()]);
        bytes[12..16].copy_from_slice(&size.to_le_bytes());
        assert_eq!(fails(&bytes), Error::Truncated { kind: 6, offset: 8, size });
    }
    let mut endless = information(&[map()]);
    let end = endless.len() - 8;
    endless[end] = 99;
    assert_eq!(fails(&endless), Error::NoEnd { offset: endless.len() });
}

proptest! {
    /// Whatever the loader wrote: an answer, no panic, and nothing from outside of the bytes.
    #[test]
    fn any_bytes_are_answered(noise in prop::collection::vec((0usize..300, any::<u8>()), 0..20), cut in 0usize..400) {
        let mut bytes = example();
        let length = bytes.len();
        for (place, value) in noise {
            bytes[place % length] = value;
        }
        bytes.truncate(cut);
        if let Ok(information) = Information::parse(&bytes) {
            prop_assert!(information.memory_map().count() <= bytes.len() / 20);
            prop_assert!(information.command_line().len() < bytes.len());
            prop_assert!(information.rsdp_offset().is_none_or(|offset| offset + 20 <= bytes.len()));
        }
    }
}
