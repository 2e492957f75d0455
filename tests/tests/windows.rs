//! Every way into the kernel and out of it, disturbed after each of its instructions.

use std::time::Duration;

use ringwall_emulator::INTEL_CPU;
use ringwall_tests::inject::{Event, Holds, Trip, Watch};
use ringwall_tests::{Boot, expect_broken, other_kernel};

/// How long one boot may take.
const LIMIT: Duration = Duration::from_secs(300);
/// The same, for the whole campaign.
const LONG_LIMIT: Duration = Duration::from_secs(7_200);
/// At how many instructions of two texts, each by a call and by an interrupt, the CPU is held at least for each event: not
/// every one is on every way.
const ENOUGH: usize = 80;
/// Which event inside which.
const NESTED: [(Event, Event); 3] = [
    (Event::Nmi, Event::MachineCheck),
    (Event::Nmi, Event::Debug),
    (Event::MachineCheck, Event::Nmi),
];
/// RSP that the way `short` asks for, with a 16-bit stack segment.
const SHORT_RSP: u64 = 0x2345_6780;

fn settled(boot: Boot, way: &str) -> Option<(Watch, Trip)> {
    settled_within(LIMIT, boot, way)
}

fn settled_within(limit: Duration, boot: Boot, way: &str) -> Option<(Watch, Trip)> {
    if other_kernel() {
        println!("not our kernel: its entry code is its own business");
        return None;
    }
    let mut watch = Watch::new(boot.limit(limit), way);
    let trip = watch.settle();
    println!("way {way}: {} instructions", trip.states.len());
    Some((watch, trip))
}

/// An event at each instruction of a way.
fn disturbed(boot: Boot, way: &str) {
    let Some((mut watch, trip)) = settled(boot, way) else { return };
    for event in Event::ALL {
        disturb(&mut watch, &trip, way, event);
    }
}

fn disturb(watch: &mut Watch, trip: &Trip, way: &str, event: Event) {
    // No #DB interrupts the first instructions of another: it clears TF, and then DR7.
    if way.starts_with("step") && event == Event::Debug {
        return;
    }
    let count = watch.disturb_everywhere(trip, event);
    println!("way {way}: {count} places, {event}");
    assert!(count > 0, "way {way}: no {event} came anywhere");
}

/// An event at one instruction of each kind of a way, and another after each of its own instructions.
fn nested(boot: Boot, way: &str, pairs: &[(Event, Event)]) {
    let Some((mut watch, trip)) = settled(boot, way) else { return };
    for &pair in pairs {
        let places = watch.kinds(&trip);
        nest(&mut watch, &trip, way, &places, pair);
    }
}

fn nest(
    watch: &mut Watch,
    trip: &Trip,
    way: &str,
    places: &[usize],
    (outer, inner): (Event, Event),
) {
    let count: usize = places.iter().map(|index| watch.nest(trip, *index, outer, inner)).sum();
    println!("way {way}: {count} times {inner} inside an {outer}, at {} places", places.len());
    assert!(count > 0, "way {way}: no {inner} came inside an {outer}");
}

/// The whole campaign: an event inside an event at every instruction of every way. About an hour.
#[test]
#[ignore = "takes an hour: cargo xtask test --campaign"]
fn everything_nested() {
    for way in WAYS {
        let Some((mut watch, trip)) = settled_within(LONG_LIMIT, Boot::new(), way) else {
            return;
        };
        for pair in NESTED {
            let places = watch.boundaries(&trip);
            nest(&mut watch, &trip, way, &places, pair);
        }
    }
}

/// An exit to a 16-bit stack segment: IRETQ loads SP alone, and what the rest of RSP is then shows where RSP was.
fn keeps_its_rsp(boot: Boot) {
    let Some((_, trip)) = settled(boot, "short") else { return };
    let rsp = trip.end().rsp();
    assert!(rsp == SHORT_RSP, "RSP is {rsp:#x} and not {SHORT_RSP:#x}: the kernel's shows");
}

#[test]
fn no_bit_of_the_kernels_rsp_shows() {
    keeps_its_rsp(Boot::new());
}

#[test]
fn call_nested() {
    nested(Boot::new(), "call", &NESTED);
}

/// The other exits of an event's code: what an interrupt came from goes back to by IRETQ, and espfix.
#[test]
fn short_nested() {
    nested(Boot::new(), "short", &NESTED[..1]);
}

/// Ring 3 with the kernel's GS base, and RSP on the NMI's stack.
#[test]
fn hostile_call() {
    let Some((mut watch, _)) = settled(Boot::new(), "call") else { return };
    watch.make_hostile();
    let trip = watch.settle();
    assert_eq!(trip.end().gs_base, trip.end().kernel_gs_base);
    for event in Event::ALL {
        disturb(&mut watch, &trip, "call", event);
    }
    let places = watch.kinds(&trip);
    nest(&mut watch, &trip, "call", &places, NESTED[0]);
}

/// Every measure there is, needed or not: they stand in the windows, and change registers and flags.
fn hardened() -> Boot {
    let measures = ["clac", "lfence", "scrub", "registers", "verw", "rsb"];
    let words: String = measures.iter().map(|name| format!(" ringwall.{name}=force")).collect();
    Boot::new().append(&words)
}

#[test]
fn hardened_call() {
    disturbed(hardened(), "call");
}

#[test]
fn hardened_fault() {
    disturbed(hardened(), "fault");
}

/// The base of GS by MSR, as on CPUs before FSGSBASE.
#[test]
fn old_call() {
    disturbed(Boot::new().cpu(&format!("{INTEL_CPU},-fsgsbase")), "call");
}

/// The variant without switches.
#[test]
fn open_call() {
    disturbed(Boot::new().pti("off"), "call");
}

/// A process whose isolation is switched off: the text without switches, beside the one with them.
#[test]
fn switched_off_call() {
    disturbed(Boot::new(), "call open");
}

#[test]
fn switched_off_call_nested() {
    nested(Boot::new(), "call open", &NESTED[..1]);
}

#[test]
fn switched_off_fault() {
    disturbed(Boot::new(), "fault open");
}

/// The espfix stack is the alias that an open process leaves from.
#[test]
fn switched_off_badshort() {
    disturbed(Boot::new(), "badshort open");
}

#[test]
fn open_fault() {
    disturbed(Boot::new().pti("off"), "fault");
}

#[test]
fn open_call_nested() {
    nested(Boot::new().pti("off"), "call", &NESTED[..1]);
}

/// An application processor: its own entry area, GDT, TSS and stacks. The boot processor runs beside it.
fn on_another_cpu(way: &str) {
    disturbed(Boot::new().cpus(2), &format!("{way} 1"));
}

#[test]
fn call_on_another_cpu() {
    on_another_cpu("call");
}

#[test]
fn fault_on_another_cpu() {
    on_another_cpu("fault");
}

/// Its espfix stack, and the #DF on it.
#[test]
fn badshort_on_another_cpu() {
    on_another_cpu("badshort");
}

/// All of it on the last of four. The tick's beginning may be any interrupt there.
#[test]
#[ignore = "takes half an hour: cargo xtask test --campaign"]
fn everything_on_the_last_of_four_cpus() {
    for way in WAYS.iter().filter(|way| **way != "tick") {
        let boot = Boot::new().cpus(4);
        let way = format!("{way} 3");
        let Some((mut watch, trip)) = settled_within(LONG_LIMIT, boot, &way) else { return };
        for event in Event::ALL {
            disturb(&mut watch, &trip, &way, event);
        }
        let places = watch.kinds(&trip);
        nest(&mut watch, &trip, &way, &places, NESTED[0]);
    }
}

/// A CPU that stands at any instruction of the entry text while another one asks something of it, and waits.
fn held(boot: Boot, limit: Duration, events: &[Option<Event>]) {
    if other_kernel() {
        println!("not our kernel: its entry code is its own business");
        return;
    }
    let mut watch = Watch::new(boot.cpus(2).limit(limit), "crowd 1");
    let Holds { held, missed } = watch.hold_everywhere(events);
    println!(
        "held {held} times, with {} events; {missed} times it did not come along",
        events.len()
    );
    assert!(held >= ENOUGH * events.len(), "held {held} times, with {} events", events.len());
}

#[test]
fn held_while_another_cpu_waits() {
    held(Boot::new(), LIMIT, &[None, Some(Event::Nmi)]);
}

/// With all measures, machine checks, and again and again: what the other one asks for is another thing each time.
#[test]
#[ignore = "takes half an hour: cargo xtask test --campaign"]
fn held_again_and_again() {
    let events = [None, Some(Event::Nmi), Some(Event::MachineCheck)];
    for boot in [Boot::new(), hardened()] {
        held(boot, LONG_LIMIT, &events.repeat(8));
    }
}

#[test]
fn a_held_cpu_that_never_hears_of_it_is_noticed() {
    expect_broken("lost-ipi", "was not answered", |boot| held(boot, LIMIT, &[None; 4]));
}

macro_rules! ways {
    ($($name:ident),* $(,)?) => {
        /// Every way of `programs/windows.c`.
        const WAYS: &[&str] = &[$(stringify!($name)),*];

        $(#[test]
        fn $name() {
            disturbed(Boot::new(), stringify!($name));
        })*
    };
}

ways!(
    call, gate, fault, copy, tick, breakpoint, step, enter, back, badback, short, badshort, off, on
);

#[test]
fn a_gs_base_that_is_not_restored_is_noticed() {
    expect_broken("paranoid-gs", "gs base was", |boot| disturbed(boot, "call"));
}

/// The way back pops its registers and its frame from the other view of the landing stack: zeros, and #GP.
#[test]
fn a_root_that_is_not_restored_is_noticed() {
    expect_broken("paranoid-cr3", "ring 0, kernel root", |boot| disturbed(boot, "call"));
}

#[test]
fn an_iret_inside_an_nmi_is_noticed() {
    expect_broken("nmi-iret", "an NMI arrived inside an NMI", |boot| {
        nested(boot, "call", &NESTED[..1]);
    });
}

#[test]
fn a_double_fault_on_the_task_stack_is_noticed() {
    let symptom = "ringwall: double fault: vector Some(8)";
    expect_broken("double-fault-stack", symptom, |boot| disturbed(boot, "badshort"));
}

#[test]
fn a_missing_espfix_is_noticed() {
    expect_broken("espfix", "the kernel's shows", keeps_its_rsp);
}
