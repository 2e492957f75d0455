//! No memory left: an errno or a killed program, and everything as good as new afterwards.

use std::time::Duration;

use ringwall_tests::{Boot, Library, Output, other_kernel, program};

/// What user mode sees of the kernel, whatever has happened.
const VISIBLE: u64 = 16 * 1024;

/// Sizes of a guest, in MiB: what programs get from the least that boots, and a little more.
const SMALL: u64 = 32;
const LITTLE: u64 = 64;

/// A shell as process 1 that runs the program which uses everything up, and goes on.
fn exhausting(memory: u64) -> Boot {
    // Linux kills whom it likes best; its own process 1 is spared.
    let boot = Boot::new().memory(memory).limit(Duration::from_secs(150));
    boot.file("/exhaust", 0o755, program(Library::Musl, "exhaust")).script(
        "mount -o remount,size=100% /tmp 2>/dev/null\n\
         /exhaust && echo \"the shell goes on: $(seq 1 100 | tail -n 1)\"",
    )
}

fn survives(output: &Output) {
    output.powered_off().says("PASS exhaust\n").says("the shell goes on: 100\n");
    output.never_says("kernel bug");
}

#[test]
fn with_little_memory() {
    survives(&exhausting(LITTLE).run());
}

#[test]
fn with_very_little_memory() {
    if other_kernel() {
        println!("not our kernel: it may well need more");
        return;
    }
    survives(&exhausting(SMALL).run());
}

#[test]
fn nothing_more_shows_afterwards() {
    if other_kernel() {
        println!("not our kernel: it shows what it shows");
        return;
    }
    let boot = Boot::new().memory(LITTLE).limit(Duration::from_secs(150));
    let boot = boot.file("/exhaust", 0o755, program(Library::Glibc, "exhaust"));
    let mut running = boot.script("/exhaust; echo over; while :; do :; done").start();
    running.wait_for("over\n", Duration::from_secs(140));
    let sight = running.look();
    sight.shows(VISIBLE);
    let executable = sight.places("user-half-executable");
    assert!(executable.is_empty(), "{executable:#x?}");
}

/// From far too little to enough: words, an end, and no kernel bug.
#[test]
fn too_little_to_boot() {
    if other_kernel() {
        println!("not our kernel: it says nothing that early");
        return;
    }
    // Packed, it fits into any machine: only our kernel can find that there is too little memory.
    let archive =
        Boot::new().init(program(Library::Musl, "run")).file("/large", 0o644, vec![0; 3 << 20]);
    let archive = archive.archive().build_gzip();
    let mut said = Vec::new();
    for memory in [4, 6, 8, 12, 16, 24, 32] {
        let output = Boot::new().memory(memory).image(archive.clone()).run();
        output.ended().never_says("kernel bug");
        let fits = output.serial.contains("run: PASS\n");
        assert!(fits || output.serial.contains("memory"), "{memory} MiB: no clear word; {output}");
        said.push(fits);
    }
    assert!(said.is_sorted(), "more memory must not be worse: {said:?}");
    assert_eq!(said.last(), Some(&true), "32 MiB are enough for a small program");
}
