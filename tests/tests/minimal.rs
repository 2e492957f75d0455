//! The example kernel: the library's public API is enough to isolate a program.

use ringwall_tests::{Boot, example};

/// What the project promises of the example.
const MOST_LINES: usize = 300;

#[test]
fn it_isolates_and_runs_a_program() {
    let output = Boot::new().kernel(example()).image([]).run();
    output.powered_off();
    let expected = [
        "isolation on",
        "hello",
        "page fault at 0x600000: mapped",
        "page fault at 0xffff800000000000: denied",
        "the program ends with 7",
    ];
    let mut rest = output.serial.as_str();
    for line in expected {
        let at = rest.find(line);
        let at = at.unwrap_or_else(|| panic!("{line:?} did not come in its turn; {output}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn it_is_short() {
    let lines = include_str!("../../examples/minimal/src/main.rs").lines().count();
    assert!(lines < MOST_LINES, "the example has {lines} lines");
}
