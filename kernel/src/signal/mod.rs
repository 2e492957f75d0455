//! Signals: sent to processes and threads, delivered on the way out to ring 3.
//!
//! ```text
//!   send        pending set and queue of a thread or process; its work bit; wake it
//!   deliver     on the way out: ignore, stop, kill, or write a frame and go to the handler
//!   frame       what is written on the program's stack, byte for byte Linux's
//! ```
//!
//! A fault of the program itself does not queue: its handler's frame is written at once.

mod action;
pub mod alternate;
mod deliver;
pub mod frame;
mod pending;
mod send;
mod stop;

pub use action::{Action, Actions, DEFAULT, IGNORE};
pub use alternate::AlternateStack;
pub use deliver::{deliver, fault, force};
pub use pending::{Info, Pending, Shared};
pub(crate) use send::recalculate;
pub use send::{
    check_number, discard_ignored, for_each_of, may_signal, retarget, send_to_process,
    send_to_thread, set_blocked, try_send,
};
pub use stop::{any_stopped, wake_parent};
pub(crate) use stop::{release, tell_of_stop, tell_parent_of_stop, thread_ended};

use linux_raw_sys::general as raw;

/// Greatest signal number.
pub const LAST: u32 = 64;
/// First real-time signal: from here on, each one sent is queued.
pub const FIRST_REAL_TIME: u32 = 32;

/// The bit of a signal in a set.
#[inline]
pub const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

const fn set(signals: &[u32]) -> u64 {
    let mut set = 0;
    let mut index = 0;
    while index < signals.len() {
        set |= bit(signals[index]);
        index += 1;
    }
    set
}

/// Signals that cannot be blocked, caught or ignored.
pub const UNSTOPPABLE: u64 = set(&[raw::SIGKILL, raw::SIGSTOP]);
/// Signals that are ignored by default.
pub const IGNORED_BY_DEFAULT: u64 = set(&[raw::SIGCHLD, raw::SIGCONT, raw::SIGURG, raw::SIGWINCH]);
/// Signals that stop by default.
pub const STOPS: u64 = set(&[raw::SIGSTOP, raw::SIGTSTP, raw::SIGTTIN, raw::SIGTTOU]);
/// Signals whose default is a core dump.
pub const DUMPS: u64 = set(&[
    raw::SIGQUIT,
    raw::SIGILL,
    raw::SIGTRAP,
    raw::SIGABRT,
    raw::SIGFPE,
    raw::SIGSEGV,
    raw::SIGBUS,
    raw::SIGSYS,
    raw::SIGXCPU,
    raw::SIGXFSZ,
]);
/// Signals that an instruction of the program causes; they are delivered first.
pub const SYNCHRONOUS: u64 =
    set(&[raw::SIGSEGV, raw::SIGBUS, raw::SIGILL, raw::SIGTRAP, raw::SIGFPE, raw::SIGSYS]);
