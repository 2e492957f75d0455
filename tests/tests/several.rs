//! Programs on several CPUs at once: threads, processes and signals that meet for real.

use std::time::{Duration, Instant};

use ringwall_tests::{Boot, Library, expect_broken, other_kernel, program};

/// Four CPUs on a host that has two, and has other things to do.
const LIMIT: Duration = Duration::from_secs(180);
/// What does not come to the CPU where it is waited for never ends.
const SHORT: Duration = Duration::from_secs(20);
/// Storms, and what watches over order among processes and threads.
const PROGRAMS: [&str; 8] = [
    "affinity",
    "execstorm",
    "forkstorm",
    "orphans",
    "pipestorm",
    "processes",
    "signals",
    "traced",
];

#[test]
fn programs_on_four_cpus() {
    let boot = Boot::new().limit(LIMIT).cpus(4).programs(Library::Glibc, &PROGRAMS);
    let output = boot.run();
    PROGRAMS.iter().for_each(|name| {
        output.says(&format!("PASS {name}\n"));
    });
    output.powered_off();
}

#[test]
fn programs_on_two_cpus_without_isolation() {
    let names = ["affinity", "pipestorm", "signals"];
    let output = Boot::new().limit(LIMIT).cpus(2).pti("off").programs(Library::Musl, &names).run();
    names.iter().for_each(|name| {
        output.says(&format!("PASS {name}\n"));
    });
    output.powered_off();
}

/// A CPU that is added after boot gets threads, those that were there before included.
#[test]
fn a_cpu_that_comes_late_runs_threads() {
    let script = "echo 1 >/sys/devices/system/cpu/cpu1/online\n/bin/affinity";
    let affinity = program(Library::Glibc, "affinity");
    let boot =
        Boot::new().limit(LIMIT).cpus(2).append("maxcpus=1").file("/bin/affinity", 0o755, affinity);
    boot.script(script).run().says("PASS affinity\n").powered_off();
}

#[test]
fn affinity_that_stealing_ignores_is_noticed() {
    expect_broken("any-cpu", "FAIL ", |boot| {
        boot.limit(SHORT).cpus(4).program(Library::Glibc, "affinity").run().passed("affinity");
    });
}

/// Every few milliseconds an NMI comes, on every CPU; afterwards user mode sees what it always does.
#[test]
#[ignore = "ten minutes: part of the campaign"]
fn storms_under_nmis() {
    const TIME: Duration = Duration::from_secs(600);
    const STORMS: [&str; 6] =
        ["execstorm", "forkstorm", "mapstorm", "pipestorm", "signals", "threadstorm"];
    let mut boot = Boot::new().limit(TIME * 2).cpus(4);
    for name in STORMS.into_iter().chain(["spin"]) {
        boot = boot.file(&format!("/bin/{name}"), 0o755, program(Library::Glibc, name));
    }
    let script = format!(
        "end=$(($(date +%s)+{})); n=0\nwhile [ $(date +%s) -lt $end ]; do\n\
         for p in {}; do /bin/$p >/tmp/$p || {{ grep FAIL /tmp/$p; echo LOST $p; }} & done; wait; n=$((n+1))\n\
         done\necho weathered; exec /bin/spin",
        TIME.as_secs(),
        STORMS.join(" "),
    );
    let mut running = boot.script(&script).start();
    let start = Instant::now();
    while start.elapsed() < TIME * 2 && !running.guest.console.text().contains("weathered\n") {
        running.guest.monitor.inject_nmi().expect("a monitor that answers");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.wait_for("weathered\n", Duration::from_secs(1));
    running.wait_for("READY\n", Duration::from_secs(60));
    assert!(!running.guest.console.text().contains("LOST"), "a storm did not end well");
    if !other_kernel() {
        running.look().shows((8 << 10) + 4 * (8 << 10));
    }
}
