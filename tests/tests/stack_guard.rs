//! The guard below a task stack: an overflow is a double fault, reported and the end of the machine.

use ringwall_emulator::Exit;
use ringwall_tests::{Boot, other_kernel};

/// The number behind `word` in the first line that has it, in hexadecimal.
fn number(log: &str, word: &str) -> u64 {
    let rest = log.split_once(word).unwrap_or_else(|| panic!("no {word:?} in the log:\n{log}")).1;
    let digits = rest.trim_start_matches("0x");
    let end = digits.find(|digit: char| !digit.is_ascii_hexdigit()).unwrap_or(digits.len());
    u64::from_str_radix(&digits[..end], 16).unwrap_or_else(|error| panic!("{word:?}: {error}"))
}

#[test]
fn an_overflow_is_reported_and_ends_the_machine() {
    if other_kernel() {
        println!("not our kernel: it has no way to overrun a stack on purpose");
        return;
    }
    let boot = Boot::new().append("ringwall.overflow_stack");
    let output = boot.script("echo before; exec /bin/true").run();
    // A triple fault would be a reset.
    assert_eq!(output.exit, Exit::PoweredOff, "{output}");
    output.says("ringwall: double fault: vector Some(8)");
    output.says("ringwall: kernel stack overflow: the access hit that stack's guard");
    output.says("ringwall: the machine stops\n");
    let log = &output.serial;
    assert!(number(log, "ringwall: thread ") > 0);
    let start = number(log, "its task stack is ");
    let end = number(log, "task stack ends at ");
    assert_eq!(end - start, 16 << 10, "{output}");
    let touched = number(log, "ringwall: CR2 ");
    assert!(touched < start && start - touched <= 4096, "{touched:#x} is not just below; {output}");
}
