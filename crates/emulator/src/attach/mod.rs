//! A guest that runs already, looked at by its monitor and left as it was found.
//!
//! ```text
//!   Attached --hold(limit)--> Held      stopped, as many CPUs in ring 3 as could be had
//!      |                       |- registers   of all CPUs, from this one stop
//!      |                       '- memory      at this stop
//!      '- restorer()              dropped: the guest runs again
//! ```
//!
//! Page tables mean something only together with the registers of the same moment, so a look happens inside one stop.
//! To catch a CPU that was in the kernel then, let go and hold again with [`Attached::hold_until`].
//!
//! A guest that runs is let run again when the [`Held`] is dropped, on errors, too; a guest that was stopped when it
//! was found stays stopped throughout. Signals end a program without dropping anything: a program that wants to
//! survive Ctrl-C with honour calls [`Restorer::restore`] in its handler.

mod cache;
mod chase;
mod details;
mod memory;
mod patience;
mod scratch;
mod session;
mod shared;

use std::sync::{Arc, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use memory::AttachedMemory;
use patience::Patience;
use session::Session;
pub use shared::Restorer;
use shared::Shared;

use crate::{Error, GuestMemory, Monitor, Registers};

/// The first and the longest pause between two looks. Uneven ones do not fall into step with the guest's timer.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(37);

/// A guest that somebody started, with our hand on its monitor.
#[derive(Debug)]
pub struct Attached {
    shared: Arc<Shared>,
    memory: AttachedMemory,
    found_running: bool,
}

/// A guest that is stopped. Dropping it lets the guest run, if it ran before.
#[derive(Debug)]
pub struct Held<'a> {
    attached: &'a Attached,
    /// All CPUs, in ascending order.
    pub registers: Vec<Registers>,
    /// CPU by CPU: seen in ring 3 at this stop or one on the way to it.
    pub seen_in_ring_3: Vec<bool>,
}

impl Attached {
    /// Attaches to the QEMU whose QMP socket is at `place`: a path, or `HOST:PORT`.
    ///
    /// # Errors
    ///
    /// As [`Monitor::connect`].
    pub fn connect(place: &str) -> Result<Attached, Error> {
        Attached::new(Monitor::connect(place)?)
    }

    /// Attaches to the guest that a monitor belongs to.
    ///
    /// # Errors
    ///
    /// As [`Monitor::running`].
    pub fn new(monitor: Monitor) -> Result<Attached, Error> {
        Attached::sharing(monitor, None)
    }

    /// Attaches by a monitor; `memory` is the guest's RAM, if it is shared with this process.
    pub(crate) fn sharing(
        mut monitor: Monitor,
        memory: Option<GuestMemory>,
    ) -> Result<Attached, Error> {
        let found_running = monitor.running()?;
        let shared = Arc::new(Shared::new(monitor));
        let memory = AttachedMemory::new(Arc::clone(&shared), memory);
        Ok(Attached { shared, memory, found_running })
    }

    /// Whether the guest ran when it was found.
    pub fn found_running(&self) -> bool {
        self.found_running
    }

    /// The monitor, for other questions. Whoever stops or resumes the guest by it has to undo that. Nothing else of
    /// the attachment can be used while the monitor is held.
    pub fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.shared.monitor()
    }

    /// A handle that puts the guest back, from any thread.
    pub fn restorer(&self) -> Restorer {
        Restorer::new(&self.shared)
    }

    /// Stops the guest at a moment when as many CPUs as possible run user mode. Takes the moment at once if that is
    /// all of them; hopes sink over two seconds after the first was seen there; after `limit` any moment will do, even
    /// with no CPU in ring 3. CPUs that do nothing but wait in HLT are not waited for.
    ///
    /// # Errors
    ///
    /// As [`Monitor::registers`]. The guest runs again, if the monitor still answers.
    pub fn hold(&mut self, limit: Duration) -> Result<Held<'_>, Error> {
        let mut seen = Vec::new();
        let registers = self.stop_patiently(limit, &mut seen)?;
        Ok(self.held(registers, seen))
    }

    /// Stops the guest at the first moment that `enough` says yes to, or after `limit`. It is given the registers of
    /// all CPUs, and the time since the first look.
    ///
    /// # Errors
    ///
    /// As [`Attached::hold`].
    pub fn hold_until(
        &mut self,
        limit: Duration,
        mut enough: impl FnMut(&[Registers], Duration) -> bool,
    ) -> Result<Held<'_>, Error> {
        let mut seen = Vec::new();
        let stopped = self.stop_until(limit, &mut enough, &mut seen);
        let registers = self.or_go_on(stopped)?;
        Ok(self.held(registers, seen))
    }

    /// Stops the guest at as good a moment as can be had.
    fn stop_patiently(
        &mut self,
        limit: Duration,
        seen: &mut Vec<bool>,
    ) -> Result<Vec<Registers>, Error> {
        let mut patience = Patience::default();
        let stopped = self.stop_until(limit, &mut |cpus, now| patience.content(cpus, now), seen);
        self.or_go_on(stopped)
    }

    /// Lets the guest go on if it was not stopped as it should have been.
    fn or_go_on<T>(&self, stopped: Result<T, Error>) -> Result<T, Error> {
        if stopped.is_err() {
            // That error is the one to tell of; it is why this may fail as well.
            let _ = self.shared.go_on();
        }
        stopped
    }

    /// A guest that is stopped, with all that can be learnt of its registers.
    fn held(&self, registers: Vec<Registers>, mut seen_in_ring_3: Vec<bool>) -> Held<'_> {
        seen_in_ring_3.resize(registers.len(), false);
        for (seen, cpu) in seen_in_ring_3.iter_mut().zip(&registers) {
            *seen |= cpu.in_ring_3();
        }
        let mut held = Held { attached: self, registers, seen_in_ring_3 };
        details::complete(&self.shared, self.memory.ranges(), &mut held.registers);
        held
    }

    /// Stops and looks, again and again. The guest is stopped when this returns with success.
    fn stop_until(
        &mut self,
        limit: Duration,
        enough: &mut dyn FnMut(&[Registers], Duration) -> bool,
        caught: &mut Vec<bool>,
    ) -> Result<Vec<Registers>, Error> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        let registers = loop {
            if self.found_running {
                self.shared.stop()?;
            }
            let registers = self.monitor().all_registers()?;
            caught.resize(caught.len().max(registers.len()), false);
            for (caught, cpu) in caught.iter_mut().zip(&registers) {
                *caught |= cpu.in_ring_3();
            }
            let now = start.elapsed();
            if !self.found_running || enough(&registers, now) || now + pause > limit {
                break registers;
            }
            self.shared.go_on()?;
            sleep(pause);
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        };
        self.memory.refresh()?;
        Ok(registers)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.shared.go_on();
    }
}

impl Held<'_> {
    /// The guest's memory at this moment.
    pub fn memory(&self) -> &AttachedMemory {
        &self.attached.memory
    }

    /// The monitor, for other questions about this moment.
    pub fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.attached.monitor()
    }

    /// Lets the guest run, if it ran before.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`]: the guest may still be stopped.
    pub fn release(self) -> Result<(), Error> {
        self.attached.shared.go_on()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Dropped without `release`, nobody asks.
        let _ = self.attached.shared.go_on();
    }
}
