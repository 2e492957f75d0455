//! Events that hardware sends by itself: NMIs and machine checks, counted, judged and told.
//!
//! `windows.rs` has what they must not change.

use std::time::Duration;

use ringwall_tests::{Boot, Library, Running, other_kernel, program};

const LIMIT: Duration = Duration::from_secs(80);

/// Bits of IA32_MCi_STATUS (SDM vol. 3, 16.3.2.2): VAL, UC, EN.
const UNCORRECTED: u64 = 1 << 63 | 1 << 61 | 1 << 60;
/// PCC.
const CONTEXT_CORRUPT: u64 = 1 << 57;
/// S and AR.
const ACTION_REQUIRED: u64 = 1 << 56 | 1 << 55;
/// RIPV and MCIP of IA32_MCG_STATUS.
const RESTART: u64 = 1 << 0 | 1 << 2;
const BANK: u8 = 4;

/// A guest whose process 1 stays in ring 3, and that is stopped there.
fn spinning() -> Option<Running> {
    if other_kernel() {
        println!("not our kernel: what it says of machine checks is its own business");
        return None;
    }
    let mut running = Boot::new().init(program(Library::Glibc, "spin")).start();
    running.wait_for("READY\n", LIMIT);
    let caught = running.guest.stop_in_user_mode(LIMIT).expect("a monitor that answers");
    assert!(caught.is_some(), "the CPU is never in user mode");
    Some(running)
}

/// Raises a machine check in ring 3 and lets the guest go on.
fn check(running: &mut Running, status: u64) {
    let monitor = &mut running.guest.monitor;
    monitor.inject_machine_check(BANK, status, RESTART).expect("a monitor that answers");
    monitor.resume().expect("a monitor that answers");
}

#[test]
fn both_are_counted_and_change_nothing() {
    // It answers each line: when it does, what was sent before that line has arrived. Of two events that come at once, one
    // would be lost.
    let boot = Boot::new().script(
        "echo READY; while read word && [ $word != over ]; do echo saw $word; done\n\
         cat /proc/interrupts; cat /proc/ringwall",
    );
    let mut running = boot.start();
    running.wait_for("READY\n", LIMIT);
    let arrives = |running: &mut Running, number: u32| {
        running.type_line(&format!("event{number}"));
        running.wait_for(&format!("saw event{number}\n"), LIMIT);
    };
    for number in 0..3 {
        running.guest.monitor.inject_nmi().expect("a monitor that answers");
        arrives(&mut running, number);
    }
    if !other_kernel() {
        for number in 3..5 {
            let monitor = &mut running.guest.monitor;
            let sent = monitor.inject_machine_check(BANK, UNCORRECTED, RESTART);
            sent.expect("a monitor that answers");
            arrives(&mut running, number);
        }
    }
    running.type_line("over");
    let output = running.finish();
    output.powered_off();
    output.says("NMI:          3   Non-maskable interrupts\n");
    if !other_kernel() {
        // `nmi in PLACE: COUNT`, for one CPU.
        let found = output.serial.lines().filter_map(|line| line.strip_prefix("nmi in "));
        let counts = found.map(|line| line.rsplit(' ').next().and_then(|count| count.parse().ok()));
        let counts: Option<Vec<u64>> = counts.collect();
        let total: Option<u64> = counts.map(|counts| counts.iter().sum());
        assert_eq!(total, Some(3), "each NMI was found somewhere; {output}");
        output.says("MCE:          2   Machine check exceptions\n");
        output.says(
            "ringwall: machine check: bank 4: status 0xb000000000000000 VAL UC EN, address 0x0",
        );
    }
}

#[test]
fn a_corrupt_processor_stops_the_machine() {
    let Some(mut running) = spinning() else { return };
    check(&mut running, UNCORRECTED | CONTEXT_CORRUPT);
    let output = running.finish();
    output.powered_off();
    output.says("ringwall: machine check: the processor's state is corrupt\n");
    output.says("ringwall: machine check: bank 4: status 0xb200000000000000 VAL UC EN PCC");
    output.says("ringwall: this is the hardware's error: the machine stops\n");
}

#[test]
fn a_program_that_used_wrong_data_gets_a_signal() {
    let Some(mut running) = spinning() else { return };
    check(&mut running, UNCORRECTED | ACTION_REQUIRED);
    let output = running.finish();
    output.ended();
    // SIGBUS.
    output.says("process 1 was killed by signal 7");
}
