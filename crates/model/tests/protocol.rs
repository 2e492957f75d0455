//! The whole state space of the protocol as it is, and the shortest way to a fault in each that is broken on purpose.

use ringwall_model::explore::{Trace, explore};
use ringwall_model::protocol::{Break, Protocol, Settings, item};

#[track_caller]
fn holds(settings: Settings) {
    match explore(&Protocol(settings)) {
        Ok(states) => println!("{states} states, {settings:?}"),
        Err(trace) => panic!("{settings:?}\n{trace}"),
    }
}

#[test]
fn a_page_that_is_replaced_and_taken_out() {
    for settings in
        [Settings::PCID, Settings::WITHOUT_PCID, Settings::WITHOUT_ISOLATION, Settings::PLAIN]
    {
        holds(Settings { items: item::PAGE | item::AGAIN, ..settings });
    }
}

#[test]
fn a_page_and_a_page_table() {
    for settings in [Settings::PCID, Settings::WITHOUT_INVPCID, Settings::WITHOUT_PCID] {
        holds(Settings { items: item::PAGE | item::TABLE, ..settings });
    }
}

#[test]
fn a_page_while_isolation_is_switched_off_and_on() {
    for settings in [Settings::WITHOUT_INVPCID, Settings::WITHOUT_PCID] {
        holds(Settings { items: item::PAGE | item::OPEN, ..settings });
    }
}

#[test]
fn more_spaces_than_slots() {
    holds(Settings { reuse: true, ..Settings::WITHOUT_INVPCID });
}

#[test]
fn a_page_of_the_kernel_half() {
    for settings in [Settings::PCID, Settings::WITHOUT_PCID, Settings::PLAIN] {
        holds(Settings { items: item::SHARED, late: true, spaces: 3, ..settings });
    }
}

#[test]
fn a_lock_that_is_held_until_frames_are_free() {
    for settings in [Settings::PCID, Settings::WITHOUT_PCID] {
        holds(Settings { items: item::PAGE | item::TABLE, lock: true, ..settings });
    }
}

#[track_caller]
fn fails(settings: Settings, broken: Break, fault: &str) {
    let result = explore(&Protocol(Settings { broken: Some(broken), ..settings }));
    let trace: Box<Trace> = result.expect_err("the break goes unnoticed");
    println!("{broken:?}:\n{trace}\n");
    assert!(trace.fault.contains(fault), "{broken:?}:\n{trace}");
}

const STALE: &str = "reaches the page, which is free";
const SHARED: Settings = Settings { items: item::SHARED, spaces: 3, ..Settings::PCID };

#[test]
fn a_user_half_that_is_not_flushed() {
    fails(Settings::WITHOUT_INVPCID, Break::UserHalf, STALE);
    fails(Settings::WITHOUT_INVPCID, Break::ForgottenDue, STALE);
    fails(Settings { reuse: true, ..Settings::PCID }, Break::UsedSlot, "reaches");
}

#[test]
fn a_user_half_that_is_not_flushed_while_ring_3_uses_the_other() {
    let open = item::PAGE | item::OPEN;
    fails(Settings { items: open, ..Settings::WITHOUT_INVPCID }, Break::OpenTakesMark, STALE);
    for settings in [Settings::PCID, Settings::WITHOUT_INVPCID] {
        fails(Settings { items: open, ..settings }, Break::OpenSkipsUserHalf, STALE);
        fails(Settings { items: open, ..settings }, Break::WholeKernelHalf, STALE);
    }
}

#[test]
fn a_right_that_is_taken_back_and_kept() {
    for settings in [Settings::PCID, Settings::WITHOUT_INVPCID, Settings::WITHOUT_PCID] {
        for broken in [Break::LostMessage, Break::FreeEarly, Break::EarlyTargets] {
            let right = "reaches ring 3's right to the kernel root, which is free";
            fails(Settings { items: item::OPEN, ..settings }, broken, right);
        }
    }
}

#[test]
fn what_is_done_too_early() {
    for settings in [Settings::PCID, Settings::WITHOUT_PCID, Settings::PLAIN] {
        fails(settings, Break::FlushFirst, STALE);
        fails(settings, Break::EarlyTargets, STALE);
        fails(settings, Break::EarlyGeneration, STALE);
        fails(settings, Break::FreeEarly, STALE);
    }
    for settings in
        [Settings::PCID, Settings::WITHOUT_PCID, Settings::WITHOUT_ISOLATION, Settings::PLAIN]
    {
        let two = Settings { items: item::PAGE | item::AGAIN, ..settings };
        fails(two, Break::NewFirst, "reaches the page, which others have a second frame for");
    }
    // Without PCID, but with isolation, the interrupt's own write of CR3 flushes.
    fails(Settings::PCID, Break::AnswerFirst, STALE);
    fails(Settings::PLAIN, Break::AnswerFirst, STALE);
    fails(Settings { items: item::TABLE, ..Settings::PCID }, Break::EarlyLeave, "walks through");
}

#[test]
fn what_is_done_too_late() {
    for settings in [Settings::PCID, Settings::WITHOUT_PCID, Settings::PLAIN] {
        fails(settings, Break::LateWake, STALE);
        fails(Settings { items: item::PAGE | item::AGAIN, ..settings }, Break::LateRead, "reaches");
    }
    // Without PCID the switch flushes, whatever it has read.
    fails(Settings::PCID, Break::LateJoin, STALE);
    fails(Settings::WITHOUT_ISOLATION, Break::LateJoin, STALE);
    fails(Settings { late: true, ..SHARED }, Break::LateOnline, "reaches the kernel's page");
}

#[test]
fn a_cpu_that_is_not_told() {
    for settings in [Settings::PCID, Settings::WITHOUT_PCID, Settings::PLAIN] {
        fails(settings, Break::LostMessage, STALE);
        fails(Settings { items: item::TABLE, ..settings }, Break::IdleTables, "walks through");
    }
}

#[test]
fn a_flush_that_is_too_small() {
    let two = item::PAGE | item::TABLE;
    fails(Settings::PCID, Break::AlwaysKeep, STALE);
    fails(Settings { items: two, ..Settings::PCID }, Break::SkippedGeneration, STALE);
    fails(Settings { items: item::TABLE, ..Settings::PCID }, Break::TableByPage, "walks through");
    fails(SHARED, Break::OnePcid, "reaches the kernel's page");
}

#[test]
fn who_waits_and_does_not_serve() {
    let all = item::PAGE | item::TABLE | item::SHARED;
    fails(Settings { items: all, ..Settings::PLAIN }, Break::DeafWaiter, "nothing can go on");
    fails(
        Settings { items: all, lock: true, ..Settings::PLAIN },
        Break::DeafLock,
        "nothing can go on",
    );
}
