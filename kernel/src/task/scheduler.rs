//! Which thread runs: one run queue per CPU, first come, first served, in slices of time.
//!
//! Invariants: a thread that is awake is on a CPU or on exactly one run queue; a thread that sleeps
//! with its off-queue mark is on neither. A CPU without work runs its idle thread, which is never
//! on a queue. The kernel is not preempted: a slice ends at the next way out to ring 3.
//!
//! The timer is one-shot and fires only for a reason: the earliest deadline, the end of a slice
//! while others wait for the CPU, or a limit on processor time. A thread that runs alone is never
//! interrupted.

use super::segments;
use super::switch::switch;
use super::thread::{CurrentThread, Sleep, Thread, work};
use crate::arch::{cpu, selectors::Selectors};
use crate::sync::Mutex;
use crate::time;
use alloc::sync::Arc;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::{FsBase, KernelGsBase};
use x86_64::registers::segmentation::{FS, Segment64};

/// Length of a slice, in nanoseconds.
pub const SLICE: u64 = 6_000_000;

/// The timer fires no sooner than in so many nanoseconds, so that programs get somewhere between
/// interrupts however short the periods are that some ask for. Linux, too, is late by as much.
const SHORTEST: u64 = 50_000;

struct RunQueue {
    head: *mut Thread,
    tail: *mut Thread,
}

// SAFETY: the pointers are to threads that the scheduler holds a reference to (see `thread`).
unsafe impl Send for RunQueue {}

impl RunQueue {
    fn push(&mut self, thread: &Thread) {
        let pointer = ptr::from_ref(thread).cast_mut();
        thread.link.store(ptr::null_mut(), Ordering::Relaxed);
        match NonNull::new(self.tail) {
            // SAFETY: queued threads are alive: the scheduler's reference goes only after the
            // switch away from a dead thread, and dead threads are never queued.
            Some(tail) => unsafe { tail.as_ref() }.link.store(pointer, Ordering::Relaxed),
            None => self.head = pointer,
        }
        self.tail = pointer;
    }

    fn pop(&mut self) -> Option<&'static Thread> {
        let head = NonNull::new(self.head)?;
        // SAFETY: as in `push`.
        let thread = unsafe { head.as_ref() };
        self.head = thread.link.load(Ordering::Relaxed);
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        Some(thread)
    }

    fn is_empty(&self) -> bool {
        self.head.is_null()
    }
}

/// One CPU's scheduling state.
struct Cpu {
    queue: Mutex<RunQueue>,
    idle: AtomicPtr<Thread>,
    /// The thread that was switched away from, until the next one has looked after it.
    previous: AtomicPtr<Thread>,
    /// When the timer fires next; `u64::MAX` if it does not.
    armed: AtomicU64,
    /// It fires within a slice.
    slice_armed: AtomicBool,
}

static CPUS: [Cpu; cpu::MAXIMUM] = [const {
    Cpu {
        queue: Mutex::new(RunQueue { head: ptr::null_mut(), tail: ptr::null_mut() }),
        idle: AtomicPtr::new(ptr::null_mut()),
        previous: AtomicPtr::new(ptr::null_mut()),
        armed: AtomicU64::new(u64::MAX),
        slice_armed: AtomicBool::new(false),
    }
}; cpu::MAXIMUM];

/// User mode can change FS and GS bases without the kernel.
static USER_CHANGES_BASES: AtomicBool = AtomicBool::new(false);
/// Threads awake now, for the load average, and switches since boot.
static RUNNABLE: AtomicU32 = AtomicU32::new(0);
static SWITCHES: AtomicUsize = AtomicUsize::new(0);

fn this_cpu() -> &'static Cpu {
    &CPUS[cpu::index() % cpu::MAXIMUM]
}

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

/// Context switches since boot.
pub fn switches() -> usize {
    SWITCHES.load(Ordering::Relaxed)
}

/// Threads that are running or ready to run now, on all CPUs.
pub fn runnable() -> u32 {
    RUNNABLE.load(Ordering::Relaxed)
}

/// Makes the code that calls this this CPU's idle thread.
pub(super) fn become_idle(thread: Arc<Thread>) {
    let changes = Cr4::read().contains(Cr4Flags::FSGSBASE);
    USER_CHANGES_BASES.store(changes, Ordering::Relaxed);
    thread.stay_awake();
    thread.set_on_cpu(true);
    let pointer = Arc::into_raw(thread).cast_mut();
    this_cpu().idle.store(pointer, Ordering::Relaxed);
    cpu::set_current_thread(pointer);
}

/// Runs whatever there is to run, for ever.
pub(super) fn idle() -> ! {
    loop {
        schedule();
        cpu::wait_for_interrupt();
    }
}

/// Hands a new thread to the scheduler, which keeps a reference, and makes it runnable.
pub(super) fn start(thread: &Arc<Thread>) {
    let _kept = Arc::into_raw(Arc::clone(thread));
    thread.wake(Sleep::UNINTERRUPTIBLE);
}

/// Puts an awake thread on a run queue.
pub(super) fn enqueue(thread: &Thread) {
    let cpu = this_cpu();
    cpu.queue.lock().push(thread);
    RUNNABLE.fetch_add(1, Ordering::Relaxed);
    // An idle CPU takes it at once; a busy one has to be told when to.
    let idles = ptr::eq(cpu.idle.load(Ordering::Relaxed), &raw const *current());
    if !idles && !cpu.slice_armed.load(Ordering::Relaxed) {
        arm_slice(cpu);
    }
}

/// Lets the next thread of the run queue run: the current one sleeps if it is marked so, else it
/// waits for its turn. Returns when it runs again.
pub fn schedule() {
    let cpu = this_cpu();
    let previous = current();
    let idle = cpu.idle.load(Ordering::Relaxed);
    let is_idle = ptr::eq(&raw const *previous, idle);
    let next = {
        let mut queue = cpu.queue.lock();
        if is_idle {
            match queue.pop() {
                Some(next) => next,
                None => return,
            }
        } else if previous.leave_queue() {
            RUNNABLE.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: every CPU has an idle thread for ever.
            queue.pop().unwrap_or(unsafe { &*idle })
        } else {
            match queue.pop() {
                Some(next) => {
                    queue.push(&previous);
                    next
                }
                None => return,
            }
        }
    };
    if !ptr::eq(&raw const *previous, next) {
        switch_to(cpu, &previous, next);
    }
}

fn switch_to(cpu: &'static Cpu, previous: &Thread, next: &'static Thread) {
    // On another CPU it may have been woken before it was fully off its stack.
    while next.is_on_cpu() && !ptr::eq(next, cpu.idle.load(Ordering::Relaxed)) {
        core::hint::spin_loop();
    }
    let now = time::now();
    let ran = now.saturating_sub(previous.since.load(Ordering::Relaxed));
    previous.cpu_time.store(previous.cpu_time.load(Ordering::Relaxed) + ran, Ordering::Relaxed);
    previous.process.account(ran);
    previous.switches.store(previous.switches.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    next.since.store(now, Ordering::Relaxed);
    SWITCHES.store(SWITCHES.load(Ordering::Relaxed) + 1, Ordering::Relaxed);

    let idle = cpu.idle.load(Ordering::Relaxed);
    if !ptr::eq(previous, idle) && !previous.is_dead() {
        save_context(previous);
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
    next.set_on_cpu(true);
    cpu.previous.store(ptr::from_ref(previous).cast_mut(), Ordering::Relaxed);
    cpu::set_current_thread(next);
    // SAFETY: only this CPU touches the context of the thread it switches to, which is off every
    // CPU (see above).
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
    let cpu = this_cpu();
    let thread = current();
    let previous = cpu.previous.load(Ordering::Relaxed);
    // SAFETY: the scheduler's reference to it is given up below at the earliest.
    let dead = unsafe { &*previous }.is_dead();
    // SAFETY: as above.
    unsafe { &*previous }.set_on_cpu(false);
    if !ptr::eq(&raw const *thread, cpu.idle.load(Ordering::Relaxed)) {
        load_context(&thread);
    }
    if dead {
        // SAFETY: this is the reference that `start` made; nobody runs on its stack any more.
        drop(unsafe { Arc::from_raw(previous) });
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

fn save_context(thread: &Thread) {
    // SAFETY: this CPU runs the thread.
    let context = unsafe { &mut *thread.context() };
    context.fpu.save();
    context.selectors = Selectors::present();
    if USER_CHANGES_BASES.load(Ordering::Relaxed) {
        context.fs_base = FS::read_base().as_u64();
        context.gs_base = KernelGsBase::read().as_u64();
    } else {
        // A base that came with a selector comes with it again.
        if context.selectors.has_fs() {
            context.fs_base = 0;
        }
        if context.selectors.has_gs() {
            context.gs_base = 0;
        }
    }
}

fn load_context(thread: &Thread) {
    // SAFETY: this CPU runs the thread.
    let context = unsafe { &*thread.context() };
    context.fpu.load();
    segments::switch_to(context);
    // Before the bases: loading FS or GS sets its base too.
    context.selectors.load();
    if USER_CHANGES_BASES.load(Ordering::Relaxed) {
        // SAFETY: the kernel does not use FS; the value is canonical (see `user_base`).
        unsafe { FS::write_base(VirtAddr::new_truncate(context.fs_base)) };
        KernelGsBase::write(VirtAddr::new_truncate(context.gs_base));
        return;
    }
    let loaded = Selectors::present();
    if !loaded.has_fs() {
        FsBase::write(VirtAddr::new_truncate(context.fs_base));
    }
    if !loaded.has_gs() {
        KernelGsBase::write(VirtAddr::new_truncate(context.gs_base));
    }
}

/// The running thread's FS and GS bases as user mode has them now.
pub fn user_bases() -> (u64, u64) {
    // Under the kernel the user's GS base waits in the other register.
    (FsBase::read().as_u64(), KernelGsBase::read().as_u64())
}

/// Makes the running thread's segment registers those of a new program.
pub fn clear_selectors() {
    change_selectors(|_| Selectors::default());
}

/// Changes selectors and keeps the bases.
fn change_selectors(change: fn(Selectors) -> Selectors) {
    let (fs_base, gs_base) = user_bases();
    change(Selectors::present()).load();
    FsBase::write(VirtAddr::new_truncate(fs_base));
    KernelGsBase::write(VirtAddr::new_truncate(gs_base));
}

/// Sets the running thread's FS base; `base` lies in the user half.
pub fn set_fs_base(base: u64) {
    if Selectors::present().has_fs() {
        change_selectors(Selectors::without_fs);
    }
    FsBase::write(VirtAddr::new_truncate(base));
    // SAFETY: this CPU runs the thread.
    unsafe { (*current().context()).fs_base = base };
}

/// Sets the running thread's GS base as user mode sees it; `base` lies in the user half.
pub fn set_gs_base(base: u64) {
    if Selectors::present().has_gs() {
        change_selectors(Selectors::without_gs);
    }
    KernelGsBase::write(VirtAddr::new_truncate(base));
    // SAFETY: this CPU runs the thread.
    unsafe { (*current().context()).gs_base = base };
}

/// Makes this CPU's timer fire no later than `deadline`.
pub fn arm_no_later_than(deadline: u64) {
    let cpu = this_cpu();
    if deadline < cpu.armed.load(Ordering::Relaxed) {
        cpu.armed.store(deadline, Ordering::Relaxed);
        cpu::arm_timer(deadline.saturating_sub(time::now()).max(SHORTEST));
    }
}

fn arm_slice(cpu: &Cpu) {
    cpu.slice_armed.store(true, Ordering::Relaxed);
    arm_no_later_than(time::now() + SLICE);
}

/// The timer fired: sets off what is due, ends the slice if somebody waits, arms the next.
pub fn timer_fired() {
    let cpu = this_cpu();
    cpu.armed.store(u64::MAX, Ordering::Relaxed);
    cpu.slice_armed.store(false, Ordering::Relaxed);
    let now = time::now();
    time::expire_due(now);
    let thread = current();
    let limited = thread.process.check_cpu_limits(now);
    let others = !cpu.queue.lock().is_empty();
    if others {
        thread.add_work(work::RESCHEDULE);
    }
    if (others || limited) && !cpu.slice_armed.load(Ordering::Relaxed) {
        arm_slice(cpu);
    }
    arm_no_later_than(time::next_deadline());
}

/// Makes the timer fire within a slice although nobody waits for the CPU: something about the
/// current process's processor time is to be watched.
pub fn watch_cpu_time() {
    let cpu = this_cpu();
    if !cpu.slice_armed.load(Ordering::Relaxed) {
        arm_slice(cpu);
    }
}
