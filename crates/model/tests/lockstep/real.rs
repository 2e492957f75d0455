//! The planner as it is, on CPUs whose TLBs are filled as the model's are: what they hold in the end is what it flushed.

use ringwall_core::root::{NO_FLUSH, PCID_MASK, RootPair, USER_PCID_BIT, is_user, to_kernel};
use ringwall_core::tlb::{Change, CpuTlb, Features, Hardware, Pages, Space};
use ringwall_model::protocol::{CPUS, SLOTS, Settings, State, item};

const PAGE: u64 = 0x1000;
/// What a page table is taken out for; it maps more than that.
const TABLE: u64 = 0x20_0000;
const SHARED: u64 = 0xffff_ffff_8000_0000;
/// Number of the space that changes.
const A: usize = 1;
/// Who has every CPU's other slot at first.
const NOBODY: usize = 4;

/// One CPU's registers and TLB: of each half of each PCID the items that it holds.
#[derive(Debug, Default)]
struct Machine {
    pcide: bool,
    isolated: bool,
    cr3: u64,
    exit_cr3: u64,
    cached: [[u8; 2]; SLOTS],
}

impl Machine {
    fn tag(&mut self, pcid: u16) -> &mut u8 {
        if !self.pcide {
            return &mut self.cached[0][0];
        }
        let half = usize::from(u64::from(pcid) & USER_PCID_BIT != 0);
        &mut self.cached[usize::from(pcid & !(USER_PCID_BIT as u16)) - 1][half]
    }

    fn loaded(&mut self) -> &mut u8 {
        self.tag((self.cr3 & PCID_MASK) as u16)
    }

    fn exit(&mut self) {
        if self.isolated {
            let cr3 = self.exit_cr3;
            self.exit_cr3 |= if self.pcide { NO_FLUSH } else { 0 };
            self.write_cr3(cr3);
        }
    }

    fn enter(&mut self) {
        if is_user(self.cr3) {
            let keep = if self.pcide { NO_FLUSH } else { 0 };
            self.write_cr3(to_kernel(self.cr3) | keep);
        }
    }

    fn fill(&mut self, mapped: u8) {
        if RootPair::of_cr3(self.cr3) == roots(A) {
            let hidden = if is_user(self.cr3) { item::OPEN } else { 0 };
            *self.loaded() |= mapped & !hidden;
        }
        let shared = mapped & item::SHARED;
        match self.pcide {
            true => self.cached.as_flattened_mut().iter_mut().for_each(|tag| *tag |= shared),
            false => self.cached[0][0] |= shared,
        }
    }
}

/// What lies at an address.
fn items(address: u64) -> u8 {
    match address {
        PAGE => item::PAGE | item::AGAIN,
        TABLE => item::TABLE,
        SHARED => item::SHARED,
        _ => panic!("nothing was ever at {address:#x}"),
    }
}

impl Hardware for Machine {
    fn write_cr3(&mut self, cr3: u64) {
        self.cr3 = cr3 & !NO_FLUSH;
        if cr3 & NO_FLUSH == 0 {
            *self.loaded() = 0;
        }
    }

    fn flush_page(&mut self, address: u64) {
        *self.loaded() &= !(items(address) | item::TABLE);
    }

    fn flush_page_of(&mut self, pcid: u16, address: u64) {
        *self.tag(pcid) &= !(items(address) & !item::TABLE);
    }

    fn flush_all(&mut self) {
        self.cached = Default::default();
    }

    fn exit_cr3(&self) -> u64 {
        self.exit_cr3
    }

    fn set_exit_cr3(&mut self, cr3: u64) {
        self.exit_cr3 = cr3;
    }
}

fn roots(space: usize) -> RootPair {
    RootPair::new((space as u64) << 13).expect("8 KiB aligned")
}

struct Cpu {
    tlb: CpuTlb<SLOTS>,
    machine: Machine,
    loaded: usize,
}

/// What a CPU asks of others.
#[derive(Clone, Copy)]
enum Letter {
    Change(Change),
    Shared,
}

pub struct Real {
    settings: Settings,
    /// At their numbers.
    spaces: [Space; NOBODY + 1],
    cpus: [Cpu; CPUS],
    letters: [Option<Letter>; CPUS],
}

impl Real {
    /// The CPUs run in the kernel on space 2, as the model's.
    pub fn new(settings: Settings) -> Real {
        let Settings { pcid, invpcid, isolated, .. } = settings;
        let features = Features { pcid, invpcid, isolated };
        let cpu = |cpu| Cpu {
            tlb: CpuTlb::with_slots(cpu, features),
            machine: Machine { pcide: pcid, isolated, ..Machine::default() },
            loaded: NOBODY,
        };
        let mut real = Real {
            settings,
            spaces: [1, 1, 2, 3, 4].map(Space::new),
            cpus: std::array::from_fn(cpu),
            letters: [None; CPUS],
        };
        for cpu in 0..CPUS {
            let Cpu { tlb, machine, .. } = &mut real.cpus[cpu];
            tlb.switch(&real.spaces[NOBODY], roots(NOBODY), None, machine);
            real.switch(cpu, 2);
            real.exit(cpu);
            real.enter(cpu);
        }
        real
    }

    pub fn switch(&mut self, cpu: usize, space: usize) {
        let Cpu { tlb, machine, loaded } = &mut self.cpus[cpu];
        let previous = (*loaded != space).then(|| &self.spaces[*loaded]);
        tlb.switch(&self.spaces[space], roots(space), previous, machine);
        *loaded = space;
    }

    pub fn rest(&mut self, cpu: usize) {
        let Cpu { tlb, loaded, .. } = &mut self.cpus[cpu];
        tlb.rest(&self.spaces[*loaded]);
    }

    pub fn exit(&mut self, cpu: usize) {
        self.cpus[cpu].machine.exit();
    }

    pub fn enter(&mut self, cpu: usize) {
        self.cpus[cpu].machine.enter();
    }

    /// Says that `item` was taken out.
    pub fn retire(&mut self, cpu: usize, item: u8) {
        let mut pages = Pages::NONE;
        match item {
            item::TABLE => pages.add_table(TABLE),
            item::OPEN => pages = Pages::ALL,
            _ => pages.add(PAGE),
        }
        self.letters[cpu] = Some(match item {
            item::SHARED => Letter::Shared,
            _ => Letter::Change(self.spaces[A].retire(pages)),
        });
    }

    /// Whom `cpu` has to tell, as a set of bits.
    pub fn targets(&self, cpu: usize) -> u8 {
        let others = |all: u8| all & !(1 << cpu);
        match self.letters[cpu].expect("it has retired something") {
            Letter::Shared => others((1 << CPUS) - 1),
            Letter::Change(change) => {
                let targets = self.spaces[A].targets(&change).fold(0, |all, cpu| all | 1 << cpu);
                let asks = self.spaces[A].is_loaded_elsewhere(cpu);
                if asks { others(targets) } else { 0 }
            }
        }
    }

    /// `cpu` flushes what `sender` has taken out.
    pub fn flush(&mut self, cpu: usize, sender: usize) {
        let Cpu { tlb, machine, .. } = &mut self.cpus[cpu];
        match self.letters[sender].expect("it has retired something") {
            Letter::Change(change) => tlb.flush(&change, &self.spaces[A], roots(A), machine),
            Letter::Shared => {
                let mut pages = Pages::NONE;
                pages.add(SHARED);
                tlb.flush_kernel(&pages, machine);
            }
        }
    }

    /// Fills all TLBs from the page tables of `state`, and gives what is not as there.
    pub fn compare(&mut self, state: &State) -> Option<String> {
        self.cpus.iter_mut().for_each(|cpu| cpu.machine.fill(state.mapped));
        (0..CPUS).find_map(|cpu| {
            let (real, model) = (self.seen(cpu), Seen::in_model(state, cpu, &self.settings));
            (real != model).then(|| format!("CPU {cpu}: {real:?}\nin the model {model:?}"))
        })
    }

    fn seen(&self, cpu: usize) -> Seen {
        let Cpu { machine, loaded, .. } = &self.cpus[cpu];
        let Settings { pcid, isolated, .. } = self.settings;
        Seen {
            cached: machine.cached,
            space: *loaded,
            pcid: pcid.then_some(machine.cr3 & PCID_MASK),
            user: is_user(machine.cr3),
            due: pcid && isolated && machine.exit_cr3 & NO_FLUSH == 0,
            joined: self.spaces[A].loaded().contains(cpu),
        }
    }
}

/// All that can be seen of one CPU.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    cached: [[u8; 2]; SLOTS],
    space: usize,
    pcid: Option<u64>,
    user: bool,
    /// The next exit flushes the user half.
    due: bool,
    joined: bool,
}

impl Seen {
    fn in_model(state: &State, number: usize, settings: &Settings) -> Seen {
        let cpu = &state.cpus[number];
        let half = if cpu.user { USER_PCID_BIT } else { 0 };
        Seen {
            cached: cpu.cached,
            space: cpu.space.into(),
            pcid: settings.pcid.then_some((u64::from(cpu.loaded) + 1) | half),
            user: cpu.user,
            due: settings.pcid && settings.isolated && cpu.exit_flush,
            joined: state.loaded & 1 << number != 0,
        }
    }
}
