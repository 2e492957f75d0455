//! Limits and what was used.

use super::process::Process;
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
    /// `time` nanoseconds on a CPU. All of it counts as the program's: what the kernel spends on
    /// its behalf is not told apart, since that would cost a clock reading on each way in and out.
    pub fn new(time: u64, faults: u64) -> Usage {
        Usage {
            user_seconds: time / crate::time::SECOND,
            user_microseconds: time % crate::time::SECOND / 1000,
            minor_faults: faults,
            ..Usage::default()
        }
    }

    /// What a child used, with its collected children.
    pub fn of_child(child: &Process) -> Usage {
        let time = child.cpu_time() + child.children_time();
        Usage::new(time, child.faults.load(Ordering::Relaxed))
    }
}
