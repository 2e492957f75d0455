//! Signals that were sent and not yet delivered.

use super::{FIRST_REAL_TIME, SYNCHRONOUS, bit};
use crate::errno::{Errno, Result};
use crate::mm::admit;
use crate::task;
use alloc::collections::VecDeque;
use linux_raw_sys::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The part of a siginfo that is ever used: its first 48 bytes, laid out as programs see it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Info {
    /// Signal number.
    pub signal: i32,
    /// errno, nearly always 0.
    pub errno: i32,
    /// Why: SI_*, SEGV_*, CLD_*.
    pub code: i32,
    padding: u32,
    /// What depends on `code`: sender, fault address, child status, value.
    pub fields: [u64; 4],
}

const _: () = assert!(size_of::<Info>() == 48, "a program's siginfo_t begins with an Info");

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl Info {
    /// `code` says why; no more is known.
    pub fn new(signal: u32, code: i32) -> Info {
        Info { signal: signal as i32, code, ..Info::default() }
    }

    /// Sent by a thread, with `code`.
    pub fn from(signal: u32, code: i32, sender: u32, user: u32) -> Info {
        Info { fields: [pair(sender, user), 0, 0, 0], ..Info::new(signal, code) }
    }

    /// Sent by the kernel itself.
    pub fn kernel(signal: u32) -> Info {
        Info::new(signal, raw::SI_KERNEL as i32)
    }

    /// Sent by the current process with kill or tgkill (`code`).
    pub fn from_current(signal: u32, code: i32) -> Info {
        let thread = task::current();
        let user = thread.process.credentials.lock().real_user;
        Info { fields: [pair(thread.process.pid, user), 0, 0, 0], ..Info::new(signal, code) }
    }

    /// Caused by an instruction, about `address`.
    pub fn fault(signal: u32, code: i32, address: u64) -> Info {
        Info { fields: [address, 0, 0, 0], ..Info::new(signal, code) }
    }

    /// About a child: `code` is CLD_*, times are in clock ticks.
    pub fn child(signal: u32, code: i32, pid: u32, user: u32, status: u32, ticks: u64) -> Info {
        let fields = [pair(pid, user), u64::from(status), ticks, 0];
        Info { fields, ..Info::new(signal, code) }
    }

    /// A POSIX timer ran out.
    pub fn timer(signal: u32, timer: u32, overrun: u32, value: u64) -> Info {
        let fields = [pair(timer, overrun), value, 0, 0];
        Info { fields, ..Info::new(signal, raw::SI_TIMER) }
    }

    /// The signal's number as a set's index.
    pub fn number(&self) -> u32 {
        self.signal as u32
    }

    /// Who a signal without details comes from: nobody.
    fn bare(signal: u32) -> Info {
        Info::new(signal, raw::SI_USER as i32)
    }
}

/// Pending signals of a thread or of a process.
#[derive(Default)]
pub struct Pending {
    /// Which are pending.
    pub set: u64,
    queue: VecDeque<Info>,
}

impl Pending {
    /// Nothing.
    pub const fn new() -> Pending {
        Pending { set: 0, queue: VecDeque::new() }
    }

    /// Adds a signal. One below the real-time signals is kept once.
    ///
    /// # Errors
    /// `EAGAIN` if a real-time signal does not fit into the queue, which holds `limit`.
    pub fn push(&mut self, info: Info, limit: u64) -> Result<()> {
        let signal = info.number();
        if signal < FIRST_REAL_TIME && self.set & bit(signal) != 0 {
            return Ok(());
        }
        let fits = (self.queue.len() as u64) < limit || signal < FIRST_REAL_TIME;
        let roomy = self.queue.len() < self.queue.capacity();
        if fits && (roomy || admit().is_ok() && self.queue.try_reserve(1).is_ok()) {
            self.queue.push_back(info);
        } else if signal >= FIRST_REAL_TIME && info.code != raw::SI_USER as i32 {
            return Err(Errno::EAGAIN);
        }
        self.set |= bit(signal);
        Ok(())
    }

    /// Takes the next signal of `wanted`: those that an instruction caused first, then by number.
    pub fn take(&mut self, wanted: u64) -> Option<Info> {
        let ready = self.set & wanted;
        if ready == 0 {
            return None;
        }
        let first = if ready & SYNCHRONOUS != 0 { ready & SYNCHRONOUS } else { ready };
        let signal = first.trailing_zeros() + 1;
        let mut of_signal =
            self.queue.iter().enumerate().filter(|(_, info)| info.number() == signal);
        let place = of_signal.next().map(|(place, _)| place);
        if of_signal.next().is_none() {
            self.set &= !bit(signal);
        }
        Some(match place {
            Some(0) => self.queue.pop_front().unwrap_or_else(|| Info::bare(signal)),
            Some(place) => self.queue.remove(place).unwrap_or_else(|| Info::bare(signal)),
            // It was pending without details, because memory for them was short.
            None => Info::bare(signal),
        })
    }

    /// Details of the signal at a place in the queue, which stays there.
    pub fn queued(&self, place: usize) -> Option<Info> {
        self.queue.get(place).copied()
    }

    /// Forgets signals.
    pub fn discard(&mut self, signals: u64) {
        if self.set & signals != 0 {
            self.set &= !signals;
            self.queue.retain(|info| signals & bit(info.number()) == 0);
        }
    }
}

/// A process's signals: pending for any thread, and whether it is stopped.
pub struct Shared {
    /// Pending for the process as a whole.
    pub pending: Pending,
    /// The signal that stopped the process, while it is stopped or stopping.
    pub(super) stopped_by: Option<u32>,
    /// Number of the present or last stop, never 0.
    pub(super) stops: u32,
    /// Threads that have stopped: those of the process that are counted in this stop ([`Thread::counted_in`]).
    ///
    /// [`Thread::counted_in`]: crate::task::Thread::counted_in
    pub(super) parked: usize,
    /// All threads have: the parent was told.
    pub(super) fully_stopped: bool,
    /// How often SIGCONT was sent: one that comes after a stopping signal was taken, and before that has stopped
    /// anything, undoes it.
    pub(super) continues: u32,
    /// What wait may report: stopped by this signal.
    pub(crate) stop_report: Option<u32>,
    /// What wait may report: it goes on.
    pub(crate) continue_report: bool,
}

impl Shared {
    /// Nothing pending, not stopped.
    pub const fn new() -> Shared {
        Shared {
            pending: Pending::new(),
            stopped_by: None,
            stops: 1,
            parked: 0,
            fully_stopped: false,
            continues: 0,
            stop_report: None,
            continue_report: false,
        }
    }
}

impl Shared {
    /// The signal that stopped the process, while it is stopped or stopping.
    pub fn stopped_by(&self) -> Option<u32> {
        self.stopped_by
    }

    /// Whether all threads have stopped.
    pub fn is_stopped(&self) -> bool {
        self.fully_stopped
    }
}

impl Default for Shared {
    fn default() -> Self {
        Shared::new()
    }
}
