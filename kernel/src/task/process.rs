//! Processes: what threads share.

mod properties;
mod threads;
mod time;

use super::credentials::Credentials;
use super::resources::Limits;
use super::table;
use super::thread::Thread;
use crate::fs::{File, FileTable, Paths};
use crate::mm::Mm;
use crate::signal::{Actions, Shared};
use crate::sync::Mutex;
use crate::sync::{Completion, Own, WaitQueue};
use crate::time::interval::Intervals;
use crate::time::posix::PosixTimers;
use alloc::{string::String, sync::Arc, vec::Vec};
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Set in `exit` once it is decided how the process ends.
const ENDING: u32 = 1 << 31;

/// A process: what its threads share.
pub struct Process {
    /// Process identifier (the first thread's).
    pub pid: u32,
    pub(super) parent: AtomicU32,
    pub(super) group: AtomicU32,
    pub(super) session: AtomicU32,
    /// Its memory. Replaced by exec, gone when it has ended.
    pub mm: Own<Mm>,
    /// Its descriptors. Shared by CLONE_FILES; gone when it has ended.
    pub files: Own<FileTable>,
    /// Root, working directory, umask. Shared by CLONE_FS; gone when it has ended.
    pub paths: Own<Paths>,
    pub(crate) threads: Mutex<Vec<Arc<Thread>>>,
    /// Woken when a thread ends, for exec.
    pub(super) thread_ended: WaitQueue,
    /// Threads that are in the list no more, but not yet rid of their other relations.
    leaving: AtomicU32,
    /// An exec waits until one thread is left.
    pub(super) executing: AtomicBool,
    /// How the process ends: [`ENDING`] and the wait status.
    exit: AtomicU32,
    /// Wait status of the first thread if it ended before others.
    pub(super) leader_code: AtomicU32,
    /// It has ended and waits to be collected.
    zombie: AtomicBool,
    /// It has ended, but its tracer, who is not its parent, has to hear of it first; or its parent does not want to.
    pub(super) withheld: AtomicBool,
    /// Signal its parent gets when it ends; 0 for none.
    pub(super) exit_signal: AtomicU32,
    pub(crate) signals: Mutex<Shared>,
    /// How many signals were sent to it as one of several. Changes with the table locked.
    group_signals: AtomicU32,
    pub(crate) actions: Own<Actions>,
    /// Woken when a child ends, stops or goes on.
    pub(crate) child_events: WaitQueue,
    /// The parent of a vfork waits for this.
    pub(super) released: Mutex<Option<Arc<Completion>>>,
    name: Mutex<[u8; 16]>,
    description: Mutex<Description>,
    /// Who it acts for.
    pub credentials: Mutex<Credentials>,
    /// Resource limits.
    pub limits: Mutex<Limits>,
    /// setitimer's timers.
    pub intervals: Intervals,
    /// timer_create's timers.
    pub timers: PosixTimers,
    /// Nanoseconds since boot when it was made.
    pub start_time: u64,
    cpu_time: AtomicU64,
    /// The most that was told of it.
    told_time: AtomicU64,
    pub(super) children_time: AtomicU64,
    /// Most memory seen, in KiB: its own, and that of its collected children.
    pub(super) peak_memory: AtomicU64,
    pub(super) children_peak: AtomicU64,
    /// Page faults it took, for getrusage.
    pub faults: AtomicU64,
    pub(super) personality: AtomicU32,
    pub(super) nice: AtomicU32,
    pub(super) dumpable: AtomicU32,
    pub(super) death_signal: AtomicU32,
    pub(super) no_new_privileges: AtomicBool,
    pub(super) is_subreaper: AtomicBool,
    /// It has called exec since it was made: setpgid by the parent is refused then.
    pub(super) has_executed: AtomicBool,
}

#[derive(Clone, Default)]
struct Description {
    executable: Option<Arc<File>>,
    arguments: Range<u64>,
}

/// What a new process is made of.
pub(super) struct Parts {
    pub pid: u32,
    pub mm: Option<Arc<Mm>>,
    pub files: Option<Arc<FileTable>>,
    pub paths: Option<Arc<Paths>>,
    pub actions: Arc<Actions>,
    pub exit_signal: u32,
}

impl Process {
    /// A process without threads that is in no table. `parent`: whose properties it inherits.
    pub(super) fn new(parts: Parts, parent: Option<&Process>) -> Process {
        let number = |read: fn(&Process) -> &AtomicU32, otherwise| {
            AtomicU32::new(parent.map_or(otherwise, |parent| read(parent).load(Ordering::Relaxed)))
        };
        let flag = |read: fn(&Process) -> &AtomicBool| {
            AtomicBool::new(parent.is_some_and(|parent| read(parent).load(Ordering::Relaxed)))
        };
        Process {
            pid: parts.pid,
            parent: AtomicU32::new(0),
            group: AtomicU32::new(0),
            session: AtomicU32::new(0),
            mm: Own::new(parts.mm),
            files: Own::new(parts.files),
            paths: Own::new(parts.paths),
            threads: Mutex::new(Vec::new()),
            thread_ended: WaitQueue::new(),
            leaving: AtomicU32::new(0),
            executing: AtomicBool::new(false),
            exit: AtomicU32::new(0),
            leader_code: AtomicU32::new(0),
            zombie: AtomicBool::new(false),
            withheld: AtomicBool::new(false),
            exit_signal: AtomicU32::new(parts.exit_signal),
            signals: Mutex::new(Shared::new()),
            group_signals: AtomicU32::new(0),
            actions: Own::new(Some(parts.actions)),
            child_events: WaitQueue::new(),
            released: Mutex::new(None),
            name: Mutex::new(parent.map_or([0; 16], |parent| *parent.name.lock())),
            description: Mutex::new(
                parent.map(|parent| parent.description.lock().clone()).unwrap_or_default(),
            ),
            credentials: Mutex::new(
                parent.map(|parent| parent.credentials.lock().clone()).unwrap_or_default(),
            ),
            limits: Mutex::new(parent.map(|parent| *parent.limits.lock()).unwrap_or_default()),
            intervals: Intervals::new(),
            timers: PosixTimers::new(),
            start_time: crate::time::now(),
            cpu_time: AtomicU64::new(0),
            told_time: AtomicU64::new(0),
            children_time: AtomicU64::new(0),
            peak_memory: AtomicU64::new(0),
            children_peak: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            personality: number(|process| &process.personality, 0),
            nice: number(|process| &process.nice, 0),
            dumpable: number(|process| &process.dumpable, 1),
            death_signal: AtomicU32::new(0),
            no_new_privileges: flag(|process| &process.no_new_privileges),
            is_subreaper: AtomicBool::new(false),
            has_executed: AtomicBool::new(false),
        }
    }

    /// Name as PR_SET_NAME and exec set it, at most 15 bytes.
    pub fn name(&self) -> String {
        let name = *self.name.lock();
        let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..length]).into_owned()
    }

    pub(super) fn set_name(&self, name: [u8; 16]) {
        *self.name.lock() = name;
    }

    /// Parent's identifier.
    #[inline(always)]
    pub fn parent_id(&self) -> u32 {
        self.parent.load(Ordering::Relaxed)
    }

    /// The program, for /proc/PID/exe.
    pub fn executable(&self) -> Option<Arc<File>> {
        self.description.lock().executable.clone()
    }

    /// Where in its memory the arguments lie, for /proc/PID/cmdline.
    pub fn arguments(&self) -> Range<u64> {
        self.description.lock().arguments.clone()
    }

    pub(super) fn describe(&self, executable: Arc<File>, arguments: Range<u64>) {
        let new = Description { executable: Some(executable), arguments };
        let old = core::mem::replace(&mut *self.description.lock(), new);
        drop(old);
    }

    /// Process group.
    pub fn group(&self) -> u32 {
        self.group.load(Ordering::Relaxed)
    }

    /// Session.
    pub fn session(&self) -> u32 {
        self.session.load(Ordering::Relaxed)
    }

    /// Letter of /proc/PID/stat: R, S, D, T, Z.
    pub fn state_letter(&self) -> char {
        if self.is_zombie() {
            return 'Z';
        }
        match self.leader() {
            Some(leader) => leader.state_letter(),
            // The first thread ended before the others.
            None => 'Z',
        }
    }

    /// The wait status it will end with, once that is decided.
    pub fn ending(&self) -> Option<u32> {
        let exit = self.exit.load(Ordering::Acquire);
        (exit & ENDING != 0).then_some(exit & !ENDING)
    }

    /// Decides how the process ends; the first decision holds. True if this was it.
    pub(super) fn decide_ending(&self, status: u32) -> bool {
        self.exit.compare_exchange(0, status | ENDING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// A signal is sent to it as one of several processes. For who has the table locked.
    pub(crate) fn note_group_signal(&self) {
        let count = self.group_signals.load(Ordering::Relaxed);
        self.group_signals.store(count.wrapping_add(1), Ordering::Relaxed);
    }

    /// How many were. For who has the table locked.
    pub(super) fn group_signals(&self) -> u32 {
        self.group_signals.load(Ordering::Relaxed)
    }

    /// Whether it has ended and waits to be collected.
    pub fn is_zombie(&self) -> bool {
        self.zombie.load(Ordering::Acquire)
    }

    pub(super) fn set_zombie(&self) {
        self.zombie.store(true, Ordering::Release);
    }

    /// Whether signal 0 and its like reach it: it has not been collected.
    pub fn is_init(&self) -> bool {
        self.pid == 1
    }

    /// nice value, -20 to 19.
    pub fn nice(&self) -> i32 {
        self.nice.load(Ordering::Relaxed).cast_signed()
    }

    /// Number of its living children.
    pub fn has_children(&self) -> bool {
        table::has_children(self.pid)
    }

    /// Set of signals pending for the process as a whole, of ignored ones and of caught ones, for
    /// /proc/PID/status.
    pub fn signal_sets(&self) -> (u64, u64, u64) {
        let pending = self.signals.lock().pending.set;
        let (ignored, caught) =
            self.actions.get().map_or((0, 0), |actions| (actions.ignored(), actions.caught()));
        (pending, ignored, caught)
    }

    /// Whether PR_SET_NO_NEW_PRIVS was used.
    pub fn no_new_privileges(&self) -> bool {
        self.no_new_privileges.load(Ordering::Relaxed)
    }
}
