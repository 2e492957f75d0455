//! The CPUs as the scheduler sees them: their run queues, who has nothing to do, and where a thread goes.
//!
//! Invariants: a CPU that halts says so in [`IDLE`] before it looks at the queues for the last time, and whoever queues
//! a thread for it looks there afterwards: one of the two sees the other. Who takes a CPU out of `IDLE` interrupts it.
//! A CPU whose queue is not empty has its timer armed to end the running thread's slice; so a thread that was left where it
//! ran ([`place`]), while another CPU was about to halt, moves there when the slice ends at the latest.

use super::run_queue::RunQueue;
use super::scheduler;
use super::thread::{Thread, work};
use crate::arch::cpu;
use crate::arch::ipi::{self, Ipi};
use crate::sync::Mutex;
use core::ptr;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicIsize, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use ringwall_rules::affinity::{Cpus, Wakeup};

/// One CPU's scheduling state.
#[repr(align(64))]
pub struct Scheduling {
    queue: Mutex<RunQueue>,
    /// How many are in the queue. Changed under its lock.
    waiting: AtomicU32,
    pub(super) idle: AtomicPtr<Thread>,
    /// The thread that was switched away from, until the next one has looked after it.
    pub(super) previous: AtomicPtr<Thread>,
    /// When the timer fires next; `u64::MAX` if it does not.
    pub(super) armed: AtomicU64,
    /// It fires within a slice.
    pub(super) slice_armed: AtomicBool,
    /// Threads that became awake here, less those that stopped being it here. The sum over all CPUs is how many are.
    awake: AtomicIsize,
    pub(super) switches: AtomicUsize,
    /// Since when it runs threads, in nanoseconds since boot.
    since: AtomicU64,
}

const _: () = assert!(cpu::MAXIMUM <= 64, "sets of CPUs are words");

/// CPUs that run threads. None ever leaves.
static READY: AtomicU64 = AtomicU64::new(0);
/// CPUs that wait for an interrupt, or are about to, because they have nothing to do.
static IDLE: AtomicU64 = AtomicU64::new(0);
/// There is more than one.
static SEVERAL: AtomicBool = AtomicBool::new(false);

/// The running CPU's state, and its number.
#[inline(always)]
pub(super) fn this() -> (&'static Scheduling, usize) {
    (&cpu::local().scheduling, cpu::index())
}

/// All that there may be.
fn all() -> impl Iterator<Item = &'static Scheduling> {
    (0..cpu::MAXIMUM).map(of)
}

/// CPU `cpu`'s.
fn of(cpu: usize) -> &'static Scheduling {
    &cpu::of(cpu).scheduling
}

/// CPUs that threads may run on now.
pub fn ready() -> Cpus {
    Cpus(READY.load(SeqCst))
}

/// This CPU runs threads from now on; it has an idle thread.
pub(super) fn join(now: u64) {
    let (cpu, here) = this();
    cpu.since.store(now, Relaxed);
    let others = READY.fetch_or(Cpus::one(here).0, SeqCst);
    SEVERAL.store(others != 0, SeqCst);
}

/// Context switches since boot.
pub fn switches() -> usize {
    all().map(|cpu| cpu.switches.load(Relaxed)).sum()
}

/// Nanoseconds that CPU `cpu` was busy and idle, unless it has never run.
pub fn times(cpu: usize) -> Option<(u64, u64)> {
    let cpu = of(cpu);
    // SAFETY: idle threads are for ever.
    let idle = unsafe { cpu.idle.load(SeqCst).as_ref() }?.cpu_time();
    let all = crate::time::now().saturating_sub(cpu.since.load(Relaxed));
    Some((all.saturating_sub(idle), idle))
}

/// Threads that are running or ready to run now, on all CPUs.
pub fn runnable() -> u32 {
    let sum: isize = all().map(|cpu| cpu.awake.load(Relaxed)).sum();
    // Read one after the other, they may be of different moments.
    sum.clamp(0, i32::MAX as isize) as u32
}

impl Default for Scheduling {
    fn default() -> Scheduling {
        Scheduling::new()
    }
}

impl Scheduling {
    /// Of a CPU that does not run threads yet.
    pub const fn new() -> Scheduling {
        Scheduling {
            queue: Mutex::new(RunQueue::new()),
            waiting: AtomicU32::new(0),
            idle: AtomicPtr::new(ptr::null_mut()),
            previous: AtomicPtr::new(ptr::null_mut()),
            armed: AtomicU64::new(u64::MAX),
            slice_armed: AtomicBool::new(false),
            awake: AtomicIsize::new(0),
            switches: AtomicUsize::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// Counts a thread that woke up here (1) or fell asleep here (-1).
    #[inline(always)]
    pub(super) fn count_awake(&self, change: isize) {
        // Only this CPU writes it, with interrupts off.
        self.awake.store(self.awake.load(Relaxed) + change, Relaxed);
    }

    /// Whether nobody waits for this CPU.
    #[inline]
    pub(super) fn is_queue_empty(&self) -> bool {
        // With the lock, so that who sees a slice armed that has just ended is seen here.
        let _queue = self.queue.lock();
        self.waiting.load(Relaxed) == 0
    }

    /// The idle thread has taken the first thread of the queue: the others need a slice's end.
    #[inline]
    pub(super) fn arm_for_others(&self) {
        if self.waiting.load(Relaxed) != 0 && !self.slice_armed.load(Relaxed) {
            scheduler::arm_slice(self);
        }
    }

    #[inline]
    fn push(&self, thread: &Thread) {
        let mut queue = self.queue.lock();
        queue.push(thread);
        self.waiting.store(self.waiting.load(Relaxed) + 1, Relaxed);
    }

    /// Takes the first thread of the queue out.
    #[inline]
    pub(super) fn pop(&self) -> Option<&'static Thread> {
        let mut queue = self.queue.lock();
        let thread = queue.pop()?;
        self.waiting.store(self.waiting.load(Relaxed) - 1, Relaxed);
        Some(thread)
    }

    fn take(&self, wanted: impl Fn(&Thread) -> bool) -> Option<&'static Thread> {
        if self.waiting.load(SeqCst) == 0 {
            return None;
        }
        let mut queue = self.queue.lock();
        let thread = queue.take(wanted)?;
        self.waiting.store(self.waiting.load(Relaxed) - 1, Relaxed);
        Some(thread)
    }
}

/// Takes a thread that may run on this CPU, `here`, from another one's queue.
#[inline]
pub(super) fn steal(here: usize) -> Option<&'static Thread> {
    if SEVERAL.load(Relaxed) { steal_from_others(here) } else { None }
}

#[cold]
fn steal_from_others(here: usize) -> Option<&'static Thread> {
    // Each CPU begins with the one after it, so that they do not all go for the same.
    let (above, below) = (here + 1..cpu::MAXIMUM, 0..here);
    let mut others = above.chain(below).filter(|cpu| ready().has(*cpu));
    others.find_map(|cpu| of(cpu).take(|thread| thread.may_run_on(here)))
}

/// Whether this CPU, `here`, has work; what another one has of it comes to its queue.
fn find_work(here: usize) -> bool {
    let cpu = of(here);
    // With the lock: whoever had it before is seen, and whoever has it later sees that this CPU halts.
    !cpu.is_queue_empty()
        || steal(here)
            .inspect(|thread| {
                thread.set_cpu(here);
                cpu.push(thread);
            })
            .is_some()
}

/// Waits for an interrupt, unless there is work by now. For the idle thread.
pub(super) fn rest() {
    let here = this().1;
    let bit = Cpus::one(here).0;
    IDLE.fetch_or(bit, SeqCst);
    if !find_work(here) {
        // The interrupt of somebody who queued something since then is taken by the HLT at the latest.
        cpu::wait_for_interrupt();
    }
    IDLE.fetch_and(!bit, SeqCst);
}

/// Puts an awake thread, which is off its stack and on no queue, on the queue of a CPU that it may run on.
#[inline]
pub(super) fn place(thread: &Thread) {
    let (cpu, here) = this();
    if SEVERAL.load(Relaxed) && !stays(thread, here) {
        return place_anywhere(thread, here);
    }
    cpu.push(thread);
    arm_for_queue(cpu);
}

/// Whether what `place_anywhere` would choose is clear at a glance: no CPU idles, and the thread ran here before.
#[inline(always)]
fn stays(thread: &Thread, here: usize) -> bool {
    IDLE.load(SeqCst) == 0 && thread.cpu() == here && thread.affinity().has(here)
}

/// The running thread's slice ends some time, since others wait. An idle CPU takes the first at once.
#[inline]
fn arm_for_queue(cpu: &Scheduling) {
    let idles = ptr::eq(cpu.idle.load(Relaxed), &raw const *scheduler::current());
    if !idles && !cpu.slice_armed.load(Relaxed) {
        scheduler::arm_slice(cpu);
    }
}

// Out of line, so that one CPU pays for none of it.
#[inline(never)]
fn place_anywhere(thread: &Thread, here: usize) {
    let wakeup = Wakeup {
        allowed: thread.affinity(),
        ready: ready(),
        idle: Cpus(IDLE.load(SeqCst)),
        last: thread.cpu(),
        here,
    };
    let target = wakeup.choose(|cpu| of(cpu).waiting.load(Relaxed));
    thread.set_cpu(target);
    let cpu = of(target);
    cpu.push(thread);
    if target == here {
        return arm_for_queue(cpu);
    }
    let bit = Cpus::one(target).0;
    let idles = IDLE.load(SeqCst) & bit != 0 && IDLE.fetch_and(!bit, SeqCst) & bit != 0;
    if idles || !cpu.slice_armed.load(SeqCst) {
        ipi::send(target, Ipi::Reschedule);
    }
}

/// Makes CPU `cpu`, if it is another one, look at what its thread has to do.
pub(super) fn interrupt(cpu: usize) {
    if cpu != this().1 {
        ipi::send(cpu, Ipi::Reschedule);
    }
}

/// Another CPU wants this one to look: at its queue, at its thread's work (which is done on the way out), at the
/// processor time of its thread's process.
pub fn reschedule_requested() {
    let (cpu, _) = this();
    if !cpu.is_queue_empty() {
        arm_for_queue(cpu);
    }
    scheduler::watch_running(cpu, &scheduler::current());
}

/// Moves a thread off the CPU that it is on or waits for, if it may not be there any more. Its affinity has changed.
pub(super) fn leave_forbidden(thread: &Thread) {
    let at = thread.cpu();
    if thread.may_run_on(at) {
        return;
    }
    if let Some(thread) = of(at).take(|queued| ptr::eq(queued, thread)) {
        return place(thread);
    }
    if thread.is_on_cpu() {
        thread.add_work(work::RESCHEDULE);
    }
}
