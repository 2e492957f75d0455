//! A sound boot: a shell as process 1, for each value of `pti=`, and the way out.

use std::time::Duration;

use ringwall_emulator::Exit;
use ringwall_tests::{Boot, elf, kernel_file, other_kernel};

/// What the project promises of the kernel's image.
const IMAGE_LIMIT: u64 = 2 << 20;

/// And of the time from the start to process 1, in seconds of a guest that runs a thousand million
/// instructions in one.
const BOOT_LIMIT: f64 = 1.0;

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
        let (size, loaded) = (file.len() as u64, elf::loaded_bytes(&file));
        assert!(size < IMAGE_LIMIT, "the kernel's file has {size} bytes");
        assert!(loaded < IMAGE_LIMIT, "the kernel's image has {loaded} bytes");
    }
}

#[test]
fn little_memory_is_enough_for_a_shell() {
    Boot::new().memory(128).script("echo here").run().powered_off().says("here\n");
}

/// The tour's script is a portable one; its memory is the default, 512 MiB.
#[test]
fn the_tour_fits() {
    let script = include_str!("../../programs/tour/init.sh");
    let output = Boot::new().busybox().init(script).limit(Duration::from_secs(120)).run();
    output.powered_off().says("1000 subshells, last status 5\n").says("== who is where\n");
}

/// Counted, not timed: a nanosecond of this guest is an instruction.
#[test]
fn process_1_runs_soon() {
    if other_kernel() {
        println!("not our kernel: it takes the time it takes");
        return;
    }
    let output = Boot::new().counted().script("echo uptime $(cut -d ' ' -f 1 /proc/uptime)").run();
    let uptime =
        output.serial.lines().find_map(|line| line.strip_prefix("uptime ")?.parse::<f64>().ok());
    let uptime = uptime.unwrap_or_else(|| panic!("no uptime; {output}"));
    println!("process 1 and its shell spoke after {uptime} s");
    assert!(uptime < BOOT_LIMIT, "process 1 and its shell speak only after {uptime} s");
}
