//! The real planner and the real mailboxes, under loom: two or three CPUs, every order of their accesses and every
//! value that each may read. The page-table entry is an atomic too, which walkers read as late as they may. With isolation
//! programs run under the user half of the PCID, which the exit flushes, or INVPCID.
//!
//! Where three CPUs run, the number of times that one is stopped between two accesses where it could go on is bounded
//! (`STOPS`).

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;
use ringwall_core::root::{NO_FLUSH, PCID_MASK, RootPair, is_user, to_kernel_keep};
use ringwall_model::sync::{Ordering, Weakness, end, make, weaken};
use ringwall_model::tlb::{Change, CpuTlb, Features, Hardware, Mailbox, Pages, Space};

const STOPS: usize = 3;
const LOOKS: usize = 2;
const CPUS: usize = 3;
const ADDRESS: u64 = 0x1000;
const FRAME: u64 = 7;
const WITH_PCID: Features = Features { pcid: true, invpcid: false, isolated: false };
const WITH_MARKS: Features = Features { isolated: true, ..WITH_PCID };
const WITH_INVPCID: Features = Features { invpcid: true, ..WITH_MARKS };

/// What a mapper does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    /// The generation is made before the entry is cleared.
    EarlyGeneration,
    /// Whom to tell is read before the generation is made.
    EarlyTargets,
    /// The frame is free before the answers are there.
    NoWait,
    /// No exit flushes the user half.
    NoMark,
    /// INVPCID flushes nothing.
    NoInvpcid,
}

/// What all CPUs' TLBs hold, and what must not be reached any more. No CPU can stop in the middle of a look at it.
#[derive(Debug, Default)]
struct Truth {
    freed: bool,
    cached: [HashSet<u16>; CPUS],
    loaded: [u16; CPUS],
    uses: [bool; CPUS],
}

impl Truth {
    fn check(&self) {
        for cpu in 0..CPUS {
            let stale =
                self.freed && self.uses[cpu] && self.cached[cpu].contains(&self.loaded[cpu]);
            assert!(!stale, "CPU {cpu} reaches the freed frame");
        }
    }
}

struct World {
    features: Features,
    mistake: Mistake,
    entry: AtomicU64,
    space: Space,
    elsewhere: Space,
    boxes: [Mailbox; CPUS],
    interrupts: [AtomicBool; CPUS],
    /// What each CPU's letter is about: on its stack, in a kernel.
    changes: [UnsafeCell<Option<Change>>; CPUS],
    truth: Mutex<Truth>,
}

impl World {
    fn new(features: Features, mistake: Mistake) -> Rc<World> {
        let world = Rc::new(World {
            features,
            mistake,
            entry: AtomicU64::new(FRAME),
            space: Space::new(1),
            elsewhere: Space::new(2),
            boxes: [const { Mailbox::new() }; CPUS],
            interrupts: std::array::from_fn(|_| AtomicBool::new(false)),
            changes: std::array::from_fn(|_| UnsafeCell::new(None)),
            truth: Mutex::default(),
        });
        make(&(&world.space, &world.elsewhere, &world.boxes));
        world
    }

    fn post(&self, cpu: usize, change: Change, targets: impl Iterator<Item = usize>) {
        // SAFETY: loom finds it if anybody reads meanwhile.
        self.changes[cpu].with_mut(|place| unsafe { *place = Some(change) });
        let interrupt = |cpu: usize| {
            // loom may put a plain store before an exchange that has not seen it.
            self.interrupts[cpu].swap(true, Ordering::AcqRel);
        };
        self.boxes[cpu].post(cpu, cpu as u64, targets, |cpu| &self.boxes[cpu], interrupt);
    }

    fn free(&self) {
        self.truth(|truth| {
            truth.freed = true;
            truth.check();
        });
    }

    fn truth<T>(&self, look: impl FnOnce(&mut Truth) -> T) -> T {
        look(&mut self.truth.lock().expect("no panic before"))
    }
}

/// The CPU that a thread is. Its TLB caches the page once for each PCID that it is used under.
struct Cpu {
    number: usize,
    world: Rc<World>,
    tlb: CpuTlb,
    machine: Machine,
}

struct Machine {
    number: usize,
    world: Rc<World>,
    cr3: u64,
    exit_cr3: u64,
}

impl Machine {
    /// Ring 3 to ring 0, if it is there.
    fn enter(&mut self) {
        if is_user(self.cr3) {
            self.write_cr3(to_kernel_keep(self.cr3));
        }
    }

    fn exit(&mut self) {
        if self.world.features.isolated {
            let keep = self.world.mistake == Mistake::NoMark;
            let cr3 = self.exit_cr3 | if keep { NO_FLUSH } else { 0 };
            self.exit_cr3 |= NO_FLUSH;
            self.write_cr3(cr3);
        }
    }
}

impl Hardware for Machine {
    fn write_cr3(&mut self, cr3: u64) {
        let pcid = (cr3 & PCID_MASK) as u16;
        self.cr3 = cr3 & !NO_FLUSH;
        self.world.truth(|truth| {
            truth.loaded[self.number] = pcid;
            if cr3 & NO_FLUSH == 0 {
                truth.cached[self.number].remove(&pcid);
            }
            truth.check();
        });
    }

    fn flush_page(&mut self, address: u64) {
        assert_eq!(address, ADDRESS);
        self.world.truth(|truth| {
            let pcid = truth.loaded[self.number];
            truth.cached[self.number].remove(&pcid);
        });
    }

    fn flush_page_of(&mut self, pcid: u16, address: u64) {
        assert_eq!(address, ADDRESS);
        if self.world.mistake != Mistake::NoInvpcid {
            self.world.truth(|truth| truth.cached[self.number].remove(&pcid));
        }
    }

    fn flush_all(&mut self) {
        self.world.truth(|truth| truth.cached[self.number].clear());
    }

    fn exit_cr3(&self) -> u64 {
        self.exit_cr3
    }

    fn set_exit_cr3(&mut self, cr3: u64) {
        self.exit_cr3 = cr3;
    }
}

fn roots(space: &Space) -> RootPair {
    RootPair::new(space.id() << 13).expect("8 KiB aligned")
}

impl Cpu {
    fn new(number: usize, world: &Rc<World>) -> Cpu {
        let machine = Machine { number, world: world.clone(), cr3: 0, exit_cr3: 0 };
        Cpu { number, world: world.clone(), tlb: CpuTlb::new(number, world.features), machine }
    }

    fn uses(&self, uses: bool) {
        self.world.truth(|truth| {
            truth.uses[self.number] = uses;
            truth.check();
        });
    }

    /// Comes from `elsewhere`, if it was there.
    fn join(&mut self) {
        self.machine.enter();
        let world = self.world.clone();
        let previous = (!self.tlb.is_loaded(&world.space)).then_some(&world.elsewhere);
        let previous = previous.filter(|previous| self.tlb.is_loaded(previous));
        self.tlb.switch(&world.space, roots(&world.space), previous, &mut self.machine);
    }

    /// A program runs: first an interrupt may come, then an access, which the CPU walks the tables for.
    fn use_it(&mut self) {
        self.interrupts();
        self.uses(true);
        self.machine.exit();
        if self.world.entry.load(Ordering::Relaxed) != 0 {
            self.world.truth(|truth| {
                let pcid = truth.loaded[self.number];
                truth.cached[self.number].insert(pcid);
                truth.check();
            });
        }
    }

    fn leave(&mut self) {
        let world = self.world.clone();
        self.machine.enter();
        self.uses(false);
        let (elsewhere, space) = (&world.elsewhere, &world.space);
        self.tlb.switch(elsewhere, roots(elsewhere), Some(space), &mut self.machine);
    }

    fn rest(&mut self) {
        self.machine.enter();
        self.uses(false);
        let world = self.world.clone();
        self.tlb.rest(&world.space);
    }

    fn serve(&mut self) {
        let world = self.world.clone();
        world.boxes[self.number].serve(
            self.number,
            |cpu| &world.boxes[cpu],
            |sender| {
                // SAFETY: loom finds it if the sender writes meanwhile.
                let change = world.changes[sender as usize].with(|change| unsafe { *change });
                let change = change.expect("written before it is posted");
                self.tlb.flush(&change, &world.space, roots(&world.space), &mut self.machine);
            },
        );
    }

    fn interrupts(&mut self) {
        if self.world.interrupts[self.number].swap(false, Ordering::AcqRel) {
            self.machine.enter();
            self.serve();
        }
    }

    /// Takes the page out, and frees its frame.
    fn unmap(&mut self) {
        let world = self.world.clone();
        let mistake = world.mistake;
        self.machine.enter();
        let mut pages = Pages::NONE;
        pages.add(ADDRESS);
        let early = (mistake == Mistake::EarlyTargets)
            .then(|| world.space.is_loaded_elsewhere(self.number));
        if mistake != Mistake::EarlyGeneration {
            world.entry.store(0, Ordering::Relaxed);
        }
        let change = world.space.retire(pages);
        if mistake == Mistake::EarlyGeneration {
            world.entry.store(0, Ordering::Relaxed);
        }
        if early.unwrap_or_else(|| world.space.is_loaded_elsewhere(self.number)) {
            world.post(self.number, change, world.space.targets(&change));
        }
        self.tlb.flush(&change, &world.space, roots(&world.space), &mut self.machine);
        // loom knows no fair waiting: the mapper looks a few times, and then lets the others end first.
        for _ in 0..LOOKS {
            if mistake == Mistake::NoWait || world.boxes[self.number].is_answered() {
                world.free();
                return;
            }
            thread::yield_now();
        }
    }
}

/// Runs `others`, each as a CPU of its own, beside a mapper that is CPU 0 and that has used the page itself.
fn run(
    features: Features,
    mistake: Mistake,
    stops: Option<usize>,
    others: &'static [fn(&mut Cpu)],
) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = stops;
    model.check(move || {
        let world = World::new(features, mistake);
        let mut mapper = Cpu::new(0, &world);
        mapper.join();
        mapper.use_it();
        let threads: Vec<_> = (1..)
            .zip(others)
            .map(|(number, other)| {
                let mut cpu = Cpu::new(number, &world);
                thread::spawn(move || {
                    other(&mut cpu);
                    cpu
                })
            })
            .collect();
        mapper.unmap();
        let cpus = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        cpus.for_each(|mut cpu| cpu.use_it());
        assert!(world.boxes[0].is_answered(), "an interrupt was lost");
        world.free();
        mapper.use_it();
    });
}

fn comes_goes_and_comes(cpu: &mut Cpu) {
    cpu.join();
    cpu.use_it();
    cpu.leave();
    cpu.join();
    cpu.use_it();
}

fn comes(cpu: &mut Cpu) {
    cpu.join();
    cpu.use_it();
}

fn rests_and_wakes(cpu: &mut Cpu) {
    cpu.join();
    cpu.use_it();
    cpu.rest();
    cpu.join();
    cpu.use_it();
}

/// In the one half, and in two halves, the second of which is flushed in either way.
fn holds(stops: Option<usize>, others: &'static [fn(&mut Cpu)]) {
    for features in [WITH_PCID, WITH_MARKS, WITH_INVPCID] {
        run(features, Mistake::None, stops, others);
    }
}

#[test]
fn a_cpu_comes_while_a_page_goes() {
    holds(None, &[comes]);
}

#[test]
fn a_cpu_comes_back_while_a_page_goes() {
    holds(None, &[comes_goes_and_comes]);
}

#[test]
fn a_cpu_wakes_while_a_page_goes() {
    holds(None, &[rests_and_wakes]);
}

#[test]
fn two_cpus_come_while_a_page_goes() {
    run(WITH_PCID, Mistake::None, Some(STOPS), &[comes, comes]);
}

/// Two CPUs ask a third, which looks at nothing but its interrupt.
fn two_ask_one() {
    loom::model(|| {
        let world = World::new(WITH_PCID, Mistake::None);
        let ask = |number: usize| {
            let world = world.clone();
            move || {
                let change = world.space.retire(Pages::NONE);
                world.post(number, change, [0].into_iter());
            }
        };
        let askers = [thread::spawn(ask(1)), thread::spawn(ask(2))];
        let mut asked = Cpu::new(0, &world);
        asked.interrupts();
        asked.interrupts();
        askers.into_iter().for_each(|asker| asker.join().expect("no panic"));
        asked.interrupts();
        let answered = (1..CPUS).all(|cpu| world.boxes[cpu].is_answered());
        assert!(answered, "an interrupt was lost");
    });
}

#[test]
fn one_interrupt_is_enough_for_two() {
    two_ask_one();
}

/// CPU 1 goes elsewhere while another gives the address space up as soon as nobody has it loaded.
fn ends_behind(before: fn(&mut Cpu)) {
    loom::model(move || {
        let world = World::new(WITH_PCID, Mistake::None);
        let mut cpu = Cpu::new(1, &world);
        cpu.join();
        before(&mut cpu);
        let leaver = thread::spawn(move || cpu.leave());
        if world.space.loaded().is_empty() {
            end(&world.space);
        }
        leaver.join().expect("no panic");
    });
}

#[test]
fn who_has_left_touches_nothing_any_more() {
    ends_behind(|_| {});
}

#[test]
fn who_has_left_from_rest_touches_nothing_any_more() {
    ends_behind(Cpu::rest);
}

#[track_caller]
fn fails(mistake: Mistake, weakness: Weakness, other: &'static [fn(&mut Cpu)], fault: &str) {
    found(weakness, fault, || run(WITH_PCID, mistake, Some(STOPS), other));
}

#[track_caller]
fn found(weakness: Weakness, fault: &str, run: impl FnOnce()) {
    weaken(weakness);
    let result = catch_unwind(AssertUnwindSafe(run));
    weaken(Weakness::None);
    let payload = result.expect_err("it goes unnoticed");
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_default();
    assert!(text.contains(fault), "{weakness:?}: {text}");
}

const STALE: &str = "reaches the freed frame";

#[test]
fn an_early_generation_is_found() {
    fails(Mistake::EarlyGeneration, Weakness::None, &[comes], STALE);
}

#[test]
fn early_targets_are_found() {
    fails(Mistake::EarlyTargets, Weakness::None, &[comes], STALE);
}

#[test]
fn a_frame_freed_before_the_answers_is_found() {
    fails(Mistake::NoWait, Weakness::None, &[comes], STALE);
}

#[test]
fn a_user_half_that_is_not_flushed_is_found() {
    for (features, mistake) in [(WITH_MARKS, Mistake::NoMark), (WITH_INVPCID, Mistake::NoInvpcid)] {
        found(Weakness::None, STALE, || run(features, mistake, Some(STOPS), &[comes]));
    }
}

#[test]
fn atomics_without_a_single_order_are_found() {
    fails(Mistake::None, Weakness::NoSingleOrder, &[comes_goes_and_comes], STALE);
    fails(Mistake::None, Weakness::NoSingleOrder, &[rests_and_wakes], STALE);
}

#[test]
fn relaxed_atomics_are_found() {
    found(Weakness::Relaxed, "written before it is posted", two_ask_one);
}
