//! Isolation switched while the machine runs: for the machine, for a process, under threads.

use std::time::Duration;

use ringwall_audit::document::Audit;
use ringwall_tests::looks::undeclared;
use ringwall_tests::{Boot, Library, Sight, expect_broken, other_kernel, program};

const LIMIT: Duration = Duration::from_secs(120);

fn switching(library: Library) -> Boot {
    Boot::new().limit(LIMIT).switches().program(library, "isolation")
}

#[test]
fn under_threads_that_run_sleep_and_fault() {
    switching(Library::Glibc).run().passed("isolation");
}

#[test]
fn on_four_cpus() {
    switching(Library::Musl).cpus(4).run().passed("isolation");
}

#[test]
fn not_in_a_kernel_without_isolation() {
    switching(Library::Musl).pti("off").run().passed("isolation");
}

/// The list of processes is then longer than what the heap has at hand.
#[test]
fn a_change_without_memory_for_it_changes_nothing() {
    if other_kernel() {
        println!("not our kernel: nothing can be switched");
        return;
    }
    let boot = Boot::new().limit(LIMIT).switches().init(program(Library::Musl, "isolation"));
    let output = boot.arguments("crowded").run();
    output.powered_off().says("PASS isolation\n");
}

/// What the entry code does for signals, faults, segments and tracers, it does without isolation, too.
#[test]
fn programs_run_with_the_machine_switched_off() {
    if other_kernel() {
        println!("not our kernel: nothing can be switched");
        return;
    }
    let names = [
        "badreturn",
        "exceptions",
        "gates",
        "int80",
        "ldt",
        "ptrace",
        "registers",
        "segments",
        "sigframe",
        "signals",
        "sysenter",
        "threadstorm",
        "usercopy",
    ];
    let boot = Boot::new().limit(2 * LIMIT).switches().programs(Library::Glibc, &names);
    let output = boot.arguments(&format!("open {}", names.join(" "))).run();
    output.powered_off().says("isolation switched off by process 1\n").says("run: PASS");
    for name in names {
        output.says(&format!("PASS {name}\n"));
    }
}

/// They find the CPU in the text without switches, which is elsewhere than the other.
#[test]
fn nmis_inside_the_entry_text_of_an_open_process_are_counted_there() {
    if other_kernel() {
        println!("not our kernel: nothing can be switched");
        return;
    }
    const NMIS: usize = 300;
    let script = "mount -t devtmpfs devtmpfs /dev\necho 0 >/proc/sys/kernel/pti\n/bin/windows call &\n\
                  echo READY; read line; kill $!\ncat /proc/ringwall";
    let windows = program(Library::Glibc, "windows");
    let boot = Boot::new().limit(LIMIT).switches().file("/bin/windows", 0o755, windows);
    let mut running = boot.script(script).start();
    running.wait_for("READY\n", LIMIT);
    for _ in 0..NMIS {
        running.guest.monitor.inject_nmi().expect("a monitor that answers");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.type_line("enough");
    let output = running.finish();
    output.powered_off().says("isolation switched off by process ");
    let counts =
        output.serial.lines().filter_map(|line| line.strip_prefix("nmi in ")?.split_once(": "));
    let (outside, inside): (Vec<_>, Vec<_>) =
        counts.partition(|(place, _)| ["kernel", "ring 3"].contains(place));
    assert_eq!(outside.len(), 2, "{output}");
    assert!(inside.iter().any(|(_, count)| *count != "0"), "none was inside; {output}");
}

/// `isolation` as process 1, which stays in ring 3.
fn look(boot: Boot, argument: &str) -> Sight {
    let boot = boot.limit(LIMIT).switches().arguments(argument);
    let mut running = boot.init(program(Library::Glibc, "isolation")).start();
    running.wait_for("READY\n", LIMIT);
    running.look()
}

fn ids(audit: &Audit) -> Vec<&str> {
    audit.findings.iter().map(|finding| &*finding.id).collect()
}

#[test]
fn the_audit_tells_an_open_process_from_a_kernel_without_isolation() {
    if other_kernel() {
        println!("not our kernel: nothing can be switched");
        return;
    }
    let sight = look(Boot::new(), "open");
    assert_eq!(ids(&sight.audit), ["process-open"]);
    let view = &sight.audit.views[0];
    let user_root = view.unused_user_root.expect("a user root beside it");
    assert_eq!(user_root, view.user_root | 1 << 12);
    let place = &sight.audit.findings[0].places[0];
    assert_eq!(place.value, Some(view.user_root), "{place:?}");
    let sight = look(Boot::new().pti("off"), "open");
    assert!(ids(&sight.audit).contains(&"kernel-mapped-whole"));
    assert!(!ids(&sight.audit).contains(&"process-open"));
}

fn is_closed_again(boot: Boot) {
    if other_kernel() {
        println!("not our kernel: nothing can be switched");
        return;
    }
    let mut sight = look(boot, "closed");
    let ids = ids(&sight.audit);
    assert!(!ids.contains(&"process-open"), "isolation is still off");
    let pages = sight.places("user-half-executable");
    assert!(pages.is_empty(), "the kernel root would execute user pages: {pages:#x?}");
    if let Some(told) = undeclared(&mut sight.audit) {
        panic!("{told}");
    }
}

#[test]
fn a_process_that_is_closed_again_is_as_any_other() {
    is_closed_again(Boot::new());
}

#[test]
fn a_process_that_stays_open_is_noticed() {
    expect_broken("stays-open", "isolation is still off", is_closed_again);
}

#[test]
fn a_user_half_that_stays_executable_is_noticed() {
    expect_broken("stays-executable", "would execute user pages", is_closed_again);
}
