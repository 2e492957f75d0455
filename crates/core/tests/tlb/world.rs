//! CPUs, spaces, and what a kernel does with them, a step at a time; messages to other CPUs arrive whenever they like.
//!
//! Invariant: the world keeps the planner's contract, and nothing more: a frame is free once every CPU that was told has
//! answered, an address space once no CPU has it loaded. What it does wrong, [`Break`] names.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeSet;
use std::rc::Rc;

use ringwall_core::tlb::{Change, CpuTlb, Features, Pages, Space};

use crate::breaks::Break;
use crate::machine::{Machine, Ring};
use crate::memory::{
    ALL_PAGES, Memory, PAGES, SHARED_PAGES, SPACES, address, roots, shared_address,
};
use crate::steps::Step;

pub const CPUS: usize = 3;
/// Few, so that they are given away often.
const SLOTS: usize = 3;

#[derive(Debug)]
struct Cpu {
    machine: Machine,
    tlb: CpuTlb<SLOTS>,
    loaded: Option<usize>,
}

/// What is to be free when all have answered.
#[derive(Debug)]
struct Shootdown {
    space: usize,
    taken: Taken,
    told: Told,
    waits_for: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct Taken {
    frames: Vec<u64>,
    /// Pages of the space that stay empty until then.
    places: Vec<usize>,
    /// What comes to the first of them after that.
    copy: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Told {
    Change(Change),
    Shared(Pages),
}

#[derive(Debug)]
pub struct World {
    features: Features,
    broken: Break,
    memory: Rc<RefCell<Memory>>,
    spaces: Vec<Space>,
    last_space: u64,
    cpus: Vec<Cpu>,
    shootdowns: Vec<Shootdown>,
}

impl World {
    pub fn new(features: Features, broken: Break) -> World {
        let memory = Rc::new(RefCell::new(Memory::default()));
        let cpu = |cpu| Cpu {
            machine: Machine::new(features, broken, memory.clone()),
            tlb: CpuTlb::with_slots(cpu, features),
            loaded: None,
        };
        World {
            features,
            broken,
            spaces: (1..=SPACES as u64).map(Space::new).collect(),
            last_space: SPACES as u64,
            cpus: (0..CPUS).map(cpu).collect(),
            shootdowns: Vec::new(),
            memory,
        }
    }

    fn memory(&self) -> RefMut<'_, Memory> {
        self.memory.borrow_mut()
    }

    /// Takes the step, and lets every TLB cache what it then can.
    ///
    /// # Errors
    ///
    /// What a CPU can reach and must not.
    pub fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Map { space, page } => self.map(space, page),
            Step::Copy { cpu, space, page } => self.copy(cpu, space, page),
            Step::Unmap { cpu, space, first, last } => self.unmap(cpu, space, first, last, false),
            Step::UnmapTable { cpu, space } => self.unmap(cpu, space, 0, PAGES - 1, true),
            Step::MapShared { page } => {
                let mut memory = self.memory();
                if memory.shared[page].is_none() {
                    memory.shared[page] = Some(memory.allocate(None));
                }
            }
            Step::UnmapShared { cpu, both } => self.unmap_shared(cpu, both),
            Step::Message { shootdown, cpu } => self.message(shootdown, cpu),
            Step::Switch { cpu, space } => self.switch(cpu, space),
            Step::Rest { cpu } => {
                let Cpu { machine, tlb, loaded } = &mut self.cpus[cpu];
                if let Some(space) = *loaded {
                    machine.enter();
                    // Of a space that is not loaded it means nothing.
                    tlb.rest(&self.spaces[(space + 1) % SPACES]);
                    assert!(machine.resting || tlb.is_current(&self.spaces[space]));
                    tlb.rest(&self.spaces[space]);
                    machine.resting = true;
                }
            }
            Step::Exit { cpu, open } => self.exit(cpu, open),
            Step::Enter { cpu } => self.cpus[cpu].machine.enter(),
            Step::Open { space } => {
                let mut memory = self.memory();
                if self.features.isolated && memory.roots[space].open.is_none() {
                    memory.roots[space].open = Some(memory.allocate(Some(space)));
                }
            }
            Step::Close { cpu, space } => self.close(cpu, space),
            Step::End { space } => self.end(space),
        }
        self.free_what_all_have_flushed();
        self.look()
    }

    /// What every CPU can reach by now.
    fn look(&mut self) -> Result<(), String> {
        for (number, Cpu { machine, tlb, loaded }) in self.cpus.iter_mut().enumerate() {
            machine.cache_everything();
            for (space, of) in self.spaces.iter().enumerate() {
                let is_loaded = *loaded == Some(space);
                assert_eq!(tlb.is_loaded(of), is_loaded, "CPU {number}, space {space}");
                assert_eq!(tlb.is_current(of), is_loaded && !machine.resting);
            }
            assert_eq!(Memory::space(machine.cr3()), *loaded, "the wrong root is loaded");
            if let Some(fault) = machine.fault() {
                return Err(format!("CPU {number} {fault}"));
            }
        }
        Ok(())
    }

    fn switch(&mut self, cpu: usize, space: usize) {
        let Cpu { machine, tlb, loaded } = &mut self.cpus[cpu];
        machine.enter();
        // From here on it may use the space: nothing that it keeps may be old.
        machine.resting = false;
        let previous = loaded.filter(|loaded| *loaded != space);
        let previous = previous.map(|previous| &self.spaces[previous]);
        tlb.switch(&self.spaces[space], roots(space), previous, machine);
        *loaded = Some(space);
    }

    fn exit(&mut self, cpu: usize, open: bool) {
        let Cpu { machine, loaded, .. } = &mut self.cpus[cpu];
        if let Some(space) = *loaded
            && !machine.resting
            && machine.ring == Ring::Kernel
        {
            let open = open && self.memory.borrow().roots[space].open.is_some();
            machine.exit(if open { Ring::Open } else { Ring::User });
        }
    }

    /// Nothing comes where something is still being taken out.
    fn map(&mut self, space: usize, page: usize) {
        let mut of_space = self.shootdowns.iter().filter(|shootdown| shootdown.space == space);
        if !of_space.any(|shootdown| shootdown.taken.places.contains(&page)) {
            self.memory().map(space, page);
        }
    }

    /// Whether a frame is on its way out already.
    fn is_taken(&self, frame: u64) -> bool {
        self.shootdowns.iter().any(|other| other.taken.frames.contains(&frame))
    }

    /// A copy takes the place of a page: copy on write.
    fn copy(&mut self, cpu: usize, space: usize, page: usize) {
        let old = self.memory().pages(space)[page];
        let Some(old) = old.filter(|frame| !self.is_taken(*frame)) else { return };
        let mut pages = Pages::NONE;
        pages.add(address(page));
        let before = self.spaces[space].loaded().iter().collect();
        let new = self.memory().allocate(Some(space));
        if self.broken != Break::FlushFirst {
            let shown = (self.broken == Break::NewFirst).then_some(new);
            self.memory().set(space, page, shown);
        }
        let taken = Taken { frames: vec![old], places: vec![page], copy: Some(new) };
        self.shoot_down(cpu, space, taken, pages, before);
    }

    fn unmap(&mut self, cpu: usize, space: usize, first: usize, last: usize, table: bool) {
        let mut pages = Pages::NONE;
        let (mut frames, mut places) = (Vec::new(), Vec::new());
        let begun = |frame: &u64| self.is_taken(*frame);
        for (page, frame) in ALL_PAGES.zip(self.memory().pages(space)) {
            if (first..=last).contains(&page)
                && let Some(frame) = frame.filter(|frame| !begun(frame))
            {
                pages.add(address(page));
                frames.push(frame);
                places.push(page);
            }
        }
        let taken = self.memory().roots[space].table.filter(|frame| table && !begun(frame));
        match taken {
            Some(_) if self.broken == Break::TableAsPage => pages.add(address(first)),
            Some(_) => pages.add_table(address(first)),
            None => {}
        }
        frames.extend(taken);
        if taken.is_some() {
            places = ALL_PAGES.collect();
        }
        if frames.is_empty() {
            return;
        }
        let before = self.spaces[space].loaded().iter().collect();
        if self.broken != Break::FlushFirst {
            self.take_out(space, &frames);
        }
        if self.broken == Break::EarlyTargets {
            // Another CPU comes in between.
            self.switch((cpu + 1) % CPUS, space);
        }
        self.shoot_down(cpu, space, Taken { frames, places, copy: None }, pages, before);
    }

    fn take_out(&mut self, space: usize, frames: &[u64]) {
        let mut memory = self.memory();
        if memory.roots[space].table.is_some_and(|table| frames.contains(&table)) {
            // What is in it stays: whoever still walks through it finds that.
            memory.roots[space].table = None;
        } else {
            for (page, frame) in ALL_PAGES.zip(memory.pages(space)) {
                if frame.is_some_and(|frame| frames.contains(&frame)) {
                    memory.set(space, page, None);
                }
            }
        }
    }

    fn shoot_down(
        &mut self,
        cpu: usize,
        space: usize,
        taken: Taken,
        pages: Pages,
        before: BTreeSet<usize>,
    ) {
        let change = self.spaces[space].retire(pages);
        let mut waits_for = BTreeSet::new();
        // As kernels do: hardly any change concerns others.
        if self.spaces[space].is_loaded_elsewhere(cpu) {
            waits_for = match self.broken {
                Break::EarlyTargets => before,
                Break::FreeEarly => waits_for,
                _ => self.spaces[space].targets(&change).collect(),
            };
        }
        if self.broken == Break::IdleTables {
            waits_for.retain(|cpu| !self.cpus[*cpu].machine.resting);
        }
        self.begin(cpu, space, taken, Told::Change(change), waits_for);
    }

    /// Flushes on `cpu`; the others are on their way.
    fn begin(
        &mut self,
        cpu: usize,
        space: usize,
        taken: Taken,
        told: Told,
        mut waits_for: BTreeSet<usize>,
    ) {
        waits_for.remove(&cpu);
        if self.broken == Break::LostMessage {
            waits_for.remove(&(CPUS - 1));
        }
        self.cpus[cpu].machine.enter();
        self.shootdowns.push(Shootdown { space, taken, told, waits_for });
        self.flush(cpu, self.shootdowns.len() - 1);
    }

    /// Every CPU is told.
    fn unmap_shared(&mut self, cpu: usize, both: bool) {
        let mut pages = Pages::NONE;
        let mut frames = Vec::new();
        for page in 0..if both { SHARED_PAGES } else { 1 } {
            if let Some(frame) = self.memory().shared[page].take() {
                pages.add(shared_address(page));
                frames.push(frame);
            }
        }
        if !frames.is_empty() {
            let taken = Taken { frames, ..Taken::default() };
            self.begin(cpu, 0, taken, Told::Shared(pages), (0..CPUS).collect());
        }
    }

    /// The space's threads go on by the user root, and none may be left that does not.
    fn close(&mut self, cpu: usize, space: usize) {
        let open = self.memory().roots[space].open.take();
        let Some(open) = open else { return };
        if self.broken == Break::CloseForgets {
            self.memory().free(open);
        } else {
            let before = self.spaces[space].loaded().iter().collect();
            let taken = Taken { frames: vec![open], ..Taken::default() };
            self.shoot_down(cpu, space, taken, Pages::ALL, before);
        }
    }

    /// Frees all that a space has, without a flush, if nobody has it loaded; its root goes to a new one.
    fn end(&mut self, space: usize) {
        let busy = self.shootdowns.iter().any(|shootdown| shootdown.space == space);
        let loaded = !self.spaces[space].loaded().is_empty();
        if busy || loaded && self.broken != Break::EndLoaded {
            return;
        }
        if loaded {
            self.memory().map(space, 0);
            self.look().expect("nothing wrong before the end");
        }
        let mut memory = self.memory.borrow_mut();
        let frames = memory.pages(space);
        let root = std::mem::take(&mut memory.roots[space]);
        let frames = frames.into_iter().chain([root.table, root.open]).flatten();
        frames.for_each(|frame| memory.free(frame));
        drop(memory);
        if !loaded {
            if self.broken != Break::UsedNumber {
                self.last_space += 1;
            }
            let number = match self.broken {
                Break::UsedNumber => self.spaces[space].id(),
                _ => self.last_space,
            };
            self.spaces[space] = Space::new(number);
        }
    }

    fn message(&mut self, shootdown: usize, cpu: usize) {
        let Some(waiting) = self.shootdowns.get_mut(shootdown) else { return };
        if waiting.waits_for.remove(&cpu) {
            let ring = self.cpus[cpu].machine.ring;
            self.cpus[cpu].machine.enter();
            self.flush(cpu, shootdown);
            if ring != Ring::Kernel {
                self.exit(cpu, ring == Ring::Open);
            }
        }
    }

    fn flush(&mut self, cpu: usize, shootdown: usize) {
        let Shootdown { space, told, .. } = self.shootdowns[shootdown];
        let Cpu { machine, tlb, .. } = &mut self.cpus[cpu];
        match told {
            Told::Change(change) => {
                tlb.flush(&change, &self.spaces[space], roots(space), machine);
            }
            Told::Shared(pages) => tlb.flush_kernel(&pages, machine),
        }
    }

    fn free_what_all_have_flushed(&mut self) {
        let done = self.shootdowns.extract_if(.., |shootdown| shootdown.waits_for.is_empty());
        for done in done.collect::<Vec<_>>() {
            let Taken { frames, places, copy } = done.taken;
            self.take_out(done.space, &frames);
            frames.into_iter().for_each(|frame| self.memory().free(frame));
            if let Some(copy) = copy {
                self.memory().put(done.space, places[0], copy);
            }
        }
    }
}
