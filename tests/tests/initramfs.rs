//! Initramfs archives that are missing or damaged: a clear message and an end, never a hang.

use ringwall_tests::{Boot, Output, kernel_file};

/// The end of a boot that found no init.
fn refused(output: &Output) {
    output.ended().says("init");
}

fn sound() -> Boot {
    Boot::new().script("echo the script ran")
}

#[test]
fn missing() {
    refused(&Boot::new().image([]).run());
}

#[test]
fn no_archive_at_all() {
    refused(&Boot::new().image(*b"this is no cpio archive, whatever it may be").run());
}

#[test]
fn without_an_init() {
    refused(&Boot::new().file("/etc/other", 0o644, "text").run());
}

#[test]
fn truncated_in_a_header() {
    let archive = sound().archive().build();
    refused(&Boot::new().image(&archive[..60]).run());
}

#[test]
fn truncated_in_a_file() {
    let archive = sound().archive().build();
    let output = Boot::new().image(&archive[..archive.len() / 2]).run();
    refused(&output);
    output.never_says("the script ran");
}

#[test]
fn truncated_gzip() {
    let archive = sound().archive().build_gzip();
    let output = Boot::new().image(&archive[..archive.len() / 2]).run();
    refused(&output);
    output.never_says("the script ran");
}

#[test]
fn corrupt_gzip() {
    let mut archive = sound().archive().build_gzip();
    let middle = archive.len() / 2;
    archive[middle..middle + 64].fill(0xff);
    let output = Boot::new().image(archive).run();
    refused(&output);
    output.never_says("the script ran");
}

/// Truncated at many places, and each time words and an end.
#[test]
fn truncated_anywhere() {
    let archive = Boot::new().init(*b"x").archive().build();
    let zipped = Boot::new().init(*b"x").archive().build_gzip();
    // In the magic, in a number, in a name, in the trailer; in gzip's header, data and checksum.
    for length in [1, 5, 6, 30, 109, 110, 115, archive.len() / 2] {
        refused(&Boot::new().image(&archive[..length]).run());
    }
    for length in [1, 2, 9, 10, 11, 20, zipped.len() - 9] {
        refused(&Boot::new().image(&zipped[..length]).run());
    }
}

/// As `file`, with the field of eight hexadecimal digits number `field` of the init's header set.
fn with_field(field: usize, digits: &[u8; 8]) -> Vec<u8> {
    let mut archive = Boot::new().init(*b"x").archive().build();
    // A header is six bytes of magic and thirteen fields, 110 bytes; then comes the name. The init is
    // the last entry but the trailer.
    let start = archive.windows(5).rposition(|name| name == b"init\0").expect("the entry") - 110;
    archive[start + 6 + 8 * field..][..8].copy_from_slice(digits);
    archive
}

#[test]
fn a_size_beyond_the_archive() {
    refused(&Boot::new().image(with_field(6, b"fffffff0")).run());
    refused(&Boot::new().image(with_field(6, b"ffffffff")).run());
}

#[test]
fn a_name_beyond_the_archive() {
    refused(&Boot::new().image(with_field(11, b"fffffff0")).run());
    refused(&Boot::new().image(with_field(11, b"ffffffff")).run());
}

#[test]
fn a_name_without_a_length() {
    refused(&Boot::new().image(with_field(11, b"00000000")).run());
}

#[test]
fn a_number_that_is_none() {
    refused(&Boot::new().image(with_field(6, b"zzzzzzzz")).run());
}

#[test]
fn an_unknown_kind_of_file() {
    refused(&Boot::new().image(with_field(1, b"ffffffff")).run());
}

#[test]
fn another_compression_is_named() {
    let xz = [0xfd, b'7', b'z', b'X', b'Z', 0, 0, 4, 0xe6, 0xd6, 0xb4, 0x46, 0, 0, 0, 0];
    let output = Boot::new().image(xz).run();
    refused(&output);
    if kernel_file().is_some() {
        output.says("xz");
    }
}

#[test]
fn noise() {
    // A generator of Marsaglia's; any noise will do.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let noise: Vec<u8> = (0..1 << 20).map(|_| byte()).collect();
    refused(&Boot::new().image([b"0707", &noise[..]].concat()).run());
    refused(&Boot::new().image([&[0x1f, 0x8b, 8, 0], &noise[..]].concat()).run());
    refused(&Boot::new().image(noise).run());
}

#[test]
fn zeros() {
    refused(&Boot::new().image(vec![0; 1 << 20]).run());
}

/// A few KiB that unpack to more than there is.
#[test]
fn more_than_memory_holds() {
    let boot = Boot::new().file("/large", 0o644, vec![0; 80 << 20]).script("echo here");
    let zipped = boot.archive().build_gzip();
    let output = Boot::new().memory(64).image(zipped).run();
    output.ended().says("memory");
}
