//! Programs on several CPUs at once: threads, processes and signals that meet for real.

use std::time::{Duration, Instant};

use ringwall_tests::{Boot, Library, expect_broken, other_kernel, program};

/// Four CPUs on a host that has two, and has other things to do.
const LIMIT: Duration = Duration::from_secs(180);
/// Storms, and what watches over order among processes and threads.
const PROGRAMS: [&str; 10] = [
    "affinity",
    "execstorm",
    "forkstorm",
    "orphans",
    "pipestorm",
    "processes",
    "signals",
    "stops",
    "traced",
    "whole",
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

/// Lines longer than what the terminal takes at a time, from eight processes: `programs/whole.c`.
#[test]
fn long_lines_of_several_writers_stay_whole() {
    let whole = program(Library::Glibc, "whole");
    let boot = Boot::new().limit(LIMIT).cpus(4).file("/bin/whole", 0o755, whole);
    let output = boot.script("/bin/whole lines").run();
    output.says("PASS whole\n").powered_off();
    let is_whole = |line: &&str| {
        let first = line.chars().next().filter(|first| ('a'..='h').contains(first));
        line.len() == 2999 && first.is_some_and(|first| line.chars().all(|letter| letter == first))
    };
    let whole = output.serial.lines().filter(is_whole).count();
    assert_eq!(whole, 40, "some lines have mixed; {output}");
}

/// `programs/longcalls.c`. Without a breath the other CPU waits for the whole call each time, and stops the machine if that
/// is longer than ten seconds.
#[test]
fn long_calls_let_other_cpus_go_on() {
    let boot = Boot::new().limit(LIMIT).cpus(2);
    boot.program(Library::Glibc, "longcalls").run().passed("longcalls");
}

/// A CPU that is added after boot gets threads, those that were there before included.
#[test]
fn a_cpu_that_comes_late_runs_threads() {
    let script = "cd /sys/devices/system/cpu\necho first $(cat online)\necho 1 >cpu1/online\n\
                  echo then $(cat online)\n/bin/affinity";
    let affinity = program(Library::Glibc, "affinity");
    let boot =
        Boot::new().limit(LIMIT).cpus(2).append("maxcpus=1").file("/bin/affinity", 0o755, affinity);
    let output = boot.script(script).run();
    // With one CPU the program passes as well.
    output.says("first 0\n").says("then 0-1\n").says("PASS affinity\n").powered_off();
}

#[test]
fn affinity_that_stealing_ignores_is_noticed() {
    const SHOWS: &str = "FAIL it stays after yields and sleeps";
    expect_broken("any-cpu", SHOWS, |boot| {
        let mut running = boot.limit(LIMIT).cpus(4).program(Library::Glibc, "affinity").start();
        // What does not come to the CPU where it is waited for later on never ends: this is enough.
        running.wait_for("it stays after yields and sleeps", LIMIT);
        let log = running.guest.console.text();
        assert!(!log.contains(SHOWS), "{log}");
    });
}

/// Fork, thread, mmap, signal and pipe storms.
const STORMS: [&str; 7] =
    ["execstorm", "forkstorm", "mapstorm", "pipestorm", "signals", "threadstorm", "tracestorm"];

/// Starts all storms at once, again and again for so long, and says which of them ended well and how often, and what came
/// of the NMIs, once no more of them come. Without /dev/null the shell starts nothing in the background.
fn storms(time: Duration) -> String {
    let storms = STORMS.join(" ");
    let seconds = time.as_secs();
    format!(
        "mount -t devtmpfs devtmpfs /dev\nend=$(($(date +%s)+{seconds})); rounds=0\necho storms begin\n\
         storm() {{ /bin/$1 >/tmp/$1 2>&1 && grep -q \"^PASS $1\" /tmp/$1 && echo >>/tmp/well-$1 ||\
         {{ echo LOST $1; tail -n 30 /tmp/$1; }}; }}\n\
         while [ $(date +%s) -lt $end ]; do\n\
         for name in {storms}; do storm $name & done; wait; rounds=$((rounds+1))\n\
         echo round $rounds: $(cut -d. -f1 /proc/uptime) seconds up\n\
         done\necho weathered $rounds\n\
         nmis() {{ grep NMI: /proc/interrupts; }}\n\
         until [ \"$before\" = \"$(nmis)\" ]; do before=$(nmis); sleep 3; done\n\
         for name in {storms}; do echo well $name: $(cat /tmp/well-$name | wc -l); done\n\
         nmis; grep '^nmi in ' /proc/ringwall\nexec /bin/spin"
    )
}

/// The numbers of each line that begins so, by what stands between that and a colon.
fn numbers(text: &str, start: &str) -> Vec<(String, Vec<u64>)> {
    let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(start));
    let named = lines.filter_map(|line| line.split_once(':'));
    let row =
        |values: &str| values.split_whitespace().map_while(|word| word.parse().ok()).collect();
    named.map(|(name, values)| (name.into(), row(values))).collect()
}

/// Four CPUs under storms for so long, with an NMI for each of them every few milliseconds. All storms end well, each NMI
/// that arrived was handled, and afterwards user mode sees what it always does.
fn weather(time: Duration) {
    const CPUS: usize = 4;
    let mut boot = Boot::new().limit(time * 2 + LIMIT).cpus(CPUS as u32);
    for name in STORMS.into_iter().chain(["spin"]) {
        boot = boot.file(&format!("/bin/{name}"), 0o755, program(Library::Glibc, name));
    }
    let mut running = boot.script(&storms(time)).start();
    // An NMI that finds no IDT yet is the end of the machine.
    running.wait_for("storms begin\n", LIMIT);
    let (start, mut injected) = (Instant::now(), 0);
    loop {
        let text = running.guest.console.text();
        let over = text.contains("weathered ") || running.guest.console.closed();
        if over || start.elapsed() > time * 2 + LIMIT {
            break;
        }
        match running.guest.monitor.inject_nmi() {
            Ok(()) => injected += 1,
            Err(error) => panic!("no NMI: {error}; the guest's log:\n{text}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    running.wait_for("weathered ", Duration::from_secs(1));
    running.wait_for("READY\n", LIMIT);
    let (text, seconds) = (running.guest.console.text(), start.elapsed().as_secs());
    println!("{injected} NMIs were injected into each CPU in {seconds} seconds; the guest said:");
    println!("{}", text.split_once("storms begin\n").unwrap_or_default().1);

    assert!(!text.contains("LOST"), "a storm did not end well:\n{text}");
    let rounds = text.lines().filter(|line| line.starts_with("round ")).count() as u64;
    let well = numbers(&text, "well ");
    let expected = STORMS.map(|name| (name.to_owned(), vec![rounds]));
    assert!(rounds > 0 && well == expected, "{rounds} rounds, ended well: {well:?}");

    let rows = numbers(&text, "NMI");
    let [(_, arrived)] = &rows[..] else { panic!("no row of NMIs:\n{text}") };
    // An NMI that comes while another waits is one with it, and a busy host lets CPUs wait.
    let enough = arrived.len() == CPUS && arrived.iter().all(|count| *count >= injected / 10);
    assert!(enough, "of {injected} NMIs, so many arrived: {arrived:?}");
    if other_kernel() {
        return;
    }
    let places = numbers(&text, "nmi in ");
    let met = |cpu: usize| places.iter().filter_map(|(_, counts)| counts.get(cpu)).sum::<u64>();
    let met: Vec<u64> = (0..CPUS).map(met).collect();
    assert_eq!(&met, arrived, "NMIs at the entry, and those that were handled");
    running.look().shows((8 << 10) + CPUS as u64 * (8 << 10));
}

#[test]
#[ignore = "ten minutes: part of the campaign"]
fn storms_under_nmis() {
    weather(Duration::from_secs(600));
}
