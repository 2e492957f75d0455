//! A sound boot: a shell as process 1, for each value of `pti=`, and the way out.

use std::time::Duration;

use ringwall_emulator::Exit;
use ringwall_tests::{Boot, elf, kernel_file};

/// What the project promises of the kernel's image.
const IMAGE_LIMIT: u64 = 2 << 20;

const MELTDOWN: &str = "cat /sys/devices/system/cpu/vulnerabilities/meltdown";

#[test]
fn isolation_on() {
    Boot::new().script(MELTDOWN).run().powered_off().says("Mitigation: PTI\n");
}

#[test]
fn isolation_off() {
    Boot::new().pti("off").script(MELTDOWN).run().powered_off().says("Vulnerable\n");
}

#[test]
fn auto_isolates_an_affected_cpu() {
    Boot::new().pti("auto").script(MELTDOWN).run().powered_off().says("Mitigation: PTI\n");
}

#[test]
fn auto_leaves_an_unaffected_cpu_alone() {
    let boot = Boot::new().pti("auto").cpu("max");
    boot.script(MELTDOWN).run().powered_off().says("Not affected\n");
}

#[test]
fn nopti_is_off() {
    let boot = Boot::new().pti("").append("nopti");
    boot.script(MELTDOWN).run().powered_off().says("Vulnerable\n");
}

#[test]
fn an_unknown_value_boots_as_auto() {
    let boot = Boot::new().pti("banana");
    boot.script(MELTDOWN).run().powered_off().says("Mitigation: PTI\n");
}

#[test]
fn gzip_boots_as_plain_does() {
    let plain = Boot::new().script("echo from gzip");
    let zipped = plain.archive().build_gzip();
    plain.image(zipped).run().powered_off().says("from gzip\n");
}

#[test]
fn reboot_resets() {
    let output = Boot::new().script("reboot -f").run();
    assert_eq!(output.exit, Exit::Reset, "{output}");
}

#[test]
fn a_shell_reads_what_is_typed() {
    let boot = Boot::new().script("echo ready; read -r line; echo \"got <$line>\"");
    let mut running = boot.start();
    running.wait_for("ready\n", Duration::from_secs(40));
    running.guest.console.send("some words\n").expect("a guest that runs");
    running.finish().powered_off().says("got <some words>\n");
}

#[test]
fn the_image_is_small() {
    if let Some(file) = kernel_file() {
        let size = elf::loaded_bytes(&file);
        assert!(size < IMAGE_LIMIT, "the kernel's image has {size} bytes");
    }
}

#[test]
fn little_memory_is_enough_for_a_shell() {
    Boot::new().memory(128).script("echo here").run().powered_off().says("here\n");
}
