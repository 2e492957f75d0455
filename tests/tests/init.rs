//! Programs that cannot be process 1: each is refused with a message, and the machine ends.

use ringwall_tests::elf::{self, INTERPRETER, NOTE};
use ringwall_tests::{Boot, Library, Output, program};

fn refused(init: impl Into<Vec<u8>>) -> Output {
    let output = Boot::new().init(init).run();
    // Linux says `init`, we say `process 1` when it had started.
    let named = ["init", "process 1"].iter().any(|word| output.serial.contains(word));
    assert!(named, "nobody said what was wrong; {output}");
    output.ended().never_says("kernel bug");
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

#[test]
fn a_segment_that_reaches_into_kernel_space() {
    refused(damaged(|file| elf::resize_segment(file, 1, 1 << 47)));
}

#[test]
fn a_segment_whose_end_is_no_number() {
    refused(damaged(|file| elf::resize_segment(file, 1, u64::MAX)));
}

#[test]
fn a_segment_smaller_than_its_part_of_the_file() {
    refused(damaged(|file| elf::resize_segment(file, 1, 1)));
}

#[test]
fn a_segment_from_beyond_the_file() {
    refused(damaged(|file| elf::move_in_file(file, 1, 1 << 40)));
}

#[test]
fn a_segment_from_an_odd_place_in_the_file() {
    refused(damaged(|file| elf::move_in_file(file, 1, 0x123)));
}

#[test]
fn no_program_headers() {
    refused(damaged(|file| elf::set_program_headers(file, 64, 0, 56)));
}

#[test]
fn program_headers_beyond_the_file() {
    refused(damaged(|file| elf::set_program_headers(file, u64::MAX - 7, 4, 56)));
}

#[test]
fn program_headers_of_an_odd_size() {
    refused(damaged(|file| elf::set_program_headers(file, 64, 4, 57)));
}

#[test]
fn too_many_program_headers() {
    refused(damaged(|file| elf::set_program_headers(file, 64, u16::MAX, 56)));
}

/// Such a program is sound as far as its headers go: it starts, and dies of its first instruction.
#[test]
fn a_first_instruction_in_kernel_space() {
    refused(damaged(|file| elf::set_entry(file, 0xffff_ffff_8000_1000)));
}

#[test]
fn an_interpreter_line_that_names_nothing() {
    refused("#!/no/such/interpreter\n");
}

#[test]
fn an_interpreter_line_that_names_itself() {
    refused("#!/init\n");
}

#[test]
fn a_file_that_is_not_executable() {
    let output = Boot::new().file("/init", 0o644, program(Library::Glibc, "run")).run();
    output.ended().says("init");
}

#[test]
fn a_process_1_that_ends() {
    let boot = Boot::new().script("echo here; exit 3");
    boot.run().ended().says("here\n");
}

#[test]
fn a_process_1_that_dies() {
    let boot = Boot::new().script("echo here; kill -SEGV $$; exec /bin/nosuch");
    boot.run().ended().says("here\n");
}
