//! Linux's own tests of the x86 entry code, on Debian's Linux and on ours: the same verdicts.
//!
//! One initramfs, two kernels, the same emulator. Each test writes to a file, and what counts is the set
//! of its lines with a verdict (`[OK]`, `[FAIL]`, `[SKIP]`), word for word: such lines hold no address and no
//! process number, so nothing in them is made alike first. The exit status does not count: some tests end
//! with 0 after a failure. A test that hangs is ended after a while, and loses only itself.

use std::collections::BTreeMap;
use std::time::Duration;

use ringwall_emulator::{Exit, INTEL_CPU};
use ringwall_tests::{Boot, Library, Output, leave_table, linux, other_kernel, selftest};

/// How long a boot may take; several run at once, each slowly.
const LIMIT: Duration = Duration::from_secs(300);

/// How long a test may take inside the guest, in seconds.
const TEST_LIMIT: u32 = 480;

/// How many lines of a difference are shown, of either kernel.
const SHOWN_LINES: usize = 12;

/// What is compared of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// The same lines, or the scenario fails.
    Same,
    /// Shown only, and why.
    Shown(&'static str),
}

use Rule::{Same, Shown};

/// A test by its name, with its rule.
type Test = (&'static str, Rule);

/// The suite, as far as it is 64-bit code.
const TESTS: [Test; 20] = [
    ("amx", Same),
    ("check_initial_reg_state", Same),
    ("corrupt_xstate_header", Same),
    ("fsgsbase", Same),
    ("fsgsbase_restore", Same),
    ("ioperm", Same),
    ("iopl", Same),
    ("mov_ss_trap", Shown("dies on Linux too")),
    ("ptrace_syscall", Same),
    ("sigaltstack", Same),
    ("sigreturn", Same),
    ("sigtrap_loop", Same),
    ("single_step_syscall", Same),
    ("syscall_arg_fault", Same),
    ("syscall_nt", Same),
    ("test_FCMOV", Same),
    ("test_FCOMI", Same),
    ("test_FISTTP", Same),
    ("test_mremap_vdso", Same),
    ("test_vsyscall", Same),
];

/// In about every fifth boot Debian's kernel faults for ever in this one, in this emulator: wherever chance has put its
/// espfix stacks. Where KASLR has put the kernel matters, too, so that is off.
const HANGS: [Test; 1] = [("ldt_gdt", Same)];
/// How often Linux may try it, and for how long: the first time, and so much longer each time after that, for slow hosts.
const TRIES: u32 = 8;
const TRY_LIMIT: Duration = Duration::from_secs(60);

/// Tests that need a CPU without SMAP or LA57. With SMAP, TCG takes a far return by ring 3 for the kernel's
/// access, and sysret_ss_attrs never ends; with LA57, Linux gives sysret_rip pages above those that four
/// levels reach, which is all that we have.
const OTHER_CPU: [Test; 2] = [("sysret_rip", Same), ("sysret_ss_attrs", Same)];

/// Tests of SYSENTER, which AMD's CPUs do not have in 64-bit mode, and `max` is one of them.
const INTEL: [Test; 2] = [("single_step_syscall", Same), ("syscall_arg_fault", Same)];

/// Half a minute of TCG's time with either C library; one is enough.
const LONG: [Test; 1] = [("syscall_numbering", Same)];

/// The boot that runs these tests with these C libraries, one after the other.
fn initramfs(cpu: &str, libraries: &[Library], tests: &[Test]) -> Boot {
    let mut boot = Boot::new().limit(LIMIT).cpu(cpu).append("nokaslr");
    let mut script = String::from("mount -t devtmpfs devtmpfs /dev 2>/dev/null\n");
    for library in libraries {
        for (name, _) in tests {
            let Some(program) = selftest(*library, name) else { continue };
            let run = format!("{} {name}", library.name());
            let path = format!("/selftests/{}/{name}", library.name());
            boot = boot.file(&path, 0o755, program);
            script.push_str(&format!(
                "timeout -s KILL {TEST_LIMIT} {path} </dev/null >/tmp/out 2>&1\nstatus=$?\n\
                 echo BEGIN {run}\ncat /tmp/out\necho\necho END {run} $status\nrm /tmp/out\n"
            ));
        }
    }
    boot.script(&script)
}

/// How one test ended on one kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// The lines with a verdict, in order of the alphabet: processes of one test print in any order.
    lines: Vec<String>,
    /// What the shell says of its end.
    status: String,
}

impl Verdict {
    /// The numbers of lines with each verdict, and the signal that ended it.
    fn count(&self) -> String {
        let count = |mark: &str| self.lines.iter().filter(|line| line.contains(mark)).count();
        let numbers = format!("{}/{}/{}", count("[OK]"), count("[FAIL]"), count("[SKIP]"));
        match self.status.parse::<u32>() {
            Ok(status @ 129..) => format!("{numbers} signal {}", status - 128),
            _ => numbers,
        }
    }

    /// The lines that only one of the two has: the first of them.
    fn difference(&self, here: &Verdict) -> String {
        let mut left = here.lines.clone();
        let mut missing = Vec::new();
        for line in &self.lines {
            match left.iter().position(|other| other == line) {
                Some(index) => drop(left.remove(index)),
                None => missing.push(format!("    only on Linux: {line}\n")),
            }
        }
        let extra = left.iter().map(|line| format!("    only here:     {line}\n"));
        missing.into_iter().take(SHOWN_LINES).chain(extra.take(SHOWN_LINES)).collect()
    }
}

/// The verdicts in a boot's log, by C library and test.
fn verdicts(output: &Output) -> BTreeMap<String, Verdict> {
    let mut found = BTreeMap::new();
    let mut current: Option<(String, Verdict)> = None;
    for line in output.serial.lines() {
        if let Some(run) = line.strip_prefix("BEGIN ") {
            current = Some((run.to_owned(), Verdict::default()));
        } else if let Some(end) = line.strip_prefix("END ") {
            if let Some((run, mut verdict)) = current.take() {
                verdict.lines.sort();
                verdict.status = end.rsplit(' ').next().unwrap_or_default().to_owned();
                found.insert(run, verdict);
            }
        } else if let Some((_, verdict)) = &mut current
            && ["[OK]", "[FAIL]", "[SKIP]"].iter().any(|mark| line.contains(mark))
        {
            verdict.lines.push(line.to_owned());
        }
    }
    found
}

/// A line of the table.
fn row([test, library, debian, here, result]: [&str; 5]) -> String {
    format!("{test:24}{library:7}{debian:20}{here:20}{result}\n")
}

/// A Linux that hangs says nothing of ours: it is given other boots.
fn run_on_linux(boot: &Boot, hangs: bool) -> Output {
    let try_with = |boot: Boot| Some(boot.run()).filter(|output| output.exit == Exit::PoweredOff);
    let limits = (1..TRIES).filter(|_| hangs).map(|number| number * TRY_LIMIT);
    let ended = limits.map(|limit| boot.clone().impatient_limit(limit)).find_map(try_with);
    ended.or_else(|| try_with(boot.clone())).unwrap_or_else(|| boot.run())
}

/// Runs the tests on both kernels. Returns the rows of the table, and what is wrong.
fn compare(cpu: &str, libraries: &[Library], tests: &[Test]) -> (String, String) {
    let kernel = linux().expect("a kernel to compare with");
    let boot = initramfs(cpu, libraries, tests);
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| run_on_linux(&boot.clone().kernel(kernel), tests == HANGS));
        (boot.run(), theirs.join().expect("a boot that ends"))
    });
    theirs.powered_off();
    // A kernel that did not survive the tests is shown with the test it died of.
    ours.powered_off();
    let (ours, theirs) = (verdicts(&ours), verdicts(&theirs));
    let (mut rows, mut wrong) = (String::new(), String::new());
    for (name, rule) in tests {
        for library in libraries {
            let run = format!("{} {name}", library.name());
            if selftest(*library, name).is_none() {
                rows.push_str(&row([name, library.name(), "not built", "", ""]));
                continue;
            }
            let absent = Verdict { status: "never ran".into(), ..Verdict::default() };
            let theirs = theirs.get(&run).unwrap_or(&absent);
            let ours = ours.get(&run).unwrap_or(&absent);
            let same = theirs.lines == ours.lines;
            let result = match (same, rule) {
                (true, _) => "same".into(),
                (false, Same) => "DIFFERENT".into(),
                (false, Shown(reason)) => format!("differs: {reason}"),
            };
            let (debian, here) = (theirs.count(), ours.count());
            rows.push_str(&row([name, library.name(), &debian, &here, &result]));
            // No verdict at all is the same only where Linux has none either, and says little.
            if *rule == Same && (!same || theirs.lines.is_empty()) {
                let difference = theirs.difference(ours);
                wrong.push_str(&format!("{run}: Linux {debian}, here {here}\n{difference}"));
            }
        }
    }
    (rows, wrong)
}

#[test]
fn linux_selftests_give_the_same_verdicts() {
    if linux().is_none() || other_kernel() {
        println!("Debian's Linux was not fetched, or our kernel is not the one tested: skipped");
        return;
    }
    if selftest(Library::Glibc, "sigreturn").is_none() {
        println!("Linux's selftests were not fetched: skipped");
        return;
    }
    let parts: [(&str, &[Library], &[Test]); 5] = [
        ("max", &Library::ALL, &TESTS),
        ("max", &Library::ALL, &HANGS),
        ("max", &[Library::Glibc], &LONG),
        ("max,-smap,-la57", &Library::ALL, &OTHER_CPU),
        (INTEL_CPU, &Library::ALL, &INTEL),
    ];
    let mut table = row(["test", "libc", "Debian OK/FAIL/SKIP", "here OK/FAIL/SKIP", "verdicts"]);
    let mut wrong = String::new();
    for (cpu, libraries, tests) in parts {
        if cpu != "max" {
            table.push_str(&format!("-cpu {cpu}\n"));
        }
        let (rows, differences) = compare(cpu, libraries, tests);
        table.push_str(&rows);
        wrong.push_str(&differences);
    }
    leave_table("Linux's x86 selftests", &table);
    println!("{table}");
    assert!(wrong.is_empty(), "verdicts differ from Linux's:\n{wrong}");
}

#[test]
fn a_verdict_is_its_lines_and_not_its_order_or_status() {
    let serial =
        "[OK]\tnoise\nBEGIN glibc a\n[RUN]\tx\n[OK]\tb\r\nname: [FAIL] a\n\nEND glibc a 139\n";
    let output = Output { serial: serial.into(), exit: Exit::PoweredOff };
    let found = verdicts(&output);
    let verdict = &found["glibc a"];
    assert_eq!(verdict.lines, ["[OK]\tb", "name: [FAIL] a"]);
    assert_eq!(verdict.count(), "1/1/0 signal 11");
    let other = Verdict { lines: vec!["[OK]\tb".into(), "[OK]\tb".into()], status: "0".into() };
    let difference = verdict.difference(&other);
    assert!(difference.contains("only on Linux: name: [FAIL] a"), "{difference}");
    assert!(difference.contains("only here:     [OK]\tb"), "{difference}");
}
