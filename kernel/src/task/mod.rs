//! Processes and threads.

use crate::errno::Result;
use alloc::{string::String, sync::Arc, vec::Vec};
use spin::Mutex;

/// A process: what its threads share.
pub struct Process {
    /// Process identifier (the first thread's).
    pub pid: u32,
    /// Its memory. Replaced by exec.
    pub mm: Mutex<Arc<crate::mm::Mm>>,
    /// Its descriptors. Shared by CLONE_FILES.
    pub files: Mutex<Arc<crate::fs::FileTable>>,
    /// Root, working directory, umask. Shared by CLONE_FS.
    pub paths: Mutex<Arc<crate::fs::Paths>>,
}

/// A thread of execution with its own task stack.
pub struct Thread {
    /// Thread identifier.
    pub tid: u32,
    /// The process it belongs to.
    pub process: Arc<Process>,
}

/// The thread that runs on this CPU.
pub fn current() -> Arc<Thread> {
    todo!()
}

/// Finds a process by identifier.
pub fn find(_pid: u32) -> Option<Arc<Process>> {
    todo!()
}

/// All processes, for /proc.
pub fn all() -> Vec<Arc<Process>> {
    todo!()
}

impl Process {
    /// Name as PR_SET_NAME and exec set it, at most 15 bytes.
    pub fn name(&self) -> String {
        todo!()
    }
    /// Parent's identifier.
    pub fn parent_id(&self) -> u32 {
        todo!()
    }
    /// Path of the program, for /proc/PID/exe.
    pub fn executable(&self) -> Vec<u8> {
        todo!()
    }
    /// Process group.
    pub fn group(&self) -> u32 {
        todo!()
    }
    /// Session.
    pub fn session(&self) -> u32 {
        todo!()
    }
    /// Letter of /proc/PID/stat: R, S, D, T, Z.
    pub fn state_letter(&self) -> char {
        todo!()
    }
    /// Identifiers of its threads.
    pub fn thread_ids(&self) -> Vec<u32> {
        todo!()
    }
}

/// Sends a terminal's signal to a process group (called from interrupts too).
pub fn signal_group(_group: u32, _signal: u32) -> Result<()> {
    todo!()
}

/// Sends a signal to the current thread (SIGPIPE and the like).
pub fn signal_current(_signal: u32) {
    todo!()
}
