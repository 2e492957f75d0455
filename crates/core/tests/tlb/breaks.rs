//! What is wrong on purpose. Each has to be found, and where it is expected: a search that finds something else, or
//! nothing, has lost its eyes.
//!
//! Those that a kernel author makes most easily have the shortest story that shows them, too, and the story without the
//! break, in which nothing is wrong.

use ringwall_core::tlb::Features;

use crate::search;
use crate::steps::Step;
use crate::world::World;

/// A mistake of the entry text, of what executes flushes, or of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    None,
    /// The way out never flushes the user half.
    UserHalfKept,
    /// That the user half has to be flushed is not written down.
    MarkLost,
    /// INVPCID flushes nothing.
    NoInvpcid,
    /// The page tables are changed when all flushes are done, not before.
    FlushFirst,
    /// The last CPU is never told.
    LostMessage,
    /// CPUs are told as of before the change.
    EarlyTargets,
    /// A switch takes every PCID for up to date.
    AlwaysKeep,
    /// Frames are free before the others have answered.
    FreeEarly,
    /// A copy is there before the others have forgotten the page that it is of.
    NewFirst,
    /// A flush of everything leaves the other PCIDs as they are.
    OnePcid,
    /// Flushing a page leaves its global translation.
    GlobalKept,
    /// A page table is told as if it were a page.
    TableAsPage,
    /// Idle CPUs are not told of page tables either.
    IdleTables,
    /// The open text takes the mark of the user half away and flushes nothing.
    OpenExitTakesMark,
    /// As long as a space is open, its user half is not flushed.
    OpenSkipsUserHalf,
    /// A space is closed, and nobody told.
    CloseForgets,
    /// A space ends while a CPU still has it loaded.
    EndLoaded,
    /// A new space gets the number of one that ended.
    UsedNumber,
}

const INVPCID: Features = Features { pcid: true, invpcid: true, isolated: true };
const PCID: Features = Features { invpcid: false, ..INVPCID };
const NO_PCID: Features = Features { pcid: false, ..PCID };
const PLAIN: Features = Features { isolated: false, ..NO_PCID };

const FREE_FRAME: &str = "reaches the free frame";
const FREE_TABLE: &str = "walks through the free table";

/// Where it is found, if it is there.
#[derive(Clone, Copy, Debug)]
enum Half {
    User,
    Any,
}

/// The search finds it, with these features.
#[track_caller]
fn is_found(broken: Break, features: Features, fault: &str, half: Half) {
    let error = search(features, broken, 4000).expect_err("the break goes unnoticed");
    let half = match half {
        Half::User => ", user half of 0x",
        Half::Any => " half of 0x",
    };
    // A panic of the world's own is told in the same way, but not of a CPU.
    let told = error.lines().next().unwrap_or_default();
    let found = told.starts_with("Test failed: CPU ");
    let expected = found && told.contains(fault) && told.contains(half);
    assert!(expected, "{broken:?}, {features:?}: {error}");
}

/// The last step of the story shows it, and nothing is wrong with the story otherwise.
#[track_caller]
fn is_told(broken: Break, features: Features, story: &[Step], fault: &str) {
    let tell = |broken| {
        let mut world = World::new(features, broken);
        let told = story.iter().enumerate().map(|(number, step)| (number, world.step(*step)));
        let mut faults = told.filter_map(|(number, result)| Some((number, result.err()?)));
        faults.next()
    };
    assert_eq!(tell(Break::None), None, "{features:?}");
    let (number, found) = tell(broken).expect("the break goes unnoticed");
    assert_eq!(number, story.len() - 1, "{broken:?} is found early: {found}");
    assert!(found.contains(fault), "{broken:?}, {features:?}: {found}");
}

/// A program runs, unmaps a page and runs on: on one CPU.
const UNMAP: [Step; 5] = [
    Step::Map { space: 0, page: 0 },
    Step::Switch { cpu: 0, space: 0 },
    Step::Exit { cpu: 0, open: false },
    Step::Unmap { cpu: 0, space: 0, first: 0, last: 0 },
    Step::Exit { cpu: 0, open: false },
];

/// One CPU unmaps what the last one uses.
const UNMAP_ELSEWHERE: [Step; 4] = [
    Step::Map { space: 0, page: 0 },
    Step::Switch { cpu: 2, space: 0 },
    Step::Exit { cpu: 2, open: false },
    Step::Unmap { cpu: 0, space: 0, first: 0, last: 0 },
];

#[test]
fn a_user_half_that_is_not_flushed_is_found() {
    let user = "reaches the free frame 2 at 0x0, user half of 0x802";
    is_told(Break::UserHalfKept, PCID, &UNMAP, user);
    is_told(Break::MarkLost, PCID, &UNMAP, user);
    is_told(Break::NoInvpcid, INVPCID, &UNMAP, user);
    for features in [PCID, INVPCID] {
        is_found(Break::UserHalfKept, features, "free", Half::User);
        is_found(Break::MarkLost, features, "free", Half::User);
    }
    is_found(Break::NoInvpcid, INVPCID, "free", Half::User);
}

#[test]
fn a_flush_before_the_change_is_found() {
    for features in [PCID, INVPCID, NO_PCID, PLAIN] {
        is_told(Break::FlushFirst, features, &UNMAP[..4], FREE_FRAME);
        is_found(Break::FlushFirst, features, "free", Half::Any);
    }
}

#[test]
fn a_lost_message_is_found() {
    for features in [PCID, INVPCID, NO_PCID, PLAIN] {
        is_told(Break::LostMessage, features, &UNMAP_ELSEWHERE, FREE_FRAME);
        is_found(Break::LostMessage, features, "free", Half::Any);
    }
}

#[test]
fn targets_from_before_the_change_are_found() {
    is_found(Break::EarlyTargets, INVPCID, "free", Half::Any);
}

#[test]
fn a_pcid_taken_for_up_to_date_is_found() {
    is_found(Break::AlwaysKeep, INVPCID, FREE_FRAME, Half::Any);
}

#[test]
fn frames_freed_before_the_answers_are_found() {
    is_told(Break::FreeEarly, INVPCID, &UNMAP_ELSEWHERE, FREE_FRAME);
    is_found(Break::FreeEarly, INVPCID, "free", Half::Any);
}

/// One CPU copies what the last one uses, and it may store to the copy while the other loads what was before.
#[test]
fn a_copy_that_is_there_before_the_answers_is_found() {
    let [map, switch, exit, _] = UNMAP_ELSEWHERE;
    let story = [map, switch, exit, Step::Copy { cpu: 0, space: 0, page: 0 }];
    for features in [PCID, INVPCID, NO_PCID, PLAIN] {
        is_told(Break::NewFirst, features, &story, "reaches frame 2 at 0x0, where 3 is by now");
        is_found(Break::NewFirst, features, "is by now", Half::Any);
    }
}

#[test]
fn a_kernel_page_flushed_in_one_pcid_is_found() {
    is_found(Break::OnePcid, INVPCID, FREE_FRAME, Half::Any);
}

#[test]
fn a_global_translation_that_stays_is_found() {
    is_found(Break::GlobalKept, PLAIN, FREE_FRAME, Half::Any);
    is_found(Break::GlobalKept, NO_PCID, FREE_FRAME, Half::Any);
}

/// INVPCID of one address leaves what the table's other regions are reached by.
#[test]
fn a_page_table_told_as_a_page_is_found() {
    let story = [&UNMAP[..], &[Step::UnmapTable { cpu: 0, space: 0 }, UNMAP[4]]].concat();
    let fault = "walks through the free table 1, user half";
    is_told(Break::TableAsPage, INVPCID, &story, fault);
    // Idle CPUs are not told, either.
    is_found(Break::TableAsPage, INVPCID, FREE_TABLE, Half::Any);
}

#[test]
fn an_idle_cpu_that_is_not_told_of_a_page_table_is_found() {
    for features in [INVPCID, PLAIN] {
        is_found(Break::IdleTables, features, FREE_TABLE, Half::Any);
    }
}

/// A thread of an open space leaves by the open text after a change; then an isolated one runs.
#[test]
fn an_open_exit_that_takes_the_mark_is_found() {
    let story = [
        UNMAP[0],
        UNMAP[1],
        UNMAP[2],
        Step::Open { space: 0 },
        UNMAP[3],
        Step::Exit { cpu: 0, open: true },
        Step::Enter { cpu: 0 },
        Step::Exit { cpu: 0, open: false },
    ];
    is_told(Break::OpenExitTakesMark, PCID, &story, FREE_FRAME);
    is_told(Break::OpenSkipsUserHalf, INVPCID, &story, FREE_FRAME);
    is_found(Break::OpenExitTakesMark, PCID, "free", Half::User);
}

#[test]
fn a_user_half_that_is_not_flushed_while_the_space_is_open_is_found() {
    for features in [PCID, INVPCID] {
        is_found(Break::OpenSkipsUserHalf, features, "free", Half::User);
    }
}

#[test]
fn a_space_closed_without_a_word_is_found() {
    let story = [
        UNMAP[1],
        Step::Open { space: 0 },
        Step::Exit { cpu: 0, open: true },
        Step::Close { cpu: 1, space: 0 },
    ];
    is_told(Break::CloseForgets, INVPCID, &story, FREE_FRAME);
    is_found(Break::CloseForgets, NO_PCID, FREE_FRAME, Half::Any);
}

#[test]
fn a_space_that_ends_while_it_is_loaded_is_found() {
    is_found(Break::EndLoaded, INVPCID, "free", Half::Any);
}

#[test]
fn a_number_used_again_is_found() {
    is_found(Break::UsedNumber, INVPCID, "free", Half::Any);
}
