//! Every way into the kernel and out of it, disturbed after each of its instructions.

use ringwall_tests::inject::{Event, Watch};
use ringwall_tests::{Boot, other_kernel};

fn disturbed(boot: Boot, way: &str) {
    if other_kernel() {
        println!("not our kernel: its entry code is its own business");
        return;
    }
    let mut watch = Watch::new(boot, way);
    let trip = watch.settle();
    println!("way {way}: {} instructions", trip.states.len());
    for event in Event::ALL {
        let count = watch.disturb_everywhere(&trip, event);
        println!("way {way}: {count} places, {event}");
    }
}

/// An event at one instruction of each kind of a way, and another after each of its own instructions.
fn nested(boot: Boot, way: &str) {
    if other_kernel() {
        println!("not our kernel: its entry code is its own business");
        return;
    }
    let mut watch = Watch::new(boot, way);
    let trip = watch.settle();
    for (outer, inner) in [(Event::Nmi, Event::MachineCheck), (Event::MachineCheck, Event::Nmi)] {
        let kinds = watch.kinds(&trip);
        let count: usize = kinds.iter().map(|index| watch.nest(&trip, *index, outer, inner)).sum();
        println!("way {way}: {count} times {inner} inside an {outer}, at {} places", kinds.len());
    }
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

ways!(call, gate, fault, copy, tick, breakpoint, step, enter, back, badback, short);
