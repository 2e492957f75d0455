//! Atomics for [`tlb`](crate::tlb) that try every order.
//!
//! They are loom's, made at their first use or by [`make`], because loom has none that a constant could hold.
//!
//! loom treats SeqCst accesses as acquire and release only, and SeqCst fences as they are. So each SeqCst load here
//! comes after such a fence. That is no more than SeqCst promises, where all other accesses are read-modify-writes
//! or SeqCst stores: those get a fence behind them. What holds here holds for the real ones.
//!
//! Invariant: with nothing weakened ([`weaken`]), every order that `core`'s atomics may come in is tried.

use std::cell::Cell;
use std::fmt::{self, Debug};
use std::sync::OnceLock;

use loom::sync::atomic::{AtomicU64 as Loom, fence};

pub use loom::sync::atomic::Ordering;

/// What is wrong with the atomics on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weakness {
    /// Nothing.
    #[default]
    None,
    /// There is no one order of all SeqCst accesses: they acquire and release, no more.
    NoSingleOrder,
    /// Nothing is ordered.
    Relaxed,
}

thread_local! {
    static WEAKNESS: Cell<Weakness> = const { Cell::new(Weakness::None) };
    /// What is looked at ends: see [`end`].
    static ENDING: Cell<bool> = const { Cell::new(false) };
}

/// Weakens all atomics that this thread's models use from now on.
pub fn weaken(weakness: Weakness) {
    WEAKNESS.set(weakness);
}

fn order(order: Ordering, weak: Ordering) -> Ordering {
    match WEAKNESS.get() {
        Weakness::None => order,
        Weakness::NoSingleOrder if order == Ordering::SeqCst => weak,
        Weakness::NoSingleOrder => order,
        Weakness::Relaxed => Ordering::Relaxed,
    }
}

fn single_order(asked: Ordering) {
    if asked == Ordering::SeqCst && WEAKNESS.get() == Weakness::None {
        fence(Ordering::SeqCst);
    }
}

/// As `core`'s.
pub struct AtomicU64 {
    initial: u64,
    cell: OnceLock<Loom>,
    ended: Cell<bool>,
}

/// Makes every atomic in `value` now. loom wants them made by the thread that starts the others.
pub fn make(value: &impl Debug) {
    // What is printed is looked at, each field.
    let _ = format!("{value:?}");
}

/// The memory of `value` is given up now: whoever touches one of its atomics later is found.
pub fn end(value: &impl Debug) {
    ENDING.set(true);
    make(value);
    ENDING.set(false);
}

impl Debug for AtomicU64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cell = self.cell();
        if ENDING.get() {
            // loom tries orders of accesses alone, so the end is one.
            cell.fetch_or(0, Ordering::AcqRel);
            self.ended.set(true);
        }
        f.write_str("AtomicU64")
    }
}

impl AtomicU64 {
    /// As `core`'s, and so are all others.
    pub const fn new(initial: u64) -> AtomicU64 {
        AtomicU64 { initial, cell: OnceLock::new(), ended: Cell::new(false) }
    }

    fn cell(&self) -> &Loom {
        self.cell.get_or_init(|| Loom::new(self.initial))
    }

    /// An access. loom lets others go first in the middle of it, so what it found is looked at afterwards.
    fn access<T>(&self, access: impl FnOnce(&Loom) -> T) -> T {
        let result = access(self.cell());
        assert!(!self.ended.get(), "memory is touched that was given up");
        result
    }

    #[expect(missing_docs, reason = "see `new`")]
    pub fn load(&self, asked: Ordering) -> u64 {
        single_order(asked);
        self.access(|cell| cell.load(order(asked, Ordering::Acquire)))
    }

    #[expect(missing_docs, reason = "see `new`")]
    pub fn store(&self, value: u64, asked: Ordering) {
        self.access(|cell| cell.store(value, order(asked, Ordering::Release)));
        single_order(asked);
    }

    #[expect(missing_docs, reason = "see `new`")]
    pub fn swap(&self, value: u64, asked: Ordering) -> u64 {
        let before = self.access(|cell| cell.swap(value, order(asked, Ordering::AcqRel)));
        single_order(asked);
        before
    }

    #[expect(missing_docs, reason = "see `new`")]
    pub fn fetch_add(&self, value: u64, asked: Ordering) -> u64 {
        let before = self.access(|cell| cell.fetch_add(value, order(asked, Ordering::AcqRel)));
        single_order(asked);
        before
    }

    #[expect(missing_docs, reason = "see `new`")]
    pub fn fetch_or(&self, value: u64, asked: Ordering) -> u64 {
        let before = self.access(|cell| cell.fetch_or(value, order(asked, Ordering::AcqRel)));
        single_order(asked);
        before
    }

    #[expect(missing_docs, reason = "see `new`")]
    pub fn fetch_and(&self, value: u64, asked: Ordering) -> u64 {
        let before = self.access(|cell| cell.fetch_and(value, order(asked, Ordering::AcqRel)));
        single_order(asked);
        before
    }

    #[expect(missing_docs, reason = "see `new`")]
    pub fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        let (strong, weak) = (order(success, Ordering::AcqRel), order(failure, Ordering::Acquire));
        let result = self.access(|cell| cell.compare_exchange(current, new, strong, weak));
        single_order(success);
        result
    }
}
