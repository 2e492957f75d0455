//! Programs that cannot be process 1: each is refused with a message, and the machine ends.

use ringwall_tests::elf::{self, INTERPRETER, NOTE};
use ringwall_tests::{Boot, Library, Output, program};

fn refused(init: impl Into<Vec<u8>>) -> Output {
    let output = Boot::new().init(init).run();
    output.ended().says("init");
    output
}

/// A sound program, damaged by `damage`.
fn damaged(damage: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut file = program(Library::Glibc, "run");
    damage(&mut file);
    file
}

#[test]
fn empty() {
    refused("");
}

#[test]
fn text_without_an_interpreter_line() {
    refused("just some text\n");
}

#[test]
fn truncated_header() {
    refused(damaged(|file| file.truncate(40)));
}

#[test]
fn truncated_segments() {
    refused(damaged(|file| file.truncate(file.len() / 3)));
}

#[test]
fn a_32_bit_program() {
    refused(damaged(|file| elf::claim_32_bit(file)));
}

#[test]
fn a_dynamic_program_without_its_loader() {
    refused(damaged(|file| elf::change_type(file, NOTE, INTERPRETER)));
}

#[test]
fn segments_that_overlap() {
    refused(damaged(|file| {
        let first = elf::segment_address(file, 0);
        elf::move_segment(file, 1, first);
    }));
}

#[test]
fn a_segment_in_kernel_space() {
    refused(damaged(|file| elf::move_segment(file, 1, 0xffff_ffff_8000_0000)));
}

#[test]
fn a_segment_at_a_non_canonical_address() {
    refused(damaged(|file| elf::move_segment(file, 1, 0x8000_0000_0000)));
}
