//! timer_create and its kin: timers that a process has many of.

use super::interval::Setting;
use super::queue::{Alarm, Expire};
use crate::errno::{Errno, Result};
use crate::signal::{self, Info};
use crate::sync::Mutex;
use crate::task::{self, Process};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

/// Most timers of a process.
const LIMIT: usize = 128;

/// Whom a timer's end is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notify {
    /// Nobody.
    Nobody,
    /// The process, by a signal.
    Process(u32),
    /// One thread (identifier), by a signal.
    Thread(u32, u32),
}

/// One timer.
pub struct Timer {
    process: Weak<Process>,
    number: u32,
    /// It runs on the time of day, which a program may set.
    pub realtime: bool,
    notify: Notify,
    value: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    alarm: Option<Alarm>,
    period: u64,
    overrun: u32,
}

/// A process's timers, by number.
pub struct PosixTimers(Mutex<Vec<Option<Arc<Timer>>>>);

impl Default for PosixTimers {
    fn default() -> Self {
        PosixTimers::new()
    }
}

impl PosixTimers {
    /// None.
    pub const fn new() -> PosixTimers {
        PosixTimers(Mutex::new(Vec::new()))
    }

    /// Makes a timer; gives its number. `value`: what its signal carries, or its number.
    ///
    /// # Errors
    /// `EAGAIN` if there are too many.
    pub fn create(
        &self,
        process: &Arc<Process>,
        realtime: bool,
        notify: Notify,
        value: Option<u64>,
    ) -> Result<u32> {
        let mut timers = self.0.lock();
        let free = timers.iter().position(Option::is_none);
        let number = free.unwrap_or(timers.len());
        if number >= LIMIT {
            return Err(Errno::EAGAIN);
        }
        let timer = Some(Arc::new(Timer {
            process: Arc::downgrade(process),
            number: number as u32,
            realtime,
            notify,
            value: value.unwrap_or(number as u64),
            state: Mutex::new(State::default()),
        }));
        match timers.get_mut(number) {
            Some(place) => *place = timer,
            None => timers.push(timer),
        }
        Ok(number as u32)
    }

    /// The timer of a number.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn get(&self, number: u32) -> Result<Arc<Timer>> {
        let timers = self.0.lock();
        timers.get(number as usize).and_then(Option::as_ref).cloned().ok_or(Errno::EINVAL)
    }

    /// Takes a timer away.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn delete(&self, number: u32) -> Result<()> {
        let timer = self.0.lock().get_mut(number as usize).and_then(Option::take);
        timer.ok_or(Errno::EINVAL)?.set(None, 0);
        Ok(())
    }

    /// Takes all away (exec, exit).
    pub fn clear(&self) {
        let timers = core::mem::take(&mut *self.0.lock());
        for timer in timers.into_iter().flatten() {
            timer.set(None, 0);
        }
    }
}

impl Timer {
    /// Time left and period.
    pub fn setting(&self) -> Setting {
        let state = self.state.lock();
        let now = super::now();
        let left =
            state.alarm.as_ref().map_or(0, |alarm| alarm.deadline().saturating_sub(now).max(1));
        Setting { left, period: state.period }
    }

    /// Arms the timer for `deadline` (of [`super::now`]), or turns it off.
    pub fn set(self: &Arc<Self>, deadline: Option<u64>, period: u64) {
        let alarm =
            deadline.map(|deadline| Alarm::set(deadline, Arc::clone(self) as Arc<dyn Expire>));
        let ended = {
            let mut state = self.state.lock();
            state.period = if alarm.is_some() { period } else { 0 };
            state.overrun = 0;
            core::mem::replace(&mut state.alarm, alarm)
        };
        drop(ended);
    }

    /// Ends that the last signal stood for beyond the first.
    pub fn overrun(&self) -> u32 {
        self.state.lock().overrun
    }
}

impl Expire for Timer {
    fn expire(self: Arc<Self>, now: u64) {
        let overrun = {
            let mut state = self.state.lock();
            // On another CPU it may have been set anew since it went off.
            let due = |alarm: &mut Alarm| alarm.deadline() <= now;
            let Some(ended) = state.alarm.take_if(due) else { return };
            let mut missed = 0;
            let late = now.saturating_sub(ended.deadline());
            if let Some(periods) = late.checked_div(state.period) {
                missed = periods;
                let next = (missed + 1).saturating_mul(state.period);
                let next = ended.deadline().saturating_add(next);
                state.alarm = Some(Alarm::set(next, Arc::clone(&self) as Arc<dyn Expire>));
            }
            state.overrun = missed.min(u64::from(i32::MAX.unsigned_abs())) as u32;
            state.overrun
        };
        let Some(process) = self.process.upgrade() else { return };
        let info = |signal| Info::timer(signal, self.number, overrun, self.value);
        match self.notify {
            Notify::Nobody => {}
            Notify::Process(signal) => signal::send_to_process(&process, info(signal)),
            Notify::Thread(tid, signal) => {
                // The thread may have ended, and another process's have its identifier.
                let thread = task::find_thread(tid);
                if let Some(thread) = thread.filter(|thread| Arc::ptr_eq(&thread.process, &process))
                {
                    signal::send_to_thread(&thread, info(signal));
                }
            }
        }
    }
}
