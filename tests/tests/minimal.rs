//! The example kernel: the library's public API is enough to isolate a program.

use std::time::Duration;

use ringwall_audit::document::Audit;
use ringwall_tests::looking::{audit, cpus};
use ringwall_tests::looks::undeclared;
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

/// Where its program is, and longer than that.
const PROGRAM: std::ops::Range<u64> = 0x40_0000..0x40_0100;

/// It runs too short for a look at a random moment, so every instruction of its program is looked at.
#[test]
fn it_shows_what_is_declared_at_every_instruction_of_its_program() {
    const STRETCH: Duration = Duration::from_secs(80);
    let mut running = Boot::new().kernel(example()).image([]).stub().start();
    let guest = &mut running.guest;
    let stub = guest.stub.as_mut().expect("a gdb stub");
    stub.stop().expect("a stub that answers");
    for address in PROGRAM {
        stub.set_breakpoint(address).expect("a stub that answers");
    }
    let mut looks = 0;
    // The end of the program is the end of the stub.
    while let Ok(true) = guest.stub.as_mut().expect("a gdb stub").run(STRETCH) {
        loop {
            let cpus = cpus(guest, 1);
            assert_eq!(cpus[0].cpl, 3, "at {:#x}", cpus[0].rip);
            let mut audit = audit(&guest.memory, &cpus);
            forget_what_the_program_knows(&mut audit);
            if let Some(told) = undeclared(&mut audit) {
                panic!("at {:#x}:\n{told}", cpus[0].rip);
            }
            looks += 1;
            // A breakpoint stops again where it stands.
            let stub = guest.stub.as_mut().expect("a gdb stub");
            stub.step().expect("a stub that answers");
            if !PROGRAM.contains(&stub.registers().expect("a stub that answers").rip) {
                break;
            }
        }
    }
    assert!(looks > 20, "{looks} looks; its log:\n{}", guest.console.text());
    running.finish().powered_off().says("the program ends with 7");
}

/// The kernel hands its program an address to reach for, in RDI, which the way out restores from the entry stack.
fn forget_what_the_program_knows(audit: &mut Audit) {
    const TOLD: u64 = 0xffff_8000_0000_0000;
    audit.findings.retain(|finding| {
        let told = finding.places.iter().all(|place| place.value == Some(TOLD));
        let known = finding.id == "kernel-pointer" && finding.count == 1 && told;
        if known {
            audit.views[0].totals.pointers -= 1;
        }
        !known
    });
}

#[test]
fn it_is_short() {
    let lines = include_str!("../../examples/minimal/src/main.rs").lines().count();
    assert!(lines < MOST_LINES, "the example has {lines} lines");
}
