//! The flush planner against the worst TLB there can be: it caches every translation that the loaded root has, at
//! once, in both halves of every PCID, and forgets none that nothing flushed.
//!
//! Three CPUs map, unmap (programs' pages, page tables, a page of the kernel half that is global without PCID), switch,
//! rest, go to user mode and come back, in any order; messages to other CPUs arrive
//! whenever they like. A frame is free once every CPU that was told has answered. From then on no CPU
//! may run with a translation to it. What is broken on purpose has to be found.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use ringwall_core::root::{NO_FLUSH, PCID_MASK, RootPair, to_kernel, to_kernel_keep};
use ringwall_core::tlb::{Change, CpuTlb, Features, Hardware, Pages, SLOTS, Space};

const CPUS: usize = 3;
/// More than a CPU has slots for.
const SPACES: usize = SLOTS + 2;
const PAGES: usize = 3;
const PAGE: u64 = 4096;
/// A page of the kernel half that user roots map too; where nothing tells PCIDs apart it is global.
const KERNEL_PAGE: usize = PAGES;
/// In place of a PCID.
const GLOBAL: u16 = u16::MAX;

/// What the machine does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    None,
    /// The exit never flushes the user half.
    UserHalf,
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
    /// A flush of everything leaves the other PCIDs as they are.
    OnePcid,
    /// Flushing a page leaves its global translation.
    GlobalKept,
}

/// One CPU: registers, and every translation that nothing flushed: PCID, page, frame.
#[derive(Debug, Default)]
struct Machine {
    pcide: bool,
    isolated: bool,
    broken: Option<Break>,
    cr3: u64,
    exit_cr3: u64,
    in_user_mode: bool,
    cached: HashSet<(u16, usize, u64)>,
}

impl Machine {
    fn pcid(&self) -> u16 {
        if self.pcide { (self.cr3 & PCID_MASK) as u16 } else { 0 }
    }

    fn enter(&mut self) {
        if self.in_user_mode {
            self.in_user_mode = false;
            if self.isolated {
                let to_kernel = if self.pcide { to_kernel_keep } else { to_kernel };
                self.write_cr3(to_kernel(self.cr3));
            }
        }
    }

    fn exit(&mut self) {
        if !self.in_user_mode {
            self.in_user_mode = true;
            if self.isolated {
                let keep = self.pcide && self.broken == Some(Break::UserHalf);
                let value = self.exit_cr3 | if keep { NO_FLUSH } else { 0 };
                if self.pcide {
                    self.exit_cr3 |= NO_FLUSH;
                }
                self.write_cr3(value);
            }
        }
    }
}

impl Hardware for Machine {
    fn write_cr3(&mut self, cr3: u64) {
        assert!(
            self.pcide || cr3 & (NO_FLUSH | PCID_MASK) == 0,
            "CR3 {cr3:#x} faults without PCID"
        );
        let always = self.broken == Some(Break::AlwaysKeep);
        self.cr3 = cr3 & !NO_FLUSH;
        let loaded = self.pcid();
        if !self.pcide {
            self.cached.retain(|(pcid, ..)| *pcid == GLOBAL);
        } else if cr3 & NO_FLUSH == 0 && !always {
            self.cached.retain(|(pcid, ..)| *pcid != loaded);
        }
    }

    fn flush_page(&mut self, address: u64) {
        self.flush_page_of(self.pcid(), address);
        if self.broken != Some(Break::GlobalKept) {
            self.flush_page_of(GLOBAL, address);
        }
    }

    fn flush_page_of(&mut self, flushed: u16, address: u64) {
        self.cached.retain(|(pcid, page, _)| (*pcid, *page as u64) != (flushed, address / PAGE));
    }

    fn flush_all(&mut self) {
        let (one, loaded) = (self.broken == Some(Break::OnePcid), self.pcid());
        self.cached.retain(|(pcid, ..)| one && *pcid != loaded);
    }

    fn exit_cr3(&self) -> u64 {
        self.exit_cr3
    }

    fn set_exit_cr3(&mut self, cr3: u64) {
        self.exit_cr3 = cr3;
    }
}

/// A frame that is to be free when all have answered.
#[derive(Debug)]
struct Shootdown {
    space: usize,
    page: usize,
    frame: u64,
    /// `None` for the page of the kernel half.
    change: Option<Change>,
    waits_for: BTreeSet<usize>,
}

#[derive(Debug)]
struct World {
    broken: Break,
    spaces: Vec<Space>,
    tables: [[Option<u64>; PAGES]; SPACES],
    cpus: Vec<(Machine, CpuTlb, Option<usize>, bool)>,
    shootdowns: Vec<Shootdown>,
    kernel_page: Option<u64>,
    next_frame: u64,
    free: HashSet<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Map { space: usize, page: usize },
    Unmap { cpu: usize, space: usize, page: usize, table: bool },
    MapKernel,
    UnmapKernel { cpu: usize },
    Message { shootdown: usize, cpu: usize },
    Switch { cpu: usize, space: usize },
    Rest { cpu: usize },
    Exit { cpu: usize },
    Enter { cpu: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (cpu, space, page) = (0..CPUS, 0..SPACES, 0..PAGES);
    // Few spaces often, so that CPUs meet in them.
    let space = prop_oneof![4 => 0..2_usize, 1 => space];
    let step = prop_oneof![
        4 => (space.clone(), page.clone()).prop_map(|(space, page)| Step::Map { space, page }),
        3 => (cpu.clone(), space.clone(), page, any::<bool>())
            .prop_map(|(cpu, space, page, table)| Step::Unmap { cpu, space, page, table }),
        1 => Just(Step::MapKernel),
        1 => cpu.clone().prop_map(|cpu| Step::UnmapKernel { cpu }),
        6 => (0..4_usize, cpu.clone())
            .prop_map(|(shootdown, cpu)| Step::Message { shootdown, cpu }),
        3 => (cpu.clone(), space).prop_map(|(cpu, space)| Step::Switch { cpu, space }),
        1 => cpu.clone().prop_map(|cpu| Step::Rest { cpu }),
        4 => cpu.clone().prop_map(|cpu| Step::Exit { cpu }),
        2 => cpu.prop_map(|cpu| Step::Enter { cpu }),
    ];
    prop::collection::vec(step, 1..120)
}

fn roots(space: usize) -> RootPair {
    RootPair::new((space as u64 + 1) << 13).expect("8 KiB aligned")
}

impl World {
    fn new(features: Features, broken: Break) -> World {
        let machine = || Machine {
            pcide: features.pcid,
            isolated: features.isolated,
            broken: Some(broken),
            ..Machine::default()
        };
        World {
            broken,
            spaces: (1..=SPACES as u64).map(Space::new).collect(),
            tables: [[None; PAGES]; SPACES],
            cpus: (0..CPUS)
                .map(|cpu| (machine(), CpuTlb::new(cpu, features), None, false))
                .collect(),
            shootdowns: Vec::new(),
            kernel_page: None,
            next_frame: 1,
            free: HashSet::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Map { space, page } => {
                if self.tables[space][page].is_none() {
                    self.tables[space][page] = Some(self.next_frame);
                    self.next_frame += 1;
                }
            }
            Step::Unmap { cpu, space, page, table } => self.unmap(cpu, space, page, table),
            Step::MapKernel => {
                if self.kernel_page.is_none() {
                    self.kernel_page = Some(self.next_frame);
                    self.next_frame += 1;
                }
            }
            Step::UnmapKernel { cpu } => self.unmap_kernel(cpu),
            Step::Message { shootdown, cpu } => self.message(shootdown, cpu),
            Step::Switch { cpu, space } => {
                let (machine, tlb, loaded, resting) = &mut self.cpus[cpu];
                machine.enter();
                let previous = loaded.filter(|loaded| *loaded != space);
                let previous = previous.map(|previous| &self.spaces[previous]);
                tlb.switch(&self.spaces[space], roots(space), previous, machine);
                (*loaded, *resting) = (Some(space), false);
            }
            Step::Rest { cpu } => {
                let (machine, tlb, loaded, resting) = &mut self.cpus[cpu];
                if let Some(space) = *loaded {
                    machine.enter();
                    tlb.rest(&self.spaces[space]);
                    *resting = true;
                }
            }
            Step::Exit { cpu } => {
                let (machine, _, loaded, resting) = &mut self.cpus[cpu];
                if loaded.is_some() && !*resting {
                    machine.exit();
                }
            }
            Step::Enter { cpu } => self.cpus[cpu].0.enter(),
        }
        self.free_what_all_have_flushed();
        self.cache_everything();
    }

    fn unmap(&mut self, cpu: usize, space: usize, page: usize, table: bool) {
        let Some(frame) = self.tables[space][page] else { return };
        if self.shootdowns.iter().any(|other| (other.space, other.page) == (space, page)) {
            return;
        }
        let mut pages = Pages::NONE;
        let address = page as u64 * PAGE;
        if table {
            pages.add_table(address)
        } else {
            pages.add(address)
        }
        let before: Vec<usize> = (0..CPUS).filter(|cpu| self.is_target(space, *cpu)).collect();
        if self.broken != Break::FlushFirst {
            self.tables[space][page] = None;
        }
        if self.broken == Break::EarlyTargets {
            // Another CPU comes in between.
            self.step_in_between(cpu, space);
        }
        let change = self.spaces[space].retire(pages);
        let mut waits_for: BTreeSet<usize> = match self.broken {
            Break::EarlyTargets => before.into_iter().collect(),
            Break::FreeEarly => BTreeSet::new(),
            _ => self.spaces[space].targets(&change).collect(),
        };
        waits_for.remove(&cpu);
        if self.broken == Break::LostMessage {
            waits_for.remove(&(CPUS - 1));
        }
        self.cpus[cpu].0.enter();
        self.shootdowns.push(Shootdown { space, page, frame, change: Some(change), waits_for });
        self.flush(cpu, space, self.shootdowns.len() - 1);
    }

    /// Every CPU is told.
    fn unmap_kernel(&mut self, cpu: usize) {
        let Some(frame) = self.kernel_page.take() else { return };
        let waits_for = (0..CPUS).filter(|other| *other != cpu).collect();
        self.cpus[cpu].0.enter();
        let page = KERNEL_PAGE;
        self.shootdowns.push(Shootdown { space: 0, page, frame, change: None, waits_for });
        self.flush(cpu, 0, self.shootdowns.len() - 1);
    }

    fn is_target(&self, space: usize, cpu: usize) -> bool {
        self.spaces[space].loaded().contains(cpu)
    }

    /// Some other CPU starts to use `space`, its translations with it, before the change has a generation.
    fn step_in_between(&mut self, cpu: usize, space: usize) {
        let other = (cpu + 1) % CPUS;
        let (machine, tlb, loaded, resting) = &mut self.cpus[other];
        machine.enter();
        let previous = loaded.filter(|loaded| *loaded != space);
        let previous = previous.map(|previous| &self.spaces[previous]);
        tlb.switch(&self.spaces[space], roots(space), previous, machine);
        (*loaded, *resting) = (Some(space), false);
    }

    fn message(&mut self, shootdown: usize, cpu: usize) {
        let Some(waiting) = self.shootdowns.get_mut(shootdown) else { return };
        if waiting.waits_for.remove(&cpu) {
            let space = waiting.space;
            let from_user_mode = self.cpus[cpu].0.in_user_mode;
            self.cpus[cpu].0.enter();
            self.flush(cpu, space, shootdown);
            if from_user_mode {
                self.cpus[cpu].0.exit();
            }
        }
    }

    fn flush(&mut self, cpu: usize, space: usize, shootdown: usize) {
        let change = self.shootdowns[shootdown].change;
        let (machine, tlb, ..) = &mut self.cpus[cpu];
        if let Some(change) = change {
            tlb.flush(&change, &self.spaces[space], roots(space), machine);
        } else {
            let mut pages = Pages::NONE;
            pages.add(KERNEL_PAGE as u64 * PAGE);
            tlb.flush_kernel(&pages, machine);
        }
    }

    fn free_what_all_have_flushed(&mut self) {
        for done in self.shootdowns.extract_if(.., |shootdown| shootdown.waits_for.is_empty()) {
            if done.change.is_some() {
                self.tables[done.space][done.page].take_if(|frame| *frame == done.frame);
            }
            self.free.insert(done.frame);
        }
    }

    /// Speculation may load any translation of the loaded root at any time.
    fn cache_everything(&mut self) {
        for (machine, _, loaded, _) in &mut self.cpus {
            let Some(space) = *loaded else { continue };
            assert_eq!(RootPair::of_cr3(machine.cr3), roots(space), "the wrong root is loaded");
            let pcid = machine.pcid();
            let mapped = self.tables[space].iter().enumerate();
            let mapped = mapped.filter_map(|(page, frame)| Some((pcid, page, (*frame)?)));
            machine.cached.extend(mapped);
            let tag = if machine.pcide { pcid } else { GLOBAL };
            machine.cached.extend(self.kernel_page.map(|frame| (tag, KERNEL_PAGE, frame)));
        }
    }

    /// A CPU that does not rest may use what it has cached under the PCID that is loaded.
    fn stale(&self) -> Option<String> {
        self.cpus.iter().enumerate().find_map(|(cpu, (machine, _, _, resting))| {
            let pcid = machine.pcid();
            // A CPU at rest uses the kernel's pages all the same.
            let used = machine.cached.iter().filter(|(of, page, _)| {
                (*of == pcid || *of == GLOBAL) && (!resting || *page == KERNEL_PAGE)
            });
            let mut stale = used.filter(|(.., frame)| self.free.contains(frame));
            stale.next().map(|(pcid, page, frame)| {
                format!(
                    "CPU {cpu} reaches the free frame {frame} at page {page} under PCID {pcid:#x}"
                )
            })
        })
    }
}

fn run(features: Features, broken: Break, cases: u32) -> Result<(), String> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&steps(), |steps| {
        let mut world = World::new(features, broken);
        for step in steps {
            world.step(step);
            if let Some(stale) = world.stale() {
                return Err(TestCaseError::fail(stale));
            }
        }
        Ok(())
    });
    result.map_err(|error| error.to_string())
}

const WITH_ALL: Features = Features { pcid: true, invpcid: true, isolated: true };

#[test]
fn no_stale_translation_is_used() {
    for number in 0..8 {
        let features =
            Features { pcid: number & 1 != 0, invpcid: number & 2 != 0, isolated: number & 4 != 0 };
        run(features, Break::None, 150).unwrap_or_else(|error| panic!("{features:?}: {error}"));
    }
}

fn is_found(broken: Break) {
    let error = run(WITH_ALL, broken, 3000).expect_err("the break goes unnoticed");
    assert!(error.contains("reaches the free frame"), "{error}");
}

#[test]
fn a_user_half_that_is_not_flushed_is_found() {
    is_found(Break::UserHalf);
}

#[test]
fn a_flush_before_the_change_is_found() {
    is_found(Break::FlushFirst);
}

#[test]
fn a_lost_message_is_found() {
    is_found(Break::LostMessage);
}

#[test]
fn targets_from_before_the_change_are_found() {
    is_found(Break::EarlyTargets);
}

#[test]
fn a_pcid_taken_for_up_to_date_is_found() {
    is_found(Break::AlwaysKeep);
}

#[test]
fn frames_freed_before_the_answers_are_found() {
    is_found(Break::FreeEarly);
}

#[test]
fn a_kernel_page_flushed_in_one_pcid_is_found() {
    is_found(Break::OnePcid);
}

#[test]
fn a_global_translation_that_stays_is_found() {
    let plain = Features::default();
    let error = run(plain, Break::GlobalKept, 3000).expect_err("the break goes unnoticed");
    assert!(error.contains("reaches the free frame"), "{error}");
}
