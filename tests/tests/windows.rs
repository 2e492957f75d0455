//! Every way into the kernel and out of it, disturbed after each of its instructions.

use ringwall_tests::inject::{Event, Trip, Watch};
use ringwall_tests::{Boot, expect_broken, other_kernel};

/// RSP that the way `short` asks for, with a 16-bit stack segment.
const SHORT_RSP: u64 = 0x2345_6780;

fn settled(boot: Boot, way: &str) -> Option<(Watch, Trip)> {
    if other_kernel() {
        println!("not our kernel: its entry code is its own business");
        return None;
    }
    let mut watch = Watch::new(boot, way);
    let trip = watch.settle();
    println!("way {way}: {} instructions", trip.states.len());
    Some((watch, trip))
}

/// An event at each instruction of a way.
fn disturbed(boot: Boot, way: &str) {
    let Some((mut watch, trip)) = settled(boot, way) else { return };
    for event in Event::ALL {
        let count = watch.disturb_everywhere(&trip, event);
        println!("way {way}: {count} places, {event}");
    }
}

/// An event at one instruction of each kind of a way, and another after each of its own instructions.
fn nested(boot: Boot, way: &str) {
    let Some((mut watch, trip)) = settled(boot, way) else { return };
    for (outer, inner) in [(Event::Nmi, Event::MachineCheck), (Event::MachineCheck, Event::Nmi)] {
        let kinds = watch.kinds(&trip);
        let count: usize = kinds.iter().map(|index| watch.nest(&trip, *index, outer, inner)).sum();
        println!("way {way}: {count} times {inner} inside an {outer}, at {} places", kinds.len());
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
    nested(Boot::new(), "call");
}

macro_rules! ways {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            disturbed(Boot::new(), stringify!($name));
        })*
    };
}

ways!(call, gate, fault, copy, tick, breakpoint, step, enter, back, badback, short, badshort);

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
    expect_broken("nmi-iret", "an NMI arrived inside an NMI", |boot| nested(boot, "call"));
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
