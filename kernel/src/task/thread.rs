//! Threads: what each keeps for itself.
//!
//! Invariants: a thread's saved context is touched only by the CPU that runs it or is switching to
//! or from it. The scheduler holds one reference to each thread from its creation until the switch
//! away from it after its end; run queues and CPUs point to threads on the strength of that one.

mod current;
mod sleep;

pub use current::CurrentThread;
pub use sleep::Sleep;

use super::{Process, cpus, ptrace::Tracee, segments::Segments, stack::Stack};
use crate::arch::{fpu::FpuState, selectors::Selectors};
use crate::breaks::Break;
use crate::errno::{Errno, Result};
use crate::signal::{AlternateStack, Pending};
use crate::sync::{Mutex, Once};
use alloc::{boxed::Box, sync::Arc};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use ringwall::Frame;
use ringwall_rules::affinity::Cpus;
use ringwall_rules::ports::Permissions;
use x86_64::VirtAddr;

/// Bits of what a thread has to do before it returns to ring 3.
pub mod work {
    /// A signal may be deliverable, or the process is being stopped.
    pub const SIGNAL: u32 = 1;
    /// Let another thread run.
    pub const RESCHEDULE: u32 = 2;
    /// The thread has to end.
    pub const KILL: u32 = 4;
    /// The signal mask that a call replaced has to come back.
    pub const RESTORE_MASK: u32 = 8;
    /// A tracer wants to hear of the end of the system call.
    pub const CALL_ENDS: u32 = 16;
    /// Isolation was switched: the way to ring 3 is to be chosen anew.
    pub const WAY: u32 = 32;
}

/// What a switch saves besides what is on the stack.
pub(crate) struct Context {
    /// Stack pointer, with the callee-saved registers at it.
    pub(super) stack_pointer: u64,
    pub(crate) fs_base: u64,
    /// User mode's GS base.
    pub(crate) gs_base: u64,
    /// User mode's DS, ES, FS and GS.
    pub(crate) selectors: Selectors,
    /// Its own GDT entries, and whether any is not empty.
    pub(super) segments: Segments,
    pub(super) has_segments: bool,
    pub(crate) fpu: FpuState,
}

/// How an interrupted call goes on when restart_syscall is called.
#[derive(Clone, Copy)]
pub struct Restart {
    /// The function that goes on.
    pub call: fn(&[u64; 6]) -> Result<usize>,
    /// What it needs to know.
    pub arguments: [u64; 6],
}

/// A thread of execution with its own task stack.
pub struct Thread {
    tid: AtomicU32,
    /// The process it belongs to.
    pub process: Arc<Process>,
    work: AtomicU32,
    state: AtomicU32,
    /// A CPU uses its stack.
    on_cpu: AtomicBool,
    /// The CPU that it runs on or waits for, or ran on last.
    cpu: AtomicU32,
    /// The CPUs that it may run on.
    affinity: AtomicU64,
    /// Next in the run queue.
    pub(super) link: AtomicPtr<Thread>,
    /// Place in its process's list of threads.
    pub(super) slot: AtomicUsize,
    stack: Option<Stack>,
    stack_top: VirtAddr,
    context: UnsafeCell<Context>,
    name: Mutex<[u8; 16]>,
    /// Signals that are not delivered now. Written by the thread alone.
    pub(crate) blocked: AtomicU64,
    /// Signals that are blocked but for the time that the thread waits for them (sigtimedwait): kept for it whatever
    /// their action is. Written by the thread alone, and taken back with `pending` locked.
    pub(crate) awaited: AtomicU64,
    /// Number of the stop that it was last counted in among the stopped threads of its process; changes with that one's
    /// signals locked.
    pub(crate) counted_in: AtomicU32,
    /// The mask to come back to when [`work::RESTORE_MASK`] is set.
    pub(crate) saved_mask: AtomicU64,
    /// Signals sent to this thread.
    pub(crate) pending: Mutex<Pending>,
    pub(crate) alternate_stack: AlternateStack,
    /// Vector, error code and address of the last fault, for signal frames.
    pub(crate) trap: [AtomicU64; 3],
    /// Where to write 0 and wake a futex when the thread ends.
    pub(crate) clear_child_tid: AtomicU64,
    /// Where a new thread writes its own identifier first.
    pub(super) set_child_tid: AtomicU64,
    pub(crate) robust_list: AtomicU64,
    /// How restart_syscall goes on.
    pub(crate) restart: Mutex<Option<Restart>>,
    /// The ports that it may use. Written by the thread alone.
    pub(crate) ports: Mutex<Permissions>,
    /// The thread that made it.
    pub(super) maker: AtomicU32,
    /// It ends, and becomes nobody's tracer any more.
    pub(super) ends: AtomicBool,
    /// What there is to know if it was ever traced.
    pub(crate) tracee: Once<Box<Tracee>>,
    /// What a switch from or to the thread has to do besides: bits of [`super::ptrace::hardware`], and
    /// [`super::way::OPEN`].
    /// Changed by the thread itself, or while it is off every CPU.
    pub(crate) switch_work: AtomicU32,
    /// Number of the walk over epoll instances that it is on, or 0.
    pub(crate) epoll_walk: AtomicU64,
    /// Nanoseconds on a CPU, up to the last switch.
    pub(super) cpu_time: AtomicU64,
    /// When it was switched to.
    pub(super) since: AtomicU64,
    pub(super) switches: AtomicU64,
}

// SAFETY: everything but `context` is shared safely by its type; `context` is touched only by the
// CPU that runs the thread or switches to or from it (the scheduler's invariant).
unsafe impl Sync for Thread {}
// SAFETY: as above; nothing in a thread belongs to one CPU.
unsafe impl Send for Thread {}

impl Thread {
    /// A thread that is not yet anywhere: asleep off every queue.
    pub(super) fn new(
        tid: u32,
        process: Arc<Process>,
        stack: Option<Stack>,
        fpu: FpuState,
    ) -> Thread {
        Thread {
            tid: AtomicU32::new(tid),
            process,
            work: AtomicU32::new(0),
            state: AtomicU32::new(Sleep::UNINTERRUPTIBLE.0 | sleep::OFF_QUEUE),
            on_cpu: AtomicBool::new(false),
            cpu: AtomicU32::new(crate::arch::cpu::index() as u32),
            affinity: AtomicU64::new(Cpus::ALL.0),
            link: AtomicPtr::new(core::ptr::null_mut()),
            slot: AtomicUsize::new(0),
            stack_top: VirtAddr::new(stack.as_ref().map_or(0, |stack| stack.bounds().end)),
            stack,
            context: UnsafeCell::new(Context {
                stack_pointer: 0,
                fs_base: 0,
                gs_base: 0,
                selectors: Selectors::default(),
                segments: Segments::default(),
                has_segments: false,
                fpu,
            }),
            name: Mutex::new([0; 16]),
            blocked: AtomicU64::new(0),
            awaited: AtomicU64::new(0),
            counted_in: AtomicU32::new(0),
            saved_mask: AtomicU64::new(0),
            pending: Mutex::new(Pending::new()),
            alternate_stack: AlternateStack::new(),
            trap: [const { AtomicU64::new(0) }; 3],
            clear_child_tid: AtomicU64::new(0),
            set_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            restart: Mutex::new(None),
            ports: Mutex::new(Permissions::NONE),
            maker: AtomicU32::new(0),
            ends: AtomicBool::new(false),
            tracee: Once::new(),
            switch_work: AtomicU32::new(0),
            epoll_walk: AtomicU64::new(0),
            cpu_time: AtomicU64::new(0),
            since: AtomicU64::new(0),
            switches: AtomicU64::new(0),
        }
    }

    /// Thread identifier. Changes only when exec makes this thread its process's only one.
    #[inline(always)]
    pub fn tid(&self) -> u32 {
        self.tid.load(Ordering::Relaxed)
    }

    pub(super) fn set_tid(&self, tid: u32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Whether it is the first thread of its process.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.process.pid
    }

    /// Name as PR_SET_NAME and exec set it, NUL-padded.
    pub fn name(&self) -> [u8; 16] {
        *self.name.lock()
    }

    /// Sets the name; more than 15 bytes are cut off.
    pub fn set_name(&self, name: &[u8]) {
        let mut padded = [0; 16];
        for (to, from) in padded[..15].iter_mut().zip(name.iter().take_while(|byte| **byte != 0)) {
            *to = *from;
        }
        *self.name.lock() = padded;
        if self.is_leader() {
            self.process.set_name(padded);
        }
    }

    /// What has to be done before the thread returns to ring 3: bits of [`work`].
    #[inline(always)]
    pub fn pending_work(&self) -> u32 {
        self.work.load(Ordering::Acquire)
    }

    /// Whether anything has to be done before the thread returns to ring 3.
    #[inline(always)]
    pub fn has_work(&self) -> bool {
        self.work.load(Ordering::Relaxed) != 0
    }

    /// Gives the thread something to do before it returns to ring 3. If it is there, on another CPU, it is
    /// interrupted.
    pub(crate) fn add_work(&self, bits: u32) {
        let before = self.work.fetch_or(bits, Ordering::SeqCst);
        if before & bits != bits {
            self.interrupt_if_running();
        }
    }

    /// If the thread runs on another CPU, makes it look at its work. One that is being switched to looks later.
    pub(super) fn interrupt_if_running(&self) {
        if self.on_cpu.load(Ordering::SeqCst) {
            cpus::interrupt(self.cpu());
        }
    }

    pub(crate) fn clear_work(&self, bits: u32) {
        self.work.fetch_and(!bits, Ordering::AcqRel);
    }

    /// Whether a sleep of kind `how` has to end without its event.
    pub fn is_interrupted(&self, how: Sleep) -> bool {
        let work = self.pending_work();
        (how == Sleep::INTERRUPTIBLE && work & (work::SIGNAL | work::KILL) != 0)
            || (how == Sleep::KILLABLE && work & work::KILL != 0)
    }

    /// Whether a signal waits for the thread: what makes interruptible calls give up.
    pub fn has_signal(&self) -> bool {
        self.is_interrupted(Sleep::INTERRUPTIBLE)
    }

    /// Whether a signal that is sent now reaches the thread: not if it blocks it or is stopped.
    pub(crate) fn wants(&self, signal: u32) -> bool {
        let stopped = Sleep::STOPPED.0 | Sleep::TRACED.0 | Sleep::FROZEN.0;
        let stopped = self.state.load(Ordering::Relaxed) & stopped != 0;
        !stopped && self.blocked() & crate::signal::bit(signal) == 0
    }

    /// Whether a signal has no effect but to be pending: it is blocked, or the thread waits for it.
    pub(crate) fn keeps(&self, signal: u32) -> bool {
        // In this order: a wait says what it waits for, then unblocks it. At its end it blocks it, and does the other with
        // the lock held: not between the two looks.
        let _pending = self.pending.lock();
        let blocked = self.blocked.load(Ordering::Acquire);
        (blocked | self.awaited.load(Ordering::Acquire)) & crate::signal::bit(signal) != 0
    }

    /// Whether it has begun to end, and looks for its tracees later.
    pub(super) fn ends(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    /// CPU `cpu` switches to it.
    #[inline(always)]
    pub(super) fn enter_cpu(&self, cpu: usize) {
        self.set_cpu(cpu);
        // The look at its work and its affinity, which comes later, must not come before it.
        self.on_cpu.swap(true, Ordering::SeqCst);
    }

    /// Its stack is no more used.
    #[inline(always)]
    pub(super) fn leave_cpu(&self) {
        self.on_cpu.store(false, Ordering::Release);
    }

    pub(super) fn is_on_cpu(&self) -> bool {
        self.on_cpu.load(Ordering::Acquire)
    }

    /// The CPU that it runs on or waits for, or ran on last.
    #[inline(always)]
    pub fn cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed) as usize
    }

    #[inline(always)]
    pub(super) fn set_cpu(&self, cpu: usize) {
        self.cpu.store(cpu as u32, Ordering::Relaxed);
    }

    /// The CPUs that it may run on. Some may not be there.
    #[inline(always)]
    pub fn affinity(&self) -> Cpus {
        Cpus(self.affinity.load(Ordering::Relaxed))
    }

    /// Whether it may run on CPU `cpu`.
    #[inline(always)]
    pub(super) fn may_run_on(&self, cpu: usize) -> bool {
        self.affinity().has(cpu) || Break::AnyCpu.is_on()
    }

    /// A new thread may run where its maker may.
    pub(super) fn inherit_affinity(&self, maker: &Thread) {
        self.affinity.store(maker.affinity().0, Ordering::Relaxed);
    }

    /// Sets where it may run, and moves it there. The current thread is there when it returns to ring 3.
    ///
    /// # Errors
    /// `EINVAL` if none of them is there.
    pub fn set_affinity(&self, cpus: Cpus) -> Result<()> {
        if (cpus & cpus::ready()).is_empty() {
            return Err(Errno::EINVAL);
        }
        self.affinity.store(cpus.0, Ordering::SeqCst);
        cpus::leave_forbidden(self);
        Ok(())
    }

    /// Address range of the task stack, for a report of its overflow. The idle thread runs on the
    /// boot stack.
    pub fn stack_bounds(&self) -> Option<core::ops::Range<u64>> {
        self.stack.as_ref().map(Stack::bounds)
    }

    /// 16-aligned end of the task stack.
    #[inline(always)]
    pub(super) fn stack_top(&self) -> VirtAddr {
        self.stack_top
    }

    /// The user registers, at the top of the task stack.
    pub(crate) fn frame_pointer(&self) -> *mut Frame {
        (self.stack_top.as_u64() - size_of::<Frame>() as u64) as *mut Frame
    }

    /// The saved context. See the invariant at the top of this file.
    pub(crate) fn context(&self) -> *mut Context {
        self.context.get()
    }

    /// Nanoseconds it has run.
    pub fn cpu_time(&self) -> u64 {
        let past = self.cpu_time.load(Ordering::Relaxed);
        if self.is_on_cpu() {
            past + crate::time::now().saturating_sub(self.since.load(Ordering::Relaxed))
        } else {
            past
        }
    }

    /// How often it was switched away from.
    pub fn switches(&self) -> u64 {
        self.switches.load(Ordering::Relaxed)
    }

    /// Signals blocked now, as a set (bit 0 is signal 1).
    pub fn blocked(&self) -> u64 {
        self.blocked.load(Ordering::Relaxed)
    }
}
