//! Processes: what threads share.

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

    /// Its threads.
    pub fn threads(&self) -> Vec<Arc<Thread>> {
        let threads = self.threads.lock();
        table::collected(threads.len(), threads.iter().cloned())
    }

    /// Number of its threads.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Identifiers of its threads, in order.
    pub fn thread_ids(&self) -> Vec<u32> {
        let mut ids = {
            let threads = self.threads.lock();
            table::collected(threads.len(), threads.iter().map(|thread| thread.tid()))
        };
        ids.sort_unstable();
        ids
    }

    /// The thread whose identifier is the process's, unless it has ended.
    pub fn leader(&self) -> Option<Arc<Thread>> {
        let threads = self.threads.lock();
        // It is the first unless threads before it ended: those swap places.
        threads.iter().find(|thread| thread.tid() == self.pid).cloned()
    }

    /// Whether its first thread is traced.
    pub(crate) fn leader_is_traced(&self) -> bool {
        super::ptrace::any() && self.leader().is_some_and(|leader| leader.is_traced())
    }

    /// The leader, or any thread if it has ended; `None` once all have.
    pub fn some_thread(&self) -> Option<Arc<Thread>> {
        self.leader().or_else(|| self.threads.lock().first().cloned())
    }

    /// Adds a thread, unless the process is ending.
    pub(super) fn add_thread(&self, thread: &Arc<Thread>) -> crate::errno::Result<()> {
        use crate::errno::Errno;
        let mut threads = self.threads.lock();
        if self.ending().is_some() || self.executing.load(Ordering::Relaxed) {
            // The caller is about to be killed: it never sees this.
            return Err(Errno::EAGAIN);
        }
        threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        thread.slot.store(threads.len(), Ordering::Relaxed);
        threads.push(Arc::clone(thread));
        if self.signals.lock().stopped_by().is_some() {
            // The others were told to stop before this one was there.
            thread.add_work(super::work::SIGNAL);
        }
        Ok(())
    }

    /// Takes a thread out; gives the number left. Unless that is 0, [`Process::has_left`] follows.
    pub(super) fn remove_thread(&self, thread: &Thread) -> usize {
        let (gone, left) = {
            let mut threads = self.threads.lock();
            let slot = thread.slot.load(Ordering::Relaxed);
            let gone = threads.swap_remove(slot);
            if let Some(moved) = threads.get(slot) {
                moved.slot.store(slot, Ordering::Relaxed);
            }
            if !threads.is_empty() {
                self.leaving.fetch_add(1, Ordering::Relaxed);
            }
            (gone, threads.len())
        };
        drop(gone);
        left
    }

    /// A thread that was taken out has no relation to the process any more that others could see.
    pub(super) fn has_left(&self) {
        self.leaving.fetch_sub(1, Ordering::SeqCst);
        if self.executing.load(Ordering::SeqCst) {
            self.thread_ended.wake_all();
        }
    }

    /// Whether all that were taken out of the list have left for good.
    pub(super) fn nobody_leaves(&self) -> bool {
        self.leaving.load(Ordering::SeqCst) == 0
    }

    /// Whether one thread is left, and all others have left for good.
    pub(super) fn is_single(&self) -> bool {
        self.thread_count() == 1 && self.nobody_leaves()
    }

    /// The last thread waits for the others that leave. They do not sleep on their way.
    pub(super) fn wait_for_leaving(&self) {
        while !self.nobody_leaves() {
            crate::sync::relax();
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

    /// Whether it has ended and waits to be collected.
    pub fn is_zombie(&self) -> bool {
        self.zombie.load(Ordering::Acquire)
    }

    pub(super) fn set_zombie(&self) {
        self.zombie.store(true, Ordering::Release);
    }

    /// Adds time on a CPU.
    #[inline]
    pub(super) fn account(&self, nanoseconds: u64) {
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

impl Process {
    /// Looks at the process's processor time: timers that have ended, RLIMIT_CPU. True if it has
    /// to be looked at again soon.
    pub(super) fn check_cpu_limits(&self, _now: u64) -> bool {
        use crate::signal::{Info, send_to_process};
        use linux_raw_sys::general as raw;
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

/// What prctl and personality keep.
impl Process {
    /// Signal it gets when its parent ends; 0 for none.
    pub fn death_signal(&self) -> u32 {
        self.death_signal.load(Ordering::Relaxed)
    }

    /// Sets [`Process::death_signal`].
    pub fn set_death_signal(&self, signal: u32) {
        self.death_signal.store(signal, Ordering::Relaxed);
    }

    /// PR_GET_DUMPABLE.
    pub fn dumpable(&self) -> u32 {
        self.dumpable.load(Ordering::Relaxed)
    }

    /// PR_SET_DUMPABLE.
    pub fn set_dumpable(&self, value: u32) {
        self.dumpable.store(value, Ordering::Relaxed);
    }

    /// PR_SET_NO_NEW_PRIVS; there is no way back.
    pub fn set_no_new_privileges(&self) {
        self.no_new_privileges.store(true, Ordering::Relaxed);
    }

    /// Whether orphans among its descendants become its children.
    pub fn is_subreaper(&self) -> bool {
        self.is_subreaper.load(Ordering::Relaxed)
    }

    /// Sets [`Process::is_subreaper`].
    pub fn set_subreaper(&self, value: bool) {
        self.is_subreaper.store(value, Ordering::Relaxed);
    }

    /// Sets the personality unless `value` only asks; gives the old one.
    pub fn exchange_personality(&self, value: u32) -> u32 {
        const ASK: u32 = u32::MAX;
        match value {
            ASK => self.personality.load(Ordering::Relaxed),
            value => self.personality.swap(value, Ordering::Relaxed),
        }
    }

    /// Sets the nice value, which is kept within -20 to 19.
    pub fn set_nice(&self, value: i32) {
        self.nice.store(value.clamp(-20, 19).cast_unsigned(), Ordering::Relaxed);
    }
}
