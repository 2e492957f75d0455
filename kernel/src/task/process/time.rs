//! A process's time on CPUs, and what watches over it.

use super::Process;
use crate::signal::{Info, send_to_process};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;

impl Process {
    /// Adds time on a CPU.
    #[inline]
    pub(in crate::task) fn account(&self, nanoseconds: u64) {
        self.cpu_time.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Nanoseconds its threads have run, dead ones included.
    pub fn cpu_time(&self) -> u64 {
        let mut total = self.cpu_time.load(Ordering::Relaxed);
        let now = crate::time::now();
        for thread in self.threads.lock().iter() {
            if thread.is_on_cpu() {
                total += now.saturating_sub(thread.since.load(Ordering::Relaxed));
            }
        }
        // While a thread leaves a CPU, what it has run there may be in neither part for a moment. A clock does not
        // go back.
        self.told_time.fetch_max(total, Ordering::Relaxed).max(total)
    }

    /// Nanoseconds its collected children have run, with theirs.
    pub fn children_time(&self) -> u64 {
        self.children_time.load(Ordering::Relaxed)
    }

    /// Looks at the process's processor time: timers that have ended, RLIMIT_CPU. True if it has
    /// to be looked at again soon.
    pub(in crate::task) fn check_cpu_limits(&self, _now: u64) -> bool {
        if !self.intervals.is_watched() {
            return false;
        }
        let time = self.cpu_time();
        self.intervals.check_cpu(self, time);
        let (soft, hard) = self.limits.lock().get(raw::RLIMIT_CPU);
        let seconds = time / crate::time::SECOND;
        if seconds >= hard {
            send_to_process(self, Info::kernel(raw::SIGKILL));
        } else if seconds >= soft {
            // Once more each second, as Linux does.
            self.limits.lock().raise_soft(raw::RLIMIT_CPU, seconds + 1);
            send_to_process(self, Info::kernel(raw::SIGXCPU));
        }
        true
    }
}
