//! What all CPUs share about one address space.

use super::change::{Change, Pages};
use crate::area::MAX_CPUS;
use crate::sync::{AtomicU64, Ordering};

const WORDS: usize = MAX_CPUS / 64;

/// A set of CPUs, by numbers below [`MAX_CPUS`], that several CPUs change at once.
#[derive(Debug)]
pub struct CpuSet([AtomicU64; WORDS]);

impl Default for CpuSet {
    fn default() -> CpuSet {
        CpuSet::new()
    }
}

impl CpuSet {
    /// The empty set.
    pub const fn new() -> CpuSet {
        CpuSet([const { AtomicU64::new(0) }; WORDS])
    }

    /// Adds a CPU; whatever this CPU does afterwards, others see it do after this.
    #[inline]
    pub fn insert(&self, cpu: usize) {
        self.word(cpu).fetch_or(1 << (cpu % 64), Ordering::SeqCst);
    }

    /// As [`CpuSet::insert`]; gives whether nothing was there, or nothing but what is being taken ([`CpuSet::take`]). It is
    /// asked of a word of 64 CPUs only: a `true` too much may be given.
    #[inline]
    pub(super) fn insert_first(&self, cpu: usize) -> bool {
        self.word(cpu).fetch_or(1 << (cpu % 64), Ordering::SeqCst) == 0
    }

    /// Takes all CPUs out, word by word: each one given was in it, and is not any more.
    pub(super) fn take(&self) -> impl Iterator<Item = usize> {
        self.words(|word| match word.load(Ordering::SeqCst) {
            0 => 0,
            _ => word.swap(0, Ordering::SeqCst),
        })
    }

    /// Takes a CPU out; whatever this CPU did before, others see it do before this.
    #[inline]
    pub fn remove(&self, cpu: usize) {
        self.word(cpu).fetch_and(!(1 << (cpu % 64)), Ordering::SeqCst);
    }

    /// The word that holds the bit of `cpu`.
    #[inline]
    fn word(&self, cpu: usize) -> &AtomicU64 {
        debug_assert!(cpu < MAX_CPUS, "CPU {cpu} of {MAX_CPUS}");
        &self.0[cpu / 64 % WORDS]
    }

    /// Whether a CPU is in it.
    pub fn contains(&self, cpu: usize) -> bool {
        self.word(cpu).load(Ordering::SeqCst) & 1 << (cpu % 64) != 0
    }

    /// The CPUs in it, as of when each word of 64 is read.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words(|word| word.load(Ordering::SeqCst))
    }

    fn words(&self, read: impl Fn(&AtomicU64) -> u64) -> impl Iterator<Item = usize> {
        let mut words = self.0.iter().zip((0..).step_by(64));
        let (mut left, mut first) = (0u64, 0);
        core::iter::from_fn(move || {
            while left == 0 {
                let (word, number) = words.next()?;
                (left, first) = (read(word), number);
            }
            let bit = left.trailing_zeros() as usize;
            left &= left - 1;
            Some(first + bit)
        })
    }

    /// Whether a CPU other than `cpu` is in it.
    pub fn has_other_than(&self, cpu: usize) -> bool {
        self.0.iter().zip(0..).any(|(word, number)| {
            let own = if number == cpu / 64 { 1 << (cpu % 64) } else { 0 };
            word.load(Ordering::SeqCst) & !own != 0
        })
    }

    /// Whether no CPU is in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::SeqCst) == 0)
    }
}

/// A CPU's place in any [`CpuSet`], worked out once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    cpu: u64,
    word: usize,
    bit: u64,
}

impl Seat {
    pub(super) const fn new(cpu: usize) -> Seat {
        Seat { cpu: cpu as u64, word: cpu / 64 % WORDS, bit: 1 << (cpu % 64) }
    }

    #[inline(always)]
    pub(super) fn cpu(&self) -> usize {
        self.cpu as usize
    }

    #[inline(always)]
    fn word_of<'a>(&self, set: &'a CpuSet) -> &'a AtomicU64 {
        &set.0[self.word % WORDS]
    }
}

/// One address space, as TLBs know it.
#[derive(Debug)]
pub struct Space {
    id: u64,
    generation: AtomicU64,
    /// CPUs whose CR3 holds one of its roots.
    loaded: CpuSet,
    /// Those of them that do not touch its user half: they idle.
    resting: CpuSet,
    /// [`FRESH`], the one CPU that ever loaded it, or [`SHARED`]. Most address spaces stay where they are, and then one
    /// load tells that nobody else need be asked.
    home: AtomicU64,
}

/// No CPU has loaded it yet.
const FRESH: u64 = u64::MAX;
/// Several have.
const SHARED: u64 = u64::MAX - 1;

impl Space {
    /// An address space that runs nowhere.
    ///
    /// # Panics
    ///
    /// If `id` is 0. Numbers must not be used again: a CPU may remember a space that is no more.
    pub const fn new(id: u64) -> Space {
        assert!(id != 0, "0 stands for no address space");
        Space {
            id,
            generation: AtomicU64::new(1),
            loaded: CpuSet::new(),
            resting: CpuSet::new(),
            home: AtomicU64::new(FRESH),
        }
    }

    /// The number given to [`Space::new`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Says that translations of `pages` were changed or taken out of the page tables, by stores that came before.
    pub fn retire(&self, pages: Pages) -> Change {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        Change { space: self.id, generation, pages }
    }

    /// The CPUs that have to execute [`CpuTlb::flush`](super::CpuTlb::flush) for `change`. A CPU that comes later
    /// sees to itself.
    pub fn targets(&self, change: &Change) -> impl Iterator<Item = usize> {
        // An idle CPU's walks must not go through a frame that is a page table no more.
        let tables = change.pages.tables();
        self.loaded.iter().filter(move |cpu| tables || !self.resting.contains(*cpu))
    }

    /// Whether another CPU than `cpu` may have it in CR3: whether [`Space::targets`] need be looked at, after
    /// [`Space::retire`].
    #[inline]
    pub fn is_loaded_elsewhere(&self, cpu: usize) -> bool {
        match self.home.load(Ordering::SeqCst) {
            SHARED => self.loaded.has_other_than(cpu),
            FRESH => false,
            home => home != cpu as u64,
        }
    }

    /// The CPUs whose CR3 holds one of its roots. It must not be given up before there are none.
    pub fn loaded(&self) -> &CpuSet {
        &self.loaded
    }

    /// A CPU is about to use it; the generation that its flushes have to reach.
    ///
    /// The order counts: in the one order of all these operations, either this read comes after a mapper's new
    /// generation, or the mapper's read of the sets (and of `home`) comes after the changes here.
    #[inline(always)]
    pub(super) fn join(&self, seat: &Seat) -> u64 {
        seat.word_of(&self.loaded).fetch_or(seat.bit, Ordering::SeqCst);
        // Who finds `SHARED` here has to come after the store that put it there, or a mapper may still miss it.
        let home = self.home.load(Ordering::Acquire);
        if home != seat.cpu && home != SHARED {
            // Its first CPU, or the second.
            let order = Ordering::SeqCst;
            if self.home.compare_exchange(FRESH, seat.cpu, order, order).is_err() {
                self.home.store(SHARED, order);
            }
        }
        self.generation()
    }

    /// As [`Space::join`], for a CPU that rested.
    pub(super) fn wake(&self, seat: &Seat) -> u64 {
        self.resting.remove(seat.cpu());
        self.generation()
    }

    /// A CPU keeps it in CR3 but will not touch its user half.
    pub(super) fn rest(&self, seat: &Seat) {
        self.resting.insert(seat.cpu());
    }

    /// A CPU has another root in CR3. It touches this no more: who sees that no CPU has it loaded may give it up.
    #[inline(always)]
    pub(super) fn leave(&self, seat: &Seat) {
        seat.word_of(&self.loaded).fetch_and(!seat.bit, Ordering::SeqCst);
    }

    /// A CPU that rested is about to leave it.
    pub(super) fn rests_no_more(&self, seat: &Seat) {
        self.resting.remove(seat.cpu());
    }

    #[inline]
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}
