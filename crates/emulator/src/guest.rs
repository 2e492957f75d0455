//! A running guest, from its start to the reason of its end.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::{Console, Ended, Error, GuestMemory, Monitor, Process, Registers, Stub};

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The guest switched the machine off.
    PoweredOff,
    /// The guest reset the machine; a triple fault does that too.
    Reset,
    /// The time limit ran out and the guest was killed.
    TimeLimit,
    /// QEMU itself died of a signal that tells of a mistake in it. No guest should be able to bring that about.
    Crashed(ExitStatus),
    /// Anything else, in QEMU's words.
    Other(String),
}

/// Signals that a program gets for its own mistakes.
const MISTAKES: [Signal; 5] = [Signal::SEGV, Signal::ABORT, Signal::BUS, Signal::ILL, Signal::FPE];

/// How a guest ended whose emulator ended without a word about it.
fn without_a_word(status: ExitStatus) -> Exit {
    let crashed = MISTAKES.iter().any(|mistake| status.signal() == Some(mistake.as_raw()));
    if crashed { Exit::Crashed(status) } else { Exit::Other(format!("QEMU ended with {status}")) }
}

/// A running guest. Dropping it kills QEMU.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    /// The first serial port.
    pub console: Console,
    /// QEMU's monitor.
    pub monitor: Monitor,
    /// The guest's RAM.
    pub memory: GuestMemory,
    /// QEMU's gdb stub, if [`crate::Machine::stub`] asked for it.
    pub stub: Option<Stub>,
}

impl Guest {
    pub(crate) fn new(
        process: Process,
        console: Console,
        monitor: Monitor,
        memory: GuestMemory,
        stub: Option<Stub>,
    ) -> Guest {
        Guest { process, console, monitor, memory, stub }
    }

    /// Waits for the guest to end, which its time limit makes sure of, and says how it did.
    pub fn wait(&mut self) -> Exit {
        let ended = self.process.wait();
        // QEMU's last bytes may still be in the pipe.
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.console.closed() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // What the guest did counts, even if QEMU had to be killed after it.
        match (self.monitor.shutdown_reason().as_deref(), ended) {
            (Some("guest-shutdown"), _) => Exit::PoweredOff,
            (Some("guest-reset"), _) => Exit::Reset,
            (_, Ended::TimeLimit) => Exit::TimeLimit,
            (Some(reason), _) => Exit::Other(reason.into()),
            (None, Ended::Killed) => Exit::Other("killed".into()),
            (None, Ended::ByItself(status)) => without_a_word(status),
        }
    }

    /// Ends QEMU if the guest has ended already and QEMU hangs, and says whether that was so. QEMU 7.2 hangs for ever
    /// if a command arrives while it goes down: the command gets no answer then.
    pub fn end_if_shut_down(&mut self) -> bool {
        let down = self.monitor.has_shut_down();
        if down {
            self.process.kill();
        }
        down
    }

    /// Stops the guest while a CPU runs in user mode and returns that CPU's registers; `None` if
    /// none was caught there before `limit`, in which case the guest runs on.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn stop_in_user_mode(&mut self, limit: Duration) -> Result<Option<Registers>, Error> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        while Instant::now() < deadline {
            self.monitor.stop()?;
            let caught = self.monitor.all_registers()?.into_iter().find(|cpu| cpu.cpl == 3);
            if caught.is_some() {
                return Ok(caught);
            }
            self.monitor.resume()?;
            std::thread::sleep(pause);
            // Uneven pauses do not fall into step with the guest's timer.
            pause = (pause * 3 / 2).min(Duration::from_millis(37));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_that_dies_of_its_own_mistake_has_crashed() {
        let [segv, kill, one] = [11, 9, 1 << 8].map(ExitStatus::from_raw);
        assert_eq!(without_a_word(segv), Exit::Crashed(segv));
        assert!(matches!(without_a_word(kill), Exit::Other(_)), "somebody ended it");
        assert!(matches!(without_a_word(one), Exit::Other(_)), "it said no");
    }
}
