//! Tracing: one thread watches another, stops it, reads and changes what it has.
//!
//! ```text
//!   relation   who traces whom: attach, detach, and what the end of either side means
//!   stop       a tracee stops: at a signal, a system call, an event, with its group; and goes on
//!   calls      system calls of tracees, on their way in and out
//!   step       single steps: whose TF it is
//!   hardware   debug registers, #DB, and what a switch to a tracee has to do
//!   request    what the tracer asks for: registers, memory, going on
//!   wait       what wait tells the tracer
//! ```
//!
//! Threads that are not traced pay nothing: stops are reached through work bits, SYSCALL of a tracee
//! whose calls are watched goes to a handler of its own, which the switch to the thread puts in place.
//!
//! Invariants: who traces whom changes under the table's lock. A tracee's registers, options and memory
//! of the debugger's are touched by the tracee itself, or by its tracer while it is frozen: stopped, and
//! not to be woken, off every CPU.
//!
//! Semantics are Linux's ptrace(2).

pub mod calls;
mod floating;
pub mod hardware;
mod memory;
mod registers;
mod relation;
mod request;
mod siginfo;
mod step;
mod stop;
pub(super) mod wait;

pub(super) use relation::{
    follow, is_kept, leader_changes, process_ended, thread_ended, tracer_ended, tracer_of_new,
};
pub use request::CALLS;
pub(crate) use step::leave_for_handler;
pub(super) use step::without_forced_trap;
pub(super) use stop::executed;
pub(crate) use stop::{
    event, group_goes_on, group_stops, is_due, notify, signal_arrives, stop_is_meant, takes_part,
    trap_if_due,
};

use super::Thread;
use crate::sync::Mutex;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use hardware::DebugRegisters;
use linux_raw_sys::general as raw;
use linux_raw_sys::ptrace as abi;
use stop::Stop;

/// Bits of [`Tracee::mode`].
mod mode {
    /// Attached by PTRACE_SEIZE.
    pub const SEIZED: u32 = 1;
    /// A stop is due: its group stops, or PTRACE_INTERRUPT.
    pub const TRAP_STOP: u32 = 2;
    /// What its group does has changed since the last stop of that kind.
    pub const TRAP_NOTIFY: u32 = 4;
    /// PTRACE_LISTEN: stopped, but not for requests.
    pub const LISTENING: u32 = 8;
    /// No SIGCONT came since the signal was taken that may stop the group.
    pub const STOP_MEANT: u32 = 16;
    /// The thread has ended, and the tracer was not told or has not asked.
    pub const ENDED: u32 = 32;
}

/// Bits of [`Tracee::calls`].
mod watch {
    /// Stop before and after each system call.
    pub const REPORT: u32 = 1;
    /// Stop before each, and leave it out.
    pub const EMULATE: u32 = 2;
    /// A single step ends with the call.
    pub const STEP: u32 = 4;
}

/// [`Tracee::resume`] while nobody has said how to go on.
const STAY: u32 = u32::MAX;

/// Threads that are traced now.
static TRACED: AtomicUsize = AtomicUsize::new(0);

/// What a thread that was ever traced keeps.
pub struct Tracee {
    /// The tracing thread; 0 for none.
    tracer: AtomicU32,
    tracer_process: AtomicU32,
    /// PTRACE_O_*.
    options: AtomicU32,
    mode: AtomicU32,
    calls: AtomicU32,
    /// Bits of [`step`].
    step: AtomicU32,
    /// What wait tells: the code of the stop, once.
    report: AtomicU32,
    /// How to go on: a signal or 0.
    resume: AtomicU32,
    /// The signal of its group's stop.
    stop_signal: AtomicU32,
    /// How it ended.
    status: AtomicU32,
    stop: Mutex<Option<Stop>>,
    debug: DebugRegisters,
}

impl Tracee {
    fn new() -> Box<Tracee> {
        let zero = || AtomicU32::new(0);
        Box::new(Tracee {
            tracer: zero(),
            tracer_process: zero(),
            options: zero(),
            mode: zero(),
            calls: zero(),
            step: zero(),
            report: zero(),
            resume: zero(),
            stop_signal: zero(),
            status: zero(),
            stop: Mutex::new(None),
            debug: DebugRegisters::new(),
        })
    }

    fn tracer(&self) -> u32 {
        self.tracer.load(Ordering::Acquire)
    }

    fn tracer_process(&self) -> u32 {
        self.tracer_process.load(Ordering::Acquire)
    }

    fn is(&self, mode: u32) -> bool {
        self.mode.load(Ordering::Acquire) & mode != 0
    }

    fn set(&self, mode: u32) {
        self.mode.fetch_or(mode, Ordering::AcqRel);
    }

    fn clear(&self, mode: u32) {
        self.mode.fetch_and(!mode, Ordering::AcqRel);
    }

    fn has_option(&self, option: u32) -> bool {
        self.options.load(Ordering::Relaxed) & option != 0
    }

    fn watched(&self, what: u32) -> bool {
        self.calls.load(Ordering::Relaxed) & what != 0
    }

    /// Says which system calls are watched. For the thread itself, or while it is frozen.
    fn watch(&self, thread: &Thread, clear: u32, set: u32) {
        let calls = self.calls.load(Ordering::Relaxed) & !clear | set;
        self.calls.store(calls, Ordering::Relaxed);
        hardware::note(thread, hardware::CALLS, calls != 0);
    }
}

impl Thread {
    /// The thread as a tracee, if it is one now.
    #[inline(always)]
    fn traced(&self) -> Option<&Tracee> {
        self.tracee.get().map(|tracee| &**tracee).filter(|tracee| tracee.tracer() != 0)
    }

    /// Whether it is traced.
    #[inline(always)]
    pub(crate) fn is_traced(&self) -> bool {
        self.traced().is_some()
    }

    /// Its tracer, for /proc.
    pub fn tracer(&self) -> u32 {
        self.traced().map_or(0, Tracee::tracer)
    }
}

/// Whether any thread is traced.
#[inline(always)]
pub(super) fn any() -> bool {
    TRACED.load(Ordering::Relaxed) != 0
}

/// The event bit of an option: PTRACE_O_TRACE* are `1 << PTRACE_EVENT_*`.
const fn option_of(event: u32) -> u32 {
    1 << event
}

const _: () = assert!(option_of(abi::PTRACE_EVENT_EXIT) == abi::PTRACE_O_TRACEEXIT);
const _: () = assert!(raw::SIGTRAP == 5);
