//! Processes and threads.
//!
//! A process is Linux's thread group, a thread Linux's task. All relations between them (who is
//! whose child, process groups, sessions, which identifier is whose) live in one table behind one
//! lock, [`table`]; what a thread alone touches lives in the thread.
//!
//! ```text
//!   table   pid -> thread, process, children, ended children, members of the group
//!   Process memory, files, paths (borrowed by its own threads without a lock), signals, limits
//!   Thread  task stack, saved context, signal mask, exit work
//! ```
//!
//! Lock order: table, a process's `threads`, its `signals`, a thread's `pending`, its process's
//! actions, wait queues, run queues. Timers are a leaf of their own.

mod breath;
mod context;
pub mod cpus;
pub mod create;
pub mod credentials;
pub mod exec;
pub mod exit;
pub mod futex;
pub mod overflow;
pub mod process;
pub mod ptrace;
pub mod resources;
pub mod robust;
mod run_queue;
pub mod scheduler;
pub mod segments;
pub mod stack;
mod switch;
pub mod table;
pub mod thread;
pub mod wait;
pub mod way;

pub use breath::{BREATH, Breath, was_killed};
pub use cpus::{Scheduling, reschedule_requested};
pub use create::{run_first, run_idle};
pub use process::Process;
pub use scheduler::{breathe, current, schedule};
pub use table::{all, find, find_thread};
pub use thread::{CurrentThread, Sleep, Thread, work};

use crate::errno::{Errno, Result};
use crate::signal;
use ringwall::Frame;

/// Whether the current thread has something to do before it may return to ring 3.
#[inline(always)]
pub fn has_work() -> bool {
    current().has_work()
}

/// What has to be done before `frame` returns to ring 3: being killed, being preempted, signals.
/// Called while [`has_work`], as the last thing; does not return if the thread ends or leaves by another way.
pub fn exit_work(frame: &mut Frame) {
    let thread = current();
    loop {
        let work = thread.pending_work();
        if work == 0 {
            return;
        }
        if work == work::WAY {
            way::change(&thread, frame);
        }
        if work & work::KILL != 0 {
            exit::end_thread(0);
        }
        if work & work::RESCHEDULE != 0 {
            thread.clear_work(work::RESCHEDULE);
            schedule();
        }
        if work & work::CALL_ENDS != 0 {
            thread.clear_work(work::CALL_ENDS);
            ptrace::calls::end(&thread, frame);
            continue;
        }
        if work & (work::SIGNAL | work::RESTORE_MASK) != 0 {
            signal::deliver(frame);
        }
    }
}

/// Sends a terminal's signal to a process group (called from interrupts too).
///
/// # Errors
/// `ESRCH` if the group has no members.
pub fn signal_group(group: u32, signal: u32) -> Result<()> {
    let info = signal::Info::kernel(signal);
    let mut any = false;
    signal::for_each_of(signal, Some(group), |process| {
        any = true;
        signal::send_to_process(process, info);
    });
    if any { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Sends a signal to the current thread (SIGPIPE and the like).
pub fn signal_current(signal: u32) {
    signal::send_to_thread(&current(), signal::Info::kernel(signal));
}
