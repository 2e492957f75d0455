//! One initramfs, two kernels: what programs print on Debian's Linux and on ours is the same.
//!
//! Each program's output stands between a `BEGIN` and an `END` line that a shell prints; what comes
//! outside is the kernels' own. Within, lines of either kernel, numbers in hexadecimal (addresses, most
//! of them) and the shell's process number are left out of the comparison, and nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use ringwall_tests::{Boot, Library, Output, linux, other_kernel, program};

const LIMIT: Duration = Duration::from_secs(240);

/// Programs that run with either C library: quick ones, one for each part of the ABI.
const PROGRAMS: &[&str] = &[
    "across",
    "badiret",
    "badreturn",
    "debug",
    "exceptions",
    "files",
    "fsgsbase",
    "int80",
    "ldt",
    "memory",
    "payload",
    "processes",
    "ptrace",
    "registers",
    "rights",
    "segments",
    "sigframe",
    "signals",
    "sigreturnstorm",
    "sysret",
    "traced",
    "usercopy",
];

const LIBRARIES: [(Library, &str); 2] = [(Library::Glibc, "glibc"), (Library::Musl, "musl")];

/// Starts what comes in between, and lets children run before their parents. Ours has no such setting and no priorities:
/// there `preempts` is a program like any other, and what varies is mostly who runs first.
const DISTURBANCE: &str = "mount -t proc proc /proc\n\
     echo 1 2>/dev/null >/proc/sys/kernel/sched_child_runs_first\n/programs/preempts &\n";

/// A shell that runs the tour's script and all the programs, after `first`.
fn initramfs(first: &str) -> Boot {
    let tour = include_str!("../../programs/tour/init.sh");
    let preempts = program(Library::Glibc, "preempts");
    let boot = Boot::new().limit(LIMIT).file("/programs/tour", 0o755, tour);
    let mut boot = boot.file("/programs/preempts", 0o755, preempts);
    let mut script = format!("mount -t devtmpfs devtmpfs /dev 2>/dev/null\n{first}");
    let mut run = |path: &str| {
        script.push_str(&format!("echo BEGIN {path}\n{path} </dev/null\necho END {path} $?\n"));
    };
    run("/programs/tour");
    for (library, directory) in LIBRARIES {
        for name in PROGRAMS {
            let path = format!("/programs/{directory}/{name}");
            boot = boot.file(&path, 0o755, program(library, name));
            run(&path);
        }
    }
    boot.script(&script)
}

/// What each program printed, by its path; the line with its status is the last.
fn by_program(output: &Output) -> BTreeMap<String, Vec<String>> {
    let mut programs = BTreeMap::new();
    let mut current: Option<(String, Vec<String>)> = None;
    for line in output.serial.lines() {
        if let Some(path) = line.strip_prefix("BEGIN ") {
            current = Some((path.to_owned(), Vec::new()));
        } else if let Some((path, lines)) = &mut current {
            if !from_the_kernel(line) {
                lines.push(comparable(line));
            }
            if line.starts_with("END ") {
                programs.insert(std::mem::take(path), std::mem::take(lines));
                current = None;
            }
        }
    }
    programs
}

/// Whether a kernel wrote this line: Linux with a time in front, ours with its name.
fn from_the_kernel(line: &str) -> bool {
    line.starts_with("ringwall: ") || (line.starts_with('[') && line.contains("] "))
}

/// The line with each number in hexadecimal, and each behind the word `process`, replaced by a word.
fn comparable(line: &str) -> String {
    let hexadecimal = without_numbers(line, "0x", 16);
    without_numbers(&hexadecimal, "process ", 10)
}

fn without_numbers(line: &str, before: &str, base: u32) -> String {
    let mut parts = line.split(before);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_digit(base));
        let number = if rest.len() < part.len() { "NUMBER" } else { "" };
        text.extend([before, number, rest]);
    }
    text
}

#[test]
fn programs_print_the_same_on_linux() {
    print_the_same_after("");
}

/// On a busy host anything may come in between once in some hundred runs.
#[test]
#[ignore = "two minutes: part of the campaign"]
fn programs_print_the_same_whatever_comes_in_between() {
    print_the_same_after(DISTURBANCE);
}

fn print_the_same_after(first: &str) {
    let Some(linux) = linux().filter(|_| !other_kernel()) else {
        println!("Debian's Linux was not fetched, or our kernel is not the one tested: skipped");
        return;
    };
    let boot = initramfs(first);
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| boot.clone().kernel(linux).run());
        (boot.run(), theirs.join().expect("a boot that ends"))
    });
    theirs.powered_off();
    ours.powered_off();
    let (ours, theirs) = (by_program(&ours), by_program(&theirs));
    assert_eq!(theirs.len(), 1 + PROGRAMS.len() * LIBRARIES.len(), "not all ran on Linux");
    let mut differences = String::new();
    for (path, expected) in &theirs {
        let got = ours.get(path).map_or(&[][..], Vec::as_slice);
        let lines = expected.len().max(got.len());
        for index in 0..lines {
            let (expected, got) = (expected.get(index), got.get(index));
            if expected != got {
                differences.push_str(&format!("{path}: Linux {expected:?}, here {got:?}\n"));
                break;
            }
        }
    }
    assert!(differences.is_empty(), "programs print something else:\n{differences}");
}

#[test]
fn addresses_and_kernel_lines_do_not_count() {
    let serial = "noise\nBEGIN a\n[    1.2] segfault\nat 0x7ffe12 now, process 7\nringwall: no\nEND a 0\nmore\n";
    let output = Output { serial: serial.into(), exit: ringwall_emulator::Exit::PoweredOff };
    let programs = by_program(&output);
    assert_eq!(programs["a"], ["at 0xNUMBER now, process NUMBER", "END a 0"]);
}
