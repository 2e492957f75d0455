//! Limits and what was used.

use super::process::Process;
use super::thread::Thread;
use crate::errno::{Errno, Result};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Nanoseconds of a clock tick as programs count them (USER_HZ is 100).
pub const TICK: u64 = 10_000_000;

const UNLIMITED: u64 = u64::MAX;

/// A process's resource limits: soft and hard, by RLIMIT_* number.
#[derive(Clone, Copy)]
pub struct Limits([(u64, u64); 16]);

impl Default for Limits {
    /// Those that Linux gives process 1.
    fn default() -> Self {
        let mut limits = [(UNLIMITED, UNLIMITED); 16];
        limits[raw::RLIMIT_STACK as usize].0 = 8 << 20;
        limits[raw::RLIMIT_CORE as usize].0 = 0;
        limits[raw::RLIMIT_NOFILE as usize] = (1024, 4096);
        limits[raw::RLIMIT_MEMLOCK as usize] = (8 << 20, 8 << 20);
        limits[raw::RLIMIT_MSGQUEUE as usize] = (819_200, 819_200);
        limits[raw::RLIMIT_NICE as usize] = (0, 0);
        limits[raw::RLIMIT_RTPRIO as usize] = (0, 0);
        limits[raw::RLIMIT_SIGPENDING as usize] = (4096, 4096);
        limits[raw::RLIMIT_NPROC as usize] = (UNLIMITED, UNLIMITED);
        Limits(limits)
    }
}

impl Limits {
    /// Soft and hard limit of resource `number`, which must be below 16.
    #[inline]
    pub fn get(&self, number: u32) -> (u64, u64) {
        self.0[number as usize]
    }

    /// Changes both limits.
    ///
    /// # Errors
    /// `EINVAL` for an unknown resource or a soft limit above the hard one, `EPERM` for raising the
    /// hard limit without privilege.
    pub fn set(&mut self, number: u32, limit: (u64, u64), privileged: bool) -> Result<()> {
        let old = self.0.get_mut(number as usize).ok_or(Errno::EINVAL)?;
        if limit.0 > limit.1 {
            return Err(Errno::EINVAL);
        }
        if limit.1 > old.1 && !privileged {
            return Err(Errno::EPERM);
        }
        *old = limit;
        Ok(())
    }

    /// Raises a soft limit, not above the hard one.
    pub(super) fn raise_soft(&mut self, number: u32, soft: u64) {
        let limit = &mut self.0[number as usize];
        limit.0 = soft.min(limit.1);
    }
}

/// struct rusage.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Usage {
    user_seconds: u64,
    user_microseconds: u64,
    system_seconds: u64,
    system_microseconds: u64,
    largest_memory: u64,
    unused: [u64; 3],
    minor_faults: u64,
    unused_too: [u64; 7],
    switches: u64,
    preemptions: u64,
}

const _: () = assert!(size_of::<Usage>() == size_of::<raw::rusage>());

impl Usage {
    /// `time` nanoseconds on a CPU, at most `memory` KiB. All time counts as the program's: what
    /// the kernel spends on its behalf is not told apart, since that would cost a clock reading on
    /// each way in and out.
    fn new(time: u64, memory: u64, faults: u64) -> Usage {
        Usage {
            user_seconds: time / crate::time::SECOND,
            user_microseconds: time % crate::time::SECOND / 1000,
            largest_memory: memory,
            minor_faults: faults,
            ..Usage::default()
        }
    }

    /// What a process used itself.
    pub fn of_process(process: &Process) -> Usage {
        process.note_memory();
        let memory = process.peak_memory.load(Ordering::Relaxed);
        Usage::new(process.cpu_time(), memory, process.faults.load(Ordering::Relaxed))
    }

    /// What one thread used.
    pub fn of_thread(thread: &Thread) -> Usage {
        Usage { switches: thread.switches(), ..Usage::new(thread.cpu_time(), 0, 0) }
    }

    /// What a process's collected children used, with theirs.
    pub fn of_children(process: &Process) -> Usage {
        let memory = process.children_peak.load(Ordering::Relaxed);
        Usage::new(process.children_time(), memory, 0)
    }

    /// What an ended child used, with its collected children.
    pub fn of_child(child: &Process) -> Usage {
        let time = child.cpu_time() + child.children_time();
        let memory = [&child.peak_memory, &child.children_peak]
            .map(|peak| peak.load(Ordering::Relaxed))
            .into_iter()
            .max();
        Usage::new(time, memory.unwrap_or(0), child.faults.load(Ordering::Relaxed))
    }
}

impl Process {
    /// Notes the most memory it ever had. Asked for before its memory goes and whenever somebody
    /// wants to know.
    pub(super) fn note_memory(&self) {
        if let Some(memory) = self.mm.get() {
            let kibibytes = memory.peak() as u64 * 4;
            self.peak_memory.fetch_max(kibibytes, Ordering::Relaxed);
        }
    }

    /// Adds an ended child's usage to the children's.
    pub(super) fn add_child_usage(&self, child: &Process) {
        let time = child.cpu_time() + child.children_time();
        self.children_time.fetch_add(time, Ordering::Relaxed);
        for peak in [&child.peak_memory, &child.children_peak] {
            self.children_peak.fetch_max(peak.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
