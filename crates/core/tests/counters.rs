//! What is counted is what was done: each event of the flush planner goes with the instructions that it stands for, over
//! random switches, changes and exits, with PCID and without.

use proptest::prelude::*;
use ringwall_core::root::{NO_FLUSH, RootPair};
use ringwall_core::tlb::{
    CpuTlb, Event, Features, Hardware, PAGES_LIMIT, Pages, SLOTS, Space, Switch,
};

/// More than a CPU has slots for.
const SPACES: usize = SLOTS + 2;

/// Writes down what it is told to do.
#[derive(Debug, Default)]
struct Recorder {
    exit_cr3: u64,
    cr3: Vec<u64>,
    pages: usize,
    everything: usize,
    counted: Vec<Event>,
}

impl Hardware for Recorder {
    fn write_cr3(&mut self, cr3: u64) {
        self.cr3.push(cr3);
    }

    fn flush_page(&mut self, _address: u64) {
        self.pages += 1;
    }

    fn flush_page_of(&mut self, _pcid: u16, _address: u64) {}

    fn flush_all(&mut self) {
        self.everything += 1;
    }

    fn exit_cr3(&self) -> u64 {
        self.exit_cr3
    }

    fn set_exit_cr3(&mut self, cr3: u64) {
        self.exit_cr3 = cr3;
    }

    fn count(&mut self, event: Event) {
        self.counted.push(event);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Switch(usize),
    Rest,
    Change(usize, u64),
    Kernel(u64),
    Exit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..SPACES).prop_map(Step::Switch),
        1 => Just(Step::Rest),
        4 => (0..SPACES, 1..2 * PAGES_LIMIT).prop_map(|(space, count)| Step::Change(space, count)),
        1 => (1..2 * PAGES_LIMIT).prop_map(Step::Kernel),
        2 => Just(Step::Exit),
    ]
}

fn pages(count: u64) -> Pages {
    let mut pages = Pages::NONE;
    (0..count).for_each(|page| pages.add(page * 4096));
    pages
}

fn run(features: Features, steps: &[Step]) -> Result<(), TestCaseError> {
    let spaces: Vec<Space> = (1..=SPACES as u64).map(Space::new).collect();
    let roots = |space: usize| RootPair::new(0x10_0000 + space as u64 * 0x2000).expect("aligned");
    let mut cpu = CpuTlb::new(0, features);
    let mut hardware = Recorder::default();
    let mut loaded = 0;
    cpu.switch(&spaces[0], roots(0), None, &mut hardware);
    for step in steps {
        let due_before = hardware.exit_cr3 & NO_FLUSH == 0;
        hardware = Recorder { exit_cr3: hardware.exit_cr3, ..Recorder::default() };
        let mut switched = None;
        match *step {
            Step::Switch(space) => {
                let previous = (space != loaded).then(|| &spaces[loaded]);
                let switch = cpu.switch(&spaces[space], roots(space), previous, &mut hardware);
                loaded = space;
                switched = Some(switch);
            }
            Step::Rest => cpu.rest(&spaces[loaded]),
            Step::Change(space, count) => {
                let change = spaces[space].retire(pages(count));
                cpu.flush(&change, &spaces[space], roots(space), &mut hardware);
            }
            Step::Kernel(count) => cpu.flush_kernel(&pages(count), &mut hardware),
            Step::Exit if features.pcid && features.isolated => hardware.exit_cr3 |= NO_FLUSH,
            Step::Exit => {}
        }
        check(features, step, switched, &hardware, due_before)?;
    }
    Ok(())
}

fn check(
    features: Features,
    step: &Step,
    switched: Option<Switch>,
    done: &Recorder,
    due_before: bool,
) -> Result<(), TestCaseError> {
    let count = |event| done.counted.iter().filter(|counted| **counted == event).count();
    let kept = done.cr3.iter().filter(|cr3| *cr3 & NO_FLUSH != 0).count();
    let flushing = done.cr3.len() - kept;
    prop_assert_eq!(count(Event::SwitchKept), kept, "{:?}", step);
    let flushed = count(Event::SwitchFlushed) + count(Event::ChangeWhole);
    prop_assert_eq!(flushed, flushing, "{:?}", step);
    prop_assert_eq!(count(Event::ChangeByPage) > 0, done.pages > 0, "{:?}", step);
    prop_assert_eq!(count(Event::Everything), done.everything, "{:?}", step);
    match switched {
        Some(Switch::Kept) => prop_assert_eq!((kept, flushing), (1, 0)),
        Some(Switch::Flushed) => prop_assert_eq!((kept, flushing), (0, 1)),
        Some(Switch::Stayed) => prop_assert!(done.cr3.is_empty()),
        None => prop_assert_eq!(kept, 0),
    }
    if let Step::Change(..) = step {
        let ways = [Event::ChangeByPage, Event::ChangeWhole, Event::ChangeSpared].map(count);
        prop_assert_eq!(ways.iter().sum::<usize>(), 1, "{:?}", ways);
        let spared = ways[2] == 1;
        prop_assert!(!spared || (done.cr3.is_empty() && done.pages == 0), "{:?}", done);
    }
    if !matches!(step, Step::Switch(_)) {
        let due = features.pcid && features.isolated && done.exit_cr3 & NO_FLUSH == 0;
        prop_assert_eq!(count(Event::UserHalfDue), usize::from(due && !due_before), "{:?}", step);
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_event_is_what_was_done(
        pcid: bool,
        invpcid: bool,
        isolated: bool,
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run(Features { pcid, invpcid, isolated }, &steps)?;
    }
}

/// A space that was loaded before, and did not change since, is what PCIDs are for.
#[test]
fn a_live_pcid_is_loaded_without_a_flush() {
    let features = Features { pcid: true, invpcid: true, isolated: true };
    let spaces = [Space::new(1), Space::new(2)];
    let roots = [0x2000, 0x4000].map(|address| RootPair::new(address).expect("aligned"));
    let mut cpu = CpuTlb::new(0, features);
    let mut hardware = Recorder::default();
    let mut previous = None;
    for turn in 0..10 {
        cpu.switch(&spaces[turn % 2], roots[turn % 2], previous, &mut hardware);
        previous = Some(&spaces[turn % 2]);
        hardware.exit_cr3 |= NO_FLUSH;
    }
    let flushing = [Event::SwitchFlushed; 2];
    let kept = [Event::SwitchKept; 8];
    assert_eq!(hardware.counted, [&flushing[..], &kept].concat());
}

/// One page more than the limit, of a program's or of the kernel half.
#[test]
fn more_than_a_few_pages_are_not_flushed_one_by_one() {
    for pcid in [false, true] {
        let features = Features { pcid, invpcid: true, isolated: true };
        let (space, roots) = (Space::new(1), RootPair::new(0x2000).expect("aligned"));
        let mut cpu = CpuTlb::new(0, features);
        cpu.switch(&space, roots, None, &mut Recorder::default());
        for (count, few) in [(PAGES_LIMIT, true), (PAGES_LIMIT + 1, false)] {
            let mut hardware = Recorder::default();
            let change = space.retire(pages(count));
            cpu.flush(&change, &space, roots, &mut hardware);
            let one_by_one = if few { count as usize } else { 0 };
            assert_eq!((hardware.pages, hardware.cr3.is_empty()), (one_by_one, few));
            cpu.flush(&change, &space, roots, &mut hardware);
            assert_eq!(hardware.counted[1..], [Event::ChangeSpared], "it is flushed");
            let mut hardware = Recorder::default();
            cpu.flush_kernel(&pages(count), &mut hardware);
            let everything = usize::from(pcid || !few);
            assert_eq!((hardware.everything, hardware.pages == 0), (everything, everything == 1));
        }
    }
}
