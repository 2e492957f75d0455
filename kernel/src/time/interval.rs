//! setitimer: one timer on the clock and two on processor time per process.

use super::queue::{Alarm, Expire};
use crate::signal::{self, Info};
use crate::sync::Mutex;
use crate::task::Process;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use linux_raw_sys::general as raw;

/// A timer's setting: nanoseconds to its end, 0 for off, and from then on between ends.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Nanoseconds left.
    pub left: u64,
    /// Nanoseconds of a period, 0 for once.
    pub period: u64,
}

struct Real {
    alarm: Option<Alarm>,
    period: u64,
}

/// A timer on processor time: when it ends, on the process's own clock.
#[derive(Clone, Copy, Default)]
struct Cpu {
    end: u64,
    period: u64,
}

/// A process's timers.
pub struct Intervals {
    real: Mutex<Real>,
    /// ITIMER_VIRTUAL and ITIMER_PROF. Both run on the same time (see `task::resources::Usage`).
    cpu: Mutex<[Cpu; 2]>,
    /// Something watches the process's time.
    watched: AtomicBool,
}

/// The target of a process's clock timer.
struct Target(Weak<Process>);

impl Expire for Target {
    fn expire(self: Arc<Self>, now: u64) {
        let Some(process) = self.0.upgrade() else { return };
        {
            let mut real = process.intervals.real.lock();
            // On another CPU it may have been set anew since it went off.
            if real.alarm.as_ref().is_none_or(|alarm| alarm.deadline() > now) {
                return;
            }
            let ended = real.alarm.take();
            if let Some(ended) = &ended
                && real.period != 0
            {
                let period = real.period;
                let missed = now.saturating_sub(ended.deadline()) / period;
                let next = ended.deadline().saturating_add((missed + 1).saturating_mul(period));
                real.alarm = Some(Alarm::set(next, self));
            }
        }
        signal::send_to_process(&process, Info::kernel(raw::SIGALRM));
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Intervals::new()
    }
}

impl Intervals {
    /// All off.
    pub const fn new() -> Intervals {
        Intervals {
            real: Mutex::new(Real { alarm: None, period: 0 }),
            cpu: Mutex::new([Cpu { end: 0, period: 0 }; 2]),
            watched: AtomicBool::new(false),
        }
    }

    /// The clock timer's state.
    pub fn real(&self) -> Setting {
        let real = self.real.lock();
        let now = super::now();
        let left = real.alarm.as_ref().map_or(0, |alarm| {
            // A timer that is due but was not served yet is not off.
            alarm.deadline().saturating_sub(now).max(1)
        });
        Setting { left, period: real.period }
    }

    /// Sets the clock timer of `process`, whose timers these are; gives the old state.
    pub fn set_real(&self, process: &Arc<Process>, setting: Setting) -> Setting {
        let old = self.real();
        let alarm = (setting.left != 0).then(|| {
            let deadline = super::now().saturating_add(setting.left);
            Alarm::set(deadline, Arc::new(Target(Arc::downgrade(process))))
        });
        let ended = {
            let mut real = self.real.lock();
            real.period = if alarm.is_some() { setting.period } else { 0 };
            core::mem::replace(&mut real.alarm, alarm)
        };
        drop(ended);
        old
    }

    /// A processor timer's state: 0 for ITIMER_VIRTUAL, 1 for ITIMER_PROF.
    pub fn cpu(&self, which: usize, process: &Process) -> Setting {
        let timer = self.cpu.lock()[which];
        let left = match timer.end {
            0 => 0,
            end => end.saturating_sub(process.cpu_time()).max(1),
        };
        Setting { left, period: timer.period }
    }

    /// Sets a processor timer; gives the old state.
    pub fn set_cpu(&self, which: usize, process: &Process, setting: Setting) -> Setting {
        let old = self.cpu(which, process);
        let end = match setting.left {
            0 => 0,
            left => process.cpu_time().saturating_add(left),
        };
        self.cpu.lock()[which] = Cpu { end, period: setting.period };
        if end != 0 {
            self.watch(process);
        }
        old
    }

    /// Has the process's processor time looked at from now on.
    pub fn watch(&self, process: &Process) {
        self.watched.store(true, Ordering::SeqCst);
        crate::task::scheduler::watch_cpu_time(process);
    }

    /// Whether anything depends on the process's processor time.
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Sends the signals of processor timers that have ended by `time`.
    pub fn check_cpu(&self, process: &Process, time: u64) {
        for (which, signal) in [(0, raw::SIGVTALRM), (1, raw::SIGPROF)] {
            let ended = {
                let timer = &mut self.cpu.lock()[which];
                let ended = timer.end != 0 && timer.end <= time;
                if ended {
                    let next = time.saturating_add(timer.period);
                    timer.end = if timer.period == 0 { 0 } else { next };
                }
                ended
            };
            if ended {
                signal::send_to_process(process, Info::kernel(signal));
            }
        }
    }

    /// Turns everything off.
    pub fn cancel(&self) {
        let ended = {
            let mut real = self.real.lock();
            real.period = 0;
            real.alarm.take()
        };
        drop(ended);
        *self.cpu.lock() = [Cpu::default(); 2];
    }
}
