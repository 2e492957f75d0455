//! CPUs that share an address space and a mailbox each, with a TLB that caches the page once for each PCID that it is used
//! under.
//!
//! Invariant: no CPU runs with a way to the frame when it is free ([`Truth::check`]).

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Mutex;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread;
use ringwall_core::root::{NO_FLUSH, PCID_MASK, RootPair, is_user, to_kernel_keep};
use ringwall_model::sync::{Ordering, make};
use ringwall_model::tlb::{Change, CpuTlb, Features, Hardware, Mailbox, Pages, Space};

const LOOKS: usize = 2;
pub const CPUS: usize = 3;
const ADDRESS: u64 = 0x1000;
const FRAME: u64 = 7;
pub const WITH_PCID: Features = Features { pcid: true, invpcid: false, isolated: false };
pub const WITH_MARKS: Features = Features { isolated: true, ..WITH_PCID };
pub const WITH_INVPCID: Features = Features { invpcid: true, ..WITH_MARKS };

/// What a mapper does wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
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

pub struct World {
    features: Features,
    mistake: Mistake,
    entry: AtomicU64,
    pub space: Space,
    elsewhere: Space,
    pub boxes: [Mailbox; CPUS],
    interrupts: [AtomicBool; CPUS],
    /// What each CPU's letter is about: on its stack, in a kernel.
    changes: [UnsafeCell<Option<Change>>; CPUS],
    truth: Mutex<Truth>,
}

impl World {
    pub fn new(features: Features, mistake: Mistake) -> Rc<World> {
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

    pub fn post(&self, cpu: usize, change: Change, targets: impl Iterator<Item = usize>) {
        // SAFETY: loom finds it if anybody reads meanwhile.
        self.changes[cpu].with_mut(|place| unsafe { *place = Some(change) });
        let interrupt = |cpu: usize| {
            // loom may put a plain store before an exchange that has not seen it.
            self.interrupts[cpu].swap(true, Ordering::AcqRel);
        };
        self.boxes[cpu].post(cpu, cpu as u64, targets, |cpu| &self.boxes[cpu], interrupt);
    }

    pub fn free(&self) {
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
pub struct Cpu {
    number: usize,
    pub world: Rc<World>,
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
    pub fn new(number: usize, world: &Rc<World>) -> Cpu {
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
    pub fn join(&mut self) {
        self.machine.enter();
        let world = self.world.clone();
        let previous = (!self.tlb.is_loaded(&world.space)).then_some(&world.elsewhere);
        let previous = previous.filter(|previous| self.tlb.is_loaded(previous));
        self.tlb.switch(&world.space, roots(&world.space), previous, &mut self.machine);
    }

    /// A program runs: first an interrupt may come, then an access, which the CPU walks the tables for.
    pub fn use_it(&mut self) {
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

    pub fn leave(&mut self) {
        let world = self.world.clone();
        self.machine.enter();
        self.uses(false);
        let (elsewhere, space) = (&world.elsewhere, &world.space);
        self.tlb.switch(elsewhere, roots(elsewhere), Some(space), &mut self.machine);
    }

    pub fn rest(&mut self) {
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

    pub fn interrupts(&mut self) {
        if self.world.interrupts[self.number].swap(false, Ordering::AcqRel) {
            self.machine.enter();
            self.serve();
        }
    }

    /// Takes the page out, and frees its frame.
    pub fn unmap(&mut self) {
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
