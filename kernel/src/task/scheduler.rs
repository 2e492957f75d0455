//! Which thread runs: each CPU takes the first of its run queue, in slices of time; one that has nothing to do takes
//! what others have waiting, and idles if there is nothing.
//!
//! Invariants: a thread that is awake is on a CPU or on exactly one run queue; a thread that sleeps
//! with its off-queue mark is on neither. Both a place on a queue and the mark are given to a thread that
//! leaves its CPU by the one after it there, when nobody is on its stack any more ([`finish_switch`]); so no CPU
//! ever waits for a thread to get off another. A CPU without work runs its idle thread, which is never
//! on a queue. The kernel is not preempted: a slice ends at the next way out to ring 3.
//!
//! The timer is one-shot and fires only for a reason: the earliest deadline, the end of a slice
//! while others wait for the CPU, or a limit on processor time. A thread that runs alone is never
//! interrupted.

pub use super::context::{clear_selectors, set_fs_base, set_gs_base, user_bases};
use super::cpus::{self, Scheduling, this};
use super::switch::switch;
use super::thread::{CurrentThread, Sleep, Thread, work};
use super::{context, process::Process};
use crate::arch::cpu;
use crate::breaks::Break;
use crate::time;
use alloc::sync::Arc;
use core::ptr;
use core::sync::atomic::Ordering;

/// Length of a slice, in nanoseconds.
pub const SLICE: u64 = 6_000_000;

/// The timer fires no sooner than in so many nanoseconds, so that programs get somewhere between
/// interrupts however short the periods are that some ask for. Linux, too, is late by as much.
const SHORTEST: u64 = 50_000;

/// The thread that runs on this CPU. One load.
#[inline(always)]
pub fn current() -> CurrentThread {
    let thread = cpu::current_thread();
    // SAFETY: set by `become_idle` at bring-up and by every switch; the scheduler's reference keeps
    // the running thread alive.
    let thread = unsafe { &*thread };
    // SAFETY: it is the one that executes this.
    unsafe { CurrentThread::new(thread) }
}

/// Makes the code that calls this this CPU's idle thread.
pub(super) fn become_idle(thread: Arc<Thread>) {
    context::initialize();
    let (cpu, here) = this();
    let now = time::now();
    thread.stay_awake();
    thread.since.store(now, Ordering::Relaxed);
    thread.enter_cpu(here);
    let pointer = Arc::into_raw(thread).cast_mut();
    cpu.idle.store(pointer, Ordering::SeqCst);
    cpu::set_current_thread(pointer);
    cpus::join(now);
}

/// Runs whatever there is to run, for ever.
pub(super) fn idle() -> ! {
    loop {
        schedule();
        cpus::rest();
    }
}

/// Hands a new thread to the scheduler, which keeps a reference, and makes it runnable.
pub(super) fn start(thread: &Arc<Thread>) {
    let _kept = Arc::into_raw(Arc::clone(thread));
    thread.wake(Sleep::UNINTERRUPTIBLE);
}

/// A thread that slept, and is off its stack, has been woken.
#[inline]
pub(super) fn enqueue(thread: &Thread) {
    this().0.count_awake(1);
    cpus::place(thread);
    if Break::WokenFirst.is_on() {
        current().add_work(work::RESCHEDULE);
    }
}

/// Lets the next thread of the run queue run: the current one sleeps if it is marked so, else it
/// waits for its turn. Returns when it runs again.
pub fn schedule() {
    let (cpu, here) = this();
    let previous = current();
    let idle = cpu.idle.load(Ordering::Relaxed);
    let is_idle = ptr::eq(&raw const *previous, idle);
    let next = match cpu.pop() {
        Some(next) => next,
        None if !is_idle && previous.is_awake() && previous.may_run_on(here) => return,
        None => match cpus::steal(here) {
            Some(next) => next,
            None if is_idle => return,
            // SAFETY: every CPU has an idle thread for ever.
            None => unsafe { &*idle },
        },
    };
    if is_idle {
        cpu.arm_for_others();
    }
    switch_to(cpu, here, &previous, next);
}

/// Adds the time that `thread`, which runs here, has run until now to what it and its process have run.
#[inline(always)]
pub(super) fn account(thread: &Thread, now: u64) {
    let ran = now.saturating_sub(thread.since.load(Ordering::Relaxed));
    thread.since.store(now, Ordering::Relaxed);
    thread.cpu_time.store(thread.cpu_time.load(Ordering::Relaxed) + ran, Ordering::Relaxed);
    thread.process.account(ran);
}

fn switch_to(cpu: &'static Scheduling, here: usize, previous: &Thread, next: &'static Thread) {
    let now = time::now();
    account(previous, now);
    previous.switches.store(previous.switches.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    next.since.store(now, Ordering::Relaxed);
    cpu.switches.store(cpu.switches.load(Ordering::Relaxed) + 1, Ordering::Relaxed);

    let idle = cpu.idle.load(Ordering::Relaxed);
    if !ptr::eq(previous, idle) && !previous.is_dead() {
        context::save(previous);
    }
    // SAFETY: `next` is being switched to, so nobody replaces its process's memory meanwhile.
    match unsafe { next.process.mm.borrow() } {
        Some(mm) => cpu::activate(mm.roots(), next.stack_top()),
        // The idle thread goes on with the page tables that are loaded, until they end (`Mm`'s drop).
        None => cpu::rest(),
    }
    let work =
        previous.switch_work.load(Ordering::Relaxed) | next.switch_work.load(Ordering::Relaxed);
    if work != 0 {
        super::ptrace::hardware::switch(work, next);
    }
    next.enter_cpu(here);
    if !next.may_run_on(here) {
        // Its affinity has changed since it was queued here: it goes before it returns to ring 3.
        next.add_work(work::RESCHEDULE);
    }
    watch_running(cpu, next);
    cpu.previous.store(ptr::from_ref(previous).cast_mut(), Ordering::Relaxed);
    cpu::set_current_thread(next);
    // SAFETY: only this CPU touches the context of the thread it switches to, which is off every
    // CPU by the invariant of the queues.
    let load = unsafe { (*next.context()).stack_pointer };
    // SAFETY: only this CPU touches the context of the thread it runs.
    let save = unsafe { &raw mut (*previous.context()).stack_pointer };
    // SAFETY: `load` was saved by a switch away from `next` or made by `create`, and `next` was
    // taken off the run queue, so no other CPU runs on its stack.
    unsafe { switch(save, load) };
    finish_switch();
}

/// The first thing a thread does when it was switched to: looks after the one before it.
pub(super) fn finish_switch() {
    // Not the CPU that this thread was on when it called `switch`.
    let (cpu, _) = this();
    let thread = current();
    let idle = cpu.idle.load(Ordering::Relaxed);
    if !ptr::eq(&raw const *thread, idle) {
        context::load(&thread);
    }
    let pointer = cpu.previous.load(Ordering::Relaxed);
    // SAFETY: it was the current thread here, so the scheduler has its reference, which is given up below at the
    // earliest; after it was put on a queue, or marked, it is not touched any more.
    let previous = unsafe { &*pointer };
    previous.leave_cpu();
    if ptr::eq(previous, idle) {
        return;
    }
    if previous.is_dead() {
        cpu.count_awake(-1);
        // SAFETY: this is the reference that `start` made; nobody runs on its stack any more.
        drop(unsafe { Arc::from_raw(pointer) });
    } else if previous.leave_queue() {
        cpu.count_awake(-1);
    } else {
        // Its slice has ended, or it was woken on its way here.
        cpus::place(previous);
    }
}

/// Called now and then by what may take long, with no lock held: lets interrupts in, and others run
/// if it is their turn. Gives whether a signal waits, for which the caller may want to stop.
pub fn breathe() -> bool {
    cpu::let_interrupts_in();
    let thread = current();
    if thread.pending_work() & work::RESCHEDULE != 0 {
        thread.clear_work(work::RESCHEDULE);
        schedule();
    }
    thread.has_signal()
}

/// Makes this CPU's timer fire no later than `deadline`.
pub fn arm_no_later_than(deadline: u64) {
    let (cpu, _) = this();
    if deadline < cpu.armed.load(Ordering::Relaxed) {
        cpu.armed.store(deadline, Ordering::Relaxed);
        cpu::arm_timer(deadline.saturating_sub(time::now()).max(SHORTEST));
    }
}

/// Ends the slice of this CPU's thread in time.
pub(super) fn arm_slice(cpu: &Scheduling) {
    cpu.slice_armed.store(true, Ordering::SeqCst);
    arm_no_later_than(time::now() + SLICE);
}

/// The timer fired: sets off what is due, ends the slice if somebody waits, arms the next.
pub fn timer_fired() {
    let (cpu, _) = this();
    cpu.armed.store(u64::MAX, Ordering::Relaxed);
    cpu.slice_armed.store(false, Ordering::SeqCst);
    let now = time::now();
    time::expire_due(now);
    let thread = current();
    let limited = thread.process.check_cpu_limits(now);
    let others = !cpu.is_queue_empty();
    if others {
        thread.add_work(work::RESCHEDULE);
    }
    if (others || limited) && !cpu.slice_armed.load(Ordering::Relaxed) {
        arm_slice(cpu);
    }
    arm_no_later_than(time::next_deadline());
}

/// Makes the timer fire within a slice, although nobody waits for the CPU, if something about the processor time of
/// `thread`'s process is to be watched: it runs here.
#[inline(always)]
pub(super) fn watch_running(cpu: &Scheduling, thread: &Thread) {
    if thread.process.intervals.is_watched() && !cpu.slice_armed.load(Ordering::Relaxed) {
        arm_slice(cpu);
    }
}

/// The same, wherever threads of `process` run: something about its processor time is to be watched from now on.
pub fn watch_cpu_time(process: &Process) {
    let (cpu, _) = this();
    let running = current();
    for thread in process.threads.lock().iter() {
        if ptr::eq(&raw const **thread, &raw const *running) {
            watch_running(cpu, thread);
        } else {
            thread.interrupt_if_running();
        }
    }
}
