//! Initramfs archives that are missing or damaged: a clear message and an end, never a hang.

use ringwall_tests::{Boot, Output};

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

#[test]
fn a_size_beyond_the_archive() {
    let mut archive = Boot::new().init("x").archive().build();
    // The file size of an entry is the seventh field of eight hexadecimal digits, after six bytes
    // of magic. The init is the last entry but the trailer.
    let start = archive.windows(5).rposition(|name| name == b"init\0").expect("the entry") - 110;
    archive[start + 54..start + 62].copy_from_slice(b"fffffff0");
    refused(&Boot::new().image(archive).run());
}
