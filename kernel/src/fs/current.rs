//! What file calls, and files that describe, want to know of processes.

use super::{FileTable, Paths};
use crate::arch::cpu;
use crate::errno::{Errno, Result};
use crate::signal;
use crate::task::{self, Process, work};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as abi;

pub use crate::mm::frame::admit;

/// Its descriptors.
#[inline(always)]
pub fn files() -> &'static FileTable {
    task::current().files()
}

/// Its root, working directory and umask.
#[inline(always)]
pub fn paths() -> &'static Paths {
    task::current().paths()
}

/// Its identifier.
pub fn pid() -> u32 {
    task::current().process.pid
}

/// Its thread's identifier.
pub fn tid() -> u32 {
    task::current().tid()
}

/// Its process group.
pub fn group() -> u32 {
    task::current().process.group()
}

/// Its session.
pub fn session() -> u32 {
    task::current().process.session()
}

/// First descriptor that it may not have.
pub fn descriptor_limit() -> u32 {
    let (soft, _) = task::current().process.limits.lock().get(abi::RLIMIT_NOFILE);
    soft.min(u64::from(super::table::MOST)) as u32
}

/// Largest file that it may make.
pub fn size_limit() -> u64 {
    task::current().process.limits.lock().get(abi::RLIMIT_FSIZE).0
}

/// Runs `wait` with the signal mask that a program gave for its time (ppoll, pselect6).
///
/// # Errors
/// What `wait` reports.
pub fn with_mask<T>(mask: Option<u64>, wait: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(mask) = mask else { return wait() };
    let thread = task::current();
    crate::syscall::signal::replace_mask(&thread, mask);
    let result = wait();
    // A wait that a signal ended leaves the mask to the signal's delivery.
    if !matches!(result, Err(Errno::ERESTARTNOHAND | Errno::ERESTARTSYS | Errno::EINTR)) {
        thread.clear_work(work::RESTORE_MASK);
        signal::set_blocked(&thread, thread.saved_mask.load(Ordering::Relaxed));
    }
    result
}

/// Whether the running thread blocks or ignores `signal`.
pub fn ignores(signal: u32) -> bool {
    let thread = task::current();
    let (_, ignored, _) = thread.process.signal_sets();
    (thread.blocked() | ignored) >> (signal - 1) & 1 != 0
}

/// Users and groups a process acts for, as file permissions see them.
#[derive(Clone, Copy, Default)]
pub struct Identity {
    /// Effective, or real.
    pub user: u32,
    /// Effective, or real.
    pub group: u32,
}

/// Whom the running process acts for; root while the kernel boots.
pub fn identity(real: bool) -> Identity {
    if cpu::current_thread().is_null() {
        return Identity::default();
    }
    let thread = task::current();
    let credentials = thread.process.credentials.lock();
    if real {
        Identity { user: credentials.real_user, group: credentials.real_group }
    } else {
        Identity { user: credentials.effective_user, group: credentials.effective_group }
    }
}

/// Whether `group` is one of the running process's supplementary groups.
pub fn has_group(group: u32) -> bool {
    task::current().process.credentials.lock().groups.contains(&group)
}

/// User and group that own what /proc shows of a process.
pub fn owner(process: &Process) -> (u32, u32) {
    let credentials = process.credentials.lock();
    (credentials.effective_user, credentials.effective_group)
}

/// Gives the process descriptors of its own if it shares them.
///
/// # Errors
/// `EINVAL` if its own threads share them.
pub fn unshare_files() -> Result<()> {
    let process = &task::current().process;
    if process.files.is_sole() {
        return Ok(());
    }
    if process.thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    if let Some(files) = process.files.get() {
        drop(process.files.replace(Some(files.fork()?)));
    }
    Ok(())
}
