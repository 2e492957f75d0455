//! Catching ring 3 in a guest that is hardly ever there, with the gdb stub.
//!
//! A system call comes from ring 3 and goes back there: the first instruction of the kernel's entry has the address of
//! the next one of the program in RCX (SDM vol. 2, SYSCALL). So a breakpoint on LSTAR says where to put others, and
//! those stop the CPU in ring 3 when a call returns. Some calls never do (`exit`), and others take long, so the last few
//! are waited for together.

use std::time::{Duration, Instant};

use super::{Attached, Held};
use crate::{Error, Registers};

/// The guest is stopped and let go at least so often, so that somebody else can put it back.
const SLICE: Duration = Duration::from_millis(300);
/// How many calls are waited for. A real CPU has four breakpoints (a KVM guest's stub uses those); LSTAR takes one.
const CALLS: usize = 3;
/// RCX in [`crate::GENERAL`].
const RCX: usize = 2;

impl Attached {
    /// As [`Attached::hold`], for a guest whose CPUs were in the kernel at every look: waits at the way out of a system
    /// call. `stub` is the place of the guest's gdb stub; without one, a stub is switched on and off again. If no call
    /// comes within `limit`, or LSTAR is not known, the guest is held wherever it is.
    ///
    /// # Errors
    ///
    /// As [`Attached::hold`]; [`Error::Connect`] or [`Error::Refused`] when there is no stub to be had.
    pub fn chase(&mut self, stub: Option<&str>, limit: Duration) -> Result<Held<'_>, Error> {
        let registers = self.stop_after_call(stub, limit)?;
        Ok(self.held(registers, Vec::new()))
    }

    /// [`Attached::hold`] for the first half of the time, and if no CPU was in ring 3 then, [`Attached::chase`] for the
    /// other. A guest whose stub is in use already is only held.
    ///
    /// # Errors
    ///
    /// As [`Attached::chase`].
    pub fn catch(&mut self, stub: Option<&str>, limit: Duration) -> Result<Held<'_>, Error> {
        let mut seen = Vec::new();
        let mut registers = self.stop_patiently(limit / 2, &mut seen)?;
        if self.found_running && !registers.iter().any(Registers::in_ring_3) {
            self.shared.go_on()?;
            registers = match self.stop_after_call(stub, limit / 2) {
                Err(Error::Refused { .. }) if stub.is_none() => {
                    self.stop_patiently(Duration::ZERO, &mut seen)?
                }
                stopped => stopped?,
            };
        }
        Ok(self.held(registers, seen))
    }

    /// The registers of a guest that was stopped as a system call returned, or after `limit`.
    fn stop_after_call(
        &mut self,
        stub: Option<&str>,
        limit: Duration,
    ) -> Result<Vec<Registers>, Error> {
        let entries = self.entries()?;
        if !self.found_running || entries.is_empty() {
            return self.stop_patiently(limit, &mut Vec::new());
        }
        let waited = self.shared.open_session(stub).and_then(|()| self.wait(&entries, limit));
        let registers = waited.and_then(|()| self.seen());
        self.or_go_on(registers)
    }

    /// Where SYSCALL goes, on any CPU.
    fn entries(&mut self) -> Result<Vec<u64>, Error> {
        let held = self.hold_until(Duration::ZERO, |_, _| true)?;
        let mut entries: Vec<u64> = held.registers.iter().filter_map(|cpu| cpu.lstar).collect();
        held.release()?;
        entries.sort_unstable();
        entries.dedup();
        // Where no kernel has set it, LSTAR is 0.
        entries.retain(|entry| *entry != 0);
        entries.truncate(1);
        Ok(entries)
    }

    /// Runs the guest until a CPU has come back from a system call, or `limit` is over. It is stopped then.
    fn wait(&self, entries: &[u64], limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        let session = |with: &mut dyn FnMut(&mut super::Session) -> Result<(), Error>| {
            self.shared.with_session(with)
        };
        let mut returns: Vec<u64> = Vec::new();
        session(&mut |session| session.break_at(entries))?;
        let mut caught = false;
        while !caught && self.run(deadline)? {
            session(&mut |session| {
                let cpu = session.stopped()?;
                caught = cpu.level() == 3;
                if !caught {
                    returns.retain(|address| *address != cpu.general[RCX]);
                    returns.push(cpu.general[RCX]);
                    returns.drain(..returns.len().saturating_sub(CALLS));
                    session.break_at(&[entries, &returns].concat())?;
                    session.step()?;
                }
                Ok(())
            })?;
        }
        session(&mut |session| session.break_at(&[]))
    }

    /// Runs the guest until it stops at a breakpoint; false if it has not by then.
    fn run(&self, deadline: Instant) -> Result<bool, Error> {
        let mut stopped = false;
        while !stopped && Instant::now() < deadline {
            self.shared.with_session(&mut |session| {
                stopped = session.run(SLICE)?;
                Ok(())
            })?;
        }
        Ok(stopped)
    }

    /// The registers and the memory of this moment.
    fn seen(&mut self) -> Result<Vec<Registers>, Error> {
        let registers = self.monitor().all_registers()?;
        self.memory.refresh()?;
        Ok(registers)
    }
}
