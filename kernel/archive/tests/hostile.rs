//! Archives that are good, truncated, corrupt, or nothing of the kind.

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use ringwall_archive::{Error, Reader, compression, gunzip};
use std::io::Write;

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn member(magic: &str, fields: [u32; 11], name: &[u8], data: &[u8], sum: u32) -> Vec<u8> {
    let mut bytes = magic.as_bytes().to_vec();
    let [inode, mode, user, group, links, modified, major, minor, special, special2, size] = fields;
    let name_size = name.len() as u32 + 1;
    for field in [
        inode, mode, user, group, links, modified, size, major, minor, special, special2,
        name_size, sum,
    ] {
        bytes.extend(format!("{field:08X}").bytes());
    }
    bytes.extend_from_slice(name);
    bytes.push(0);
    pad(&mut bytes);
    bytes.extend_from_slice(data);
    pad(&mut bytes);
    bytes
}

fn file(name: &[u8], data: &[u8]) -> Vec<u8> {
    let fields = [7, 0o100_644, 1, 2, 1, 99, 3, 4, 5, 6, data.len() as u32];
    member("070701", fields, name, data, 0)
}

fn trailer() -> Vec<u8> {
    member("070701", [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], b"TRAILER!!!", b"", 0)
}

fn archive(files: &[File]) -> Vec<u8> {
    let mut bytes: Vec<u8> = files.iter().flat_map(|(name, data)| file(name, data)).collect();
    bytes.extend(trailer());
    bytes
}

/// Name and data.
type File = (Vec<u8>, Vec<u8>);

/// All files, or the error and the byte it is at.
fn read(image: &[u8]) -> Result<Vec<File>, (Error, usize)> {
    let mut reader = Reader::new(image);
    let mut found = Vec::new();
    loop {
        let at = reader.position();
        match reader.read().map_err(|error| (error, at))? {
            Some(entry) => found.push((entry.name.to_vec(), entry.data.to_vec())),
            None => return Ok(found),
        }
    }
}

fn zip(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn fields_are_read() {
    let mut reader_image = file(b"etc/motd", b"hello");
    reader_image.extend(trailer());
    let mut reader = Reader::new(&reader_image);
    let entry = reader.read().unwrap().unwrap();
    assert_eq!((entry.name, entry.data), (&b"etc/motd"[..], &b"hello"[..]));
    assert_eq!((entry.inode, entry.mode, entry.user, entry.group), (7, 0o100_644, 1, 2));
    assert_eq!((entry.links, entry.modified), (1, 99));
    assert_eq!((entry.device, entry.special), ((3, 4), (5, 6)));
    assert_eq!(reader.read(), Ok(None));
    assert_eq!(reader.position(), reader_image.len());
}

#[test]
fn errors_say_what_and_where() {
    let good = file(b"a", b"data");
    let with = |tail: &[u8]| [good.clone(), tail.to_vec()].concat();
    let at = good.len();
    assert_eq!(read(&with(b"")), Err((Error::NoTrailer, at)));
    assert_eq!(read(&with(b"0707")), Err((Error::TruncatedHeader(110, 4), at)));
    assert_eq!(read(&with(b"garbage")), Err((Error::Magic, at)));
    assert_eq!(read(&with(b"070707")), Err((Error::OldFormat, at)));
    let mut field = file(b"a", b"");
    field[6 + 8] = b'+';
    assert_eq!(read(&with(&field)), Err((Error::Field(1), at)));
    let mut name = file(b"abc", b"");
    name[113] = b'x';
    assert_eq!(read(&with(&name)), Err((Error::Name, at)));
    let huge = member("070701", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, u32::MAX], b"a", b"", 0);
    assert!(matches!(read(&with(&huge)), Err((Error::Truncated(..), _))));
    let summed = member("070702", [0, 0o100_644, 0, 0, 1, 0, 0, 0, 0, 0, 2], b"a", b"\x01\x02", 4);
    assert_eq!(read(&with(&summed)), Err((Error::Checksum(4), at)));
}

#[test]
fn a_header_of_gzip_may_have_extras() {
    let plain = b"some text, some text".repeat(50);
    let zipped = zip(&plain, 6);
    let mut image = zipped[..10].to_vec();
    image[3] = 2 | 4 | 8 | 16;
    image.extend([3, 0, 1, 2, 3]);
    image.extend(b"name\0comment\0\x12\x34");
    image.extend(&zipped[10..]);
    image.extend(b"behind");
    let (unpacked, taken) = gunzip(&image).unwrap();
    assert_eq!((unpacked, taken), (plain, image.len() - 6));
}

#[test]
fn gzip_errors_are_told_apart() {
    let zipped = zip(&b"abcdefgh".repeat(1000), 6);
    let told = |image: &[u8]| gunzip(image).unwrap_err();
    assert!(told(&zipped[..zipped.len() / 2]).contains("truncated"));
    assert!(told(&zipped[..zipped.len() - 5]).contains("truncated"));
    let mut wrong = zipped.clone();
    let sum = wrong.len() - 8;
    wrong[sum] ^= 1;
    assert!(told(&wrong).contains("checksum"));
    let mut wrong = zipped.clone();
    let size = wrong.len() - 1;
    wrong[size] ^= 1;
    assert!(told(&wrong).contains("size"));
    assert!(told(b"\x1f\x8b\x08\xff").contains("header"));
}

#[test]
fn other_compressions_are_named() {
    assert_eq!(compression(b"\xfd7zXZ\0..."), Some("xz"));
    assert_eq!(compression(b"\x28\xb5\x2f\xfd..."), Some("zstd"));
    assert_eq!(compression(b"hello"), None);
}

fn files() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = prop::collection::vec(1u8..=255, 1..40);
    let data = prop::collection::vec(any::<u8>(), 0..200);
    let not_trailer = |(name, _): &(Vec<u8>, Vec<u8>)| name != b"TRAILER!!!";
    prop::collection::vec((name, data).prop_filter("the trailer", not_trailer), 0..12)
}

proptest! {
    #[test]
    fn what_was_packed_is_read(files in files()) {
        prop_assert_eq!(read(&archive(&files)), Ok(files));
    }

    #[test]
    fn a_truncated_archive_is_an_error(files in files(), cut in any::<prop::sample::Index>()) {
        let whole = archive(&files);
        // The padding behind the trailer may be missing.
        let least = whole.len() - trailer().len() + 110 + 11;
        let end = cut.index(least);
        prop_assert!(read(&whole[..end]).is_err());
    }

    #[test]
    fn a_corrupt_archive_is_survived(
        files in files(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut image = archive(&files);
        for (at, value) in flips {
            let at = at.index(image.len());
            image[at] = value;
        }
        let _ = read(&image);
    }

    #[test]
    fn gzip_comes_back(data in prop::collection::vec(any::<u8>(), 0..5000), level in 0u32..10) {
        let mut image = zip(&data, level);
        let length = image.len();
        image.extend([0, 0, 0]);
        prop_assert_eq!(gunzip(&image), Ok((data, length)));
    }

    #[test]
    fn corrupt_gzip_is_survived(
        data in prop::collection::vec(0u8..4, 0..3000),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut image = zip(&data, 6);
        for (at, value) in flips {
            let at = at.index(image.len());
            image[at] = value;
        }
        let _ = gunzip(&image);
        let _ = gunzip(&data);
    }
}
