//! What the entry code does beyond isolation: each measure on, off and forced, and what it really does, seen
//! from outside.

use std::time::Duration;

use ringwall::core::hardening::Measure;
use ringwall::entry::layout::{ENTRY_STACK_TOP, KernelData, Landing, StackPage};
use ringwall_emulator::INTEL_CPU;
use ringwall_tests::{Boot, Library, Output, Visible, other_kernel, program};
use std::mem::offset_of;

const LIMIT: Duration = Duration::from_secs(180);

/// What goes through all ways in and out, and says so if one register is wrong.
const PROGRAMS: [&str; 6] =
    ["badreturn", "exceptions", "payload", "registers", "signals", "sysenter"];

fn passes(boot: Boot) -> Output {
    let output = boot.limit(LIMIT).programs(Library::Glibc, &PROGRAMS).run();
    for name in PROGRAMS {
        output.passed(name);
    }
    output
}

/// The words that give every measure this value.
fn all(value: &str) -> String {
    Measure::ALL.map(|measure| format!("ringwall.{}={value}", measure.name())).join(" ")
}

/// As [`passes`], with words for our kernel alone: on another one, one such boot says as much as ten.
fn passes_with(boot: Boot, words: &str) -> Option<Output> {
    if other_kernel() {
        println!("not our kernel: it knows none of these words");
        return None;
    }
    Some(passes(boot.append(words)))
}

/// Checks a measure's line in the report.
fn reports(output: &Output, measure: Measure, state: &str, reason: &str) {
    let (name, what) = (measure.name(), measure.what());
    output.says(&format!("ringwall: hardening: {name:<9} {state:<3}  {what}: {reason}\n"));
}

fn forced(measure: Measure) {
    let words = format!("ringwall.{}=force", measure.name());
    if let Some(output) = passes_with(Boot::new(), &words) {
        reports(&output, measure, "on", "the command line forces it");
    }
}

macro_rules! forced {
    ($($name:ident: $measure:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            forced(Measure::$measure);
        })*
    };
}

forced!(
    clac_forced: ClearAc,
    lfence_forced: FenceSwapgs,
    scrub_forced: Scrub,
    registers_forced: ClearRegisters,
    verw_forced: ClearBuffers,
    ibrs_forced: Ibrs,
    rsb_forced: FillRsb,
    count_forced: CountEntries,
);

#[test]
fn all_on() {
    let Some(output) = passes_with(Boot::new(), &all("force")) else { return };
    for measure in Measure::ALL {
        reports(&output, measure, "on", "the command line forces it");
    }
}

#[test]
fn all_off() {
    let Some(output) = passes_with(Boot::new(), &all("off")) else { return };
    for measure in Measure::ALL {
        reports(&output, measure, "off", "the command line says so");
    }
}

#[test]
fn all_on_without_isolation() {
    passes_with(Boot::new().pti("off"), &all("force"));
}

#[test]
fn all_off_without_isolation() {
    passes_with(Boot::new().pti("off"), &all("off"));
}

/// Without SMAP, CLAC would be an undefined instruction; without SMEP, the return stack buffer matters.
#[test]
fn a_cpu_without_smap_and_smep() {
    let output = passes(Boot::new().cpu(&format!("{INTEL_CPU},-smap,-smep")));
    if !other_kernel() {
        reports(&output, Measure::ClearAc, "off", "the CPU has no SMAP");
        reports(&output, Measure::FillRsb, "on", "the CPU has no SMEP");
    }
}

/// The paranoid entries then save and set GS base by its MSR.
#[test]
fn a_cpu_without_fsgsbase() {
    passes(Boot::new().cpu(&format!("{INTEL_CPU},-fsgsbase")));
}

#[test]
fn a_cpu_without_fsgsbase_all_on() {
    passes_with(Boot::new().cpu(&format!("{INTEL_CPU},-fsgsbase")), &all("force"));
}

/// Another vendor's SYSRET, SYSENTER and 32-bit SYSCALL.
#[test]
fn an_amd_cpu() {
    let output = passes(Boot::new().cpu("max"));
    if !other_kernel() {
        reports(&output, Measure::Ibrs, "off", "the CPU has no IBRS");
    }
}

#[test]
fn an_amd_cpu_all_on() {
    passes_with(Boot::new().cpu("max"), &all("force"));
}

#[test]
fn an_unknown_value_is_named_and_changes_nothing() {
    if other_kernel() {
        println!("not our kernel: it knows none of these words");
        return;
    }
    let line = "ringwall.verw=maybe ringwall.lfence ringwall.scrub=on ringwall.scrub=no";
    let output = Boot::new().append(line).script("echo here").run();
    output.powered_off().says("here\n");
    for word in ["ringwall.verw=maybe", "ringwall.lfence", "ringwall.scrub=no"] {
        let expected = "expected auto, on, off or force\n";
        output.says(&format!("ringwall: unknown value: {word}: {expected}"));
    }
    reports(&output, Measure::ClearBuffers, "off", "the CPU does not ask for it");
    reports(&output, Measure::FenceSwapgs, "on", "always (CVE-2019-1125)");
    reports(&output, Measure::Scrub, "on", "the command line says so");
}

/* ---- the general registers when a handler begins ---- */

/// The general registers of an x86-64 CPU as QEMU's log lists them, RDI and RSP left out: a handler has
/// the frame's address there.
const CLEARED: [&str; 14] = [
    "RAX", "RBX", "RCX", "RDX", "RSI", "RBP", "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14",
    "R15",
];

/// What `programs/payload.c` puts into every register.
const PAYLOAD: &str = "5ca1ab1e5ca1ab1e";

/// Most moments at which it is looked.
const MOMENTS: u32 = 20;
/// So many beginnings of handlers say enough; the storm has its longest pauses, of 25 ms, between less of them.
const ENOUGH: usize = 100;

/// The registers, as QEMU's log shows them, each time a handler began, until there are enough of them and `done`, or a limit.
fn at_handlers(words: &str, done: impl Fn(&[Vec<String>]) -> bool) -> Vec<Vec<String>> {
    let boot = Boot::new().limit(LIMIT).append(words).arguments("storm");
    let mut running = boot.init(program(Library::Glibc, "payload")).start();
    running.wait_for("READY\n", LIMIT);
    // Copies of pages that the storm shares with its parent are made by then: they fault in ring 0.
    std::thread::sleep(Duration::from_secs(1));
    let visible = running.visible();
    let word = |offset: usize| {
        u64::from_le_bytes(visible.kernel_data[offset..offset + 8].try_into().expect("eight bytes"))
    };
    let handlers =
        [word(offset_of!(KernelData, syscall_handler)), word(offset_of!(KernelData, trap_handler))];
    let mut seen = Vec::new();
    for moment in 1..=MOMENTS {
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut human = |command: &str| running.guest.monitor.human(command, 0).expect("an answer");
        human(&format!("logfile {}", log.path().display()));
        human("log exec,cpu,nochain");
        // Its log is large: each moment is longer than the one before, and no longer than it has to be.
        std::thread::sleep(moment * Duration::from_millis(100));
        human("log none");
        let text = std::fs::read_to_string(log.path()).expect("QEMU's log");
        seen.extend(beginnings(&text, &handlers));
        if seen.len() >= ENOUGH && done(&seen) {
            break;
        }
    }
    seen
}

/// The registers at each beginning of one of `handlers` in QEMU's log.
fn beginnings(text: &str, handlers: &[u64]) -> Vec<Vec<String>> {
    let begins =
        |line: &str| handlers.iter().any(|handler| line.contains(&format!("/{handler:016x}/")));
    // The last one may be cut.
    let whole = text.rsplit_once("Trace ").map_or("", |(whole, _)| whole);
    let blocks = whole.split("Trace ").skip(1);
    blocks
        .filter(|block| block.lines().next().is_some_and(begins))
        .map(|block| CLEARED.iter().map(|name| register(block, name)).collect())
        .collect()
}

fn register(block: &str, name: &str) -> String {
    let start = block.find(&format!("{name}=")).expect("a register in QEMU's log") + name.len() + 1;
    block[start..start + 16].to_owned()
}

#[test]
fn a_handler_finds_no_register_of_the_program() {
    if other_kernel() {
        println!("not our kernel: its handlers are its own business");
        return;
    }
    let seen = at_handlers("ringwall.registers=on", |_| true);
    assert!(seen.len() >= ENOUGH, "{} handlers were seen to begin", seen.len());
    for registers in seen {
        let zero = registers.iter().all(|value| value.bytes().all(|digit| digit == b'0'));
        assert!(zero, "a handler began with {CLEARED:?} = {registers:?}");
    }
}

#[test]
fn registers_that_are_not_cleared_are_noticed() {
    if other_kernel() {
        println!("not our kernel: its handlers are its own business");
        return;
    }
    let holds_payload = |seen: &[Vec<String>]| seen.iter().flatten().any(|value| value == PAYLOAD);
    let seen = at_handlers("ringwall.registers=off", holds_payload);
    assert!(holds_payload(&seen), "no payload in {} beginnings of handlers", seen.len());
}

/* ---- what stays in the stack page while ring 3 runs ---- */

/// Words that stayed: what they lie in, their offset in the stack page, and what they are.
type LeftOver = Vec<(&'static str, usize, u64)>;

/// The words of the stack page that are not zero, but for those of the exit frame: five that IRETQ popped,
/// and RDI. Those are the running program's own.
fn left_over(visible: &Visible) -> LeftOver {
    const EXIT_FRAME: usize = 6 * 8;
    let places = [
        ("scratch word", offset_of!(StackPage, user_rsp)..offset_of!(StackPage, user_rsp) + 8),
        ("entry stack", offset_of!(StackPage, entry_stack)..ENTRY_STACK_TOP - EXIT_FRAME),
        ("NMI's landing", landing(offset_of!(StackPage, nmi_landing))),
        ("#DB's landing", landing(offset_of!(StackPage, debug_landing))),
        ("#MC's landing", landing(offset_of!(StackPage, machine_check_landing))),
        ("#DF's landing", landing(offset_of!(StackPage, double_fault_landing))),
    ];
    let page = visible.stack();
    let words = places.into_iter().flat_map(|(name, range)| {
        range.step_by(8).map(move |offset| {
            let word = page[offset..offset + 8].try_into().expect("eight bytes");
            (name, offset, u64::from_le_bytes(word))
        })
    });
    words.filter(|(_, _, word)| *word != 0).collect()
}

fn landing(start: usize) -> std::ops::Range<usize> {
    start..start + size_of::<Landing>()
}

const LOOKS: usize = 40;
/// Most looks for something that has to show.
const MOST_LOOKS: usize = 1000;

/// What is left over at any of many looks at programs that enter the kernel in all ways; the end is when there were enough,
/// and `done`.
fn left_over_in_a_storm(words: &str, done: impl Fn(&LeftOver) -> bool) -> LeftOver {
    let boot = Boot::new().limit(LIMIT).append(words).arguments("storm");
    let mut running = boot.init(program(Library::Glibc, "payload")).start();
    running.wait_for("READY\n", LIMIT);
    let mut left = Vec::new();
    for number in 1..=MOST_LOOKS {
        left.extend(left_over(&running.visible()));
        if number >= LOOKS && done(&left) {
            break;
        }
        // On a busy host the guest may hardly get anywhere between two looks.
        std::thread::sleep(Duration::from_millis((number / 10) as u64));
    }
    left
}

#[test]
fn nothing_stays_behind_an_entry() {
    if other_kernel() {
        println!("not our kernel: its stacks are its own business");
        return;
    }
    let left = left_over_in_a_storm("ringwall.scrub=on", |_| true);
    assert!(left.is_empty(), "these words stayed: {left:x?}");
}

#[test]
fn what_stays_without_scrubbing_is_noticed() {
    if other_kernel() {
        println!("not our kernel: its stacks are its own business");
        return;
    }
    let stays = |left: &LeftOver, name| left.iter().any(|(place, _, _)| *place == name);
    let names = ["scratch word", "entry stack", "#DB's landing"];
    let all = |left: &LeftOver| names.iter().all(|name| stays(left, *name));
    let left = left_over_in_a_storm("ringwall.scrub=off", all);
    for name in names {
        assert!(stays(&left, name), "nothing stayed in the {name}: {left:x?}");
    }
}
