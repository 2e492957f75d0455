//! The kernel's command line, when it says something odd.

use ringwall_tests::{Boot, kernel_file};

/// Longest command line, its end included: Linux's on x86, and ours.
const LONGEST: usize = 2048;

fn shell() -> Boot {
    Boot::new().script("echo here; cat /proc/cmdline")
}

#[test]
fn an_unknown_value_of_pti_is_named_and_taken_as_auto() {
    let output = shell().pti("banana").run();
    output.powered_off().says("here\n");
    if kernel_file().is_some() {
        output.says("unknown value pti=banana: expected auto, on or off; going on with auto\n");
        output.says("isolation on");
    }
}

#[test]
fn a_long_value_of_pti_is_named_in_part() {
    let output = shell().pti(&"b".repeat(1000)).run();
    output.powered_off().says("here\n");
    if kernel_file().is_some() {
        output.says(&format!("unknown value pti={}...: expected", "b".repeat(32)));
    }
}

#[test]
fn unknown_words_do_no_harm() {
    let boot = shell().append("root=/dev/sda1 ro nosuchword= =novalue pti \"quoted words\" a.b=c");
    boot.run().powered_off().says("here\n").says("nosuchword=");
}

#[test]
fn the_longest_line_is_taken_whole() {
    let boot = shell().append(&format!("long={}", "x".repeat(LONGEST - 200)));
    let output = boot.run();
    output.powered_off().says("here\n").says(&"x".repeat(LONGEST - 200));
}

#[test]
fn a_longer_line_is_cut() {
    if kernel_file().is_none() {
        println!("not our kernel: what is cut is its boot protocol's business");
        return;
    }
    // QEMU's own part of the boot takes 4096 bytes at most.
    let output = shell().append(&format!("long={}", "x".repeat(LONGEST + 1000))).run();
    output.powered_off().says("here\n").never_says(&"x".repeat(LONGEST));
}

#[test]
fn what_follows_two_dashes_is_for_process_1() {
    let boot = shell().cpus(2).arguments("nosmp nopcid maxcpus=none");
    let output = boot.run();
    output.powered_off().never_says("maxcpus= wants a number");
    if kernel_file().is_some() {
        output.says("smp: 2 of 2 CPUs are online");
    }
}

#[test]
fn rdinit_names_another_program() {
    let boot = shell().file("/other", 0o755, "#!/bin/sh\necho the other; poweroff -f\n");
    boot.append("rdinit=/other").run().powered_off().says("the other\n").never_says("here\n");
}

#[test]
fn rdinit_names_a_file_that_is_missing() {
    let output = shell().append("rdinit=/no/such/file").run();
    output.ended().says("/no/such/file").never_says("here\n");
}

#[test]
fn rdinit_names_a_directory() {
    shell().append("rdinit=/bin").run().ended().says("/bin").never_says("here\n");
}
