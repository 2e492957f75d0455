//! The command `ringwall audit`, from its arguments to its exit status, on guests that run.

use std::ffi::OsString;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ringwall_tests::{Boot, Library, Other, linux, other_kernel, program};
use serde_json::Value;

const EXPECTATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel/visible.toml");
/// How long a boot may take when others run beside it, in seconds.
const LIMIT: &str = "400";

/// How long a guest may take for something when others run beside it.
const PATIENCE: Duration = Duration::from_secs(240);

/// What `ringwall audit` did.
struct Ran {
    status: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Ran { status: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.err))
    }

    fn finds(&self, id: &str) -> bool {
        let json = self.json();
        json["findings"].as_array().expect("a list").iter().any(|finding| finding["id"] == id)
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringwall-command"));
    command.arg("audit").args(words).stdin(Stdio::null());
    command
}

/// Starts a guest by the command, looks when its programs run.
fn run(boot: Boot, words: &[&str]) -> Ran {
    let (arguments, _image) = boot.arguments_for_qemu();
    let mut command = command(&["--run", "--after", "READY", "--limit", LIMIT]);
    command.args(words).arg("--").args(arguments);
    command.output().expect("it runs").into()
}

fn spinning(boot: Boot) -> Boot {
    boot.memory(256).arguments("3").init(program(Library::Glibc, "spin"))
}

#[test]
fn our_kernel_is_clean_with_isolation() {
    let ran = run(spinning(Boot::new().pti("on")), &["--expect", EXPECTATIONS]);
    if other_kernel() {
        println!("not our kernel: what it shows is its own business");
        return;
    }
    assert_eq!(ran.status, Some(0), "{}{}", ran.out, ran.err);
    // The source has the kernel's path in it, whose length decides where lines are wrapped.
    let words: Vec<&str> = ran.out.split_whitespace().collect();
    let expected = "isolated: user mode's page tables show 16,384 bytes (16 KiB) of the kernel";
    assert!(words.join(" ").contains(expected), "{}", ran.out);
}

#[test]
fn our_kernel_is_a_finding_without() {
    let ran = run(spinning(Boot::new().pti("off")), &["--json"]);
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    assert!(ran.finds("kernel-mapped-whole"), "{}", ran.out);
}

/// How long a look at four CPUs and 1 GiB may take, in seconds, on a slow host and with others beside it. Alone it takes a
/// hundredth; one that reads page by page takes minutes.
const LOOK: f64 = 40.0;

/// Linux with four CPUs and 1 GiB, looked at in time.
fn linux_is_seen_through(pti: &str) -> Option<Ran> {
    let Some(kernel) = linux() else {
        println!("skipped: Debian's Linux was not fetched");
        return None;
    };
    let boot = Boot::new().kernel(kernel).pti(pti).append("cryptomgr.notests").cpus(4);
    let ran = run(spinning(boot).memory(1024), &["--json"]);
    let words = ran.err.split_once("looked at ").and_then(|(_, rest)| rest.rsplit_once(" in "));
    let seconds = words.and_then(|(_, rest)| rest.split(' ').next());
    let seconds: f64 = seconds.and_then(|word| word.parse().ok()).expect(&ran.err);
    assert!(seconds < LOOK, "the look took {seconds} s");
    Some(ran)
}

#[test]
fn linux_with_isolation() {
    let Some(ran) = linux_is_seen_through("on") else { return };
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    assert!(!ran.finds("kernel-mapped-whole"), "{}", ran.out);
    assert!(ran.finds("moves-with-kernel"), "{}", ran.out);
    assert!(!ran.json()["views"][0]["kernel_root"].is_null());
}

#[test]
fn linux_without_isolation() {
    let Some(ran) = linux_is_seen_through("off") else { return };
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    assert!(ran.finds("kernel-mapped-whole"), "{}", ran.out);
}

#[test]
fn a_guest_that_ends_too_early_is_quoted() {
    let boot = Boot::new().memory(256).script("echo nothing to see here");
    let ran = run(boot, &[]);
    assert_eq!((ran.status, &*ran.out), (Some(2), ""), "{}", ran.err);
    assert!(ran.err.contains("the guest ended before it wrote \"READY\""), "{}", ran.err);
    assert!(ran.err.contains("nothing to see here"), "{}", ran.err);
}

#[test]
fn an_attached_guest_is_looked_at_and_goes_on() {
    let guest = Other::start(&spinning(Boot::new().pti("on")).cpus(1), &[], "READY\n");
    let ran = Ran::from(command(&[guest.socket(), "--json"]).output().expect("it runs"));
    assert!(matches!(ran.status, Some(0 | 1)), "{}", ran.err);
    assert!(!ran.json()["views"][0]["kernel_root"].is_null());
    assert!(guest.runs(), "the guest was left stopped");
}

#[test]
fn ctrl_c_leaves_an_attached_guest_running() {
    let guest =
        Other::start(&Boot::new().memory(256).script("echo READY\nsleep 1000"), &[], "READY\n");
    // From here on no CPU will be in ring 3.
    guest.falls_asleep();
    let words = ["--qmp", guest.socket(), "--limit", "300"];
    let child = command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it runs");
    // Its first look has begun.
    let begun = Instant::now();
    while guest.runs() {
        assert!(begun.elapsed() < PATIENCE, "no look begins");
        sleep(Duration::from_millis(1));
    }
    interrupt(&child);
    let start = Instant::now();
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    assert!(start.elapsed() < Duration::from_secs(100), "Ctrl-C took {:?}", start.elapsed());
    assert_eq!(ran.status, Some(2), "{}", ran.err);
    assert!(ran.err.contains("interrupted"), "{}", ran.err);
    assert!(guest.runs(), "the guest was left stopped");
}

fn interrupt(child: &Child) {
    let words: [OsString; 2] = ["-INT".into(), child.id().to_string().into()];
    assert!(Command::new("kill").args(words).status().expect("kill runs").success());
}
