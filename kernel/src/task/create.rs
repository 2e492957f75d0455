//! Making processes and threads.
//!
//! A new thread begins on its own task stack, which is prepared to look as if it had been switched
//! away from:
//!
//! ```text
//!   stack top
//!   - 176     the registers it enters ring 3 with
//!   - 184     0: nothing to return to
//!   - 192     address of `begin`
//!   - 240     callee-saved registers, unused   <- saved stack pointer
//! ```

use super::process::{Parts, Process};
use super::stack::Stack;
use super::switch::SAVED_BYTES;
use super::table;
use super::thread::{Thread, work};
use super::{current, exec, ptrace, scheduler, segments, way};
use crate::arch::{cpu, fpu::FpuState, selectors::Selectors};
use crate::errno::{Errno, Result};
use crate::fs::{FileTable, Paths};
use crate::mm::frame;
use crate::signal::Actions;
use crate::sync::Completion;
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use linux_raw_sys::ptrace as trace;
use ringwall::Frame;
use ringwall::core::segment::Descriptor;

/// What clone, clone3, fork and vfork ask for.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wanted {
    /// CLONE_* flags, without the exit signal.
    pub flags: u64,
    /// Stack pointer of the child; 0 for the parent's.
    pub stack: u64,
    /// For CLONE_PARENT_SETTID.
    pub parent_tid: u64,
    /// For CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID.
    pub child_tid: u64,
    /// For CLONE_SETTLS: the FS base.
    pub tls: u64,
    /// For CLONE_SETTLS by INT 80h: a GDT entry of its own, and its place.
    pub segment: Option<(usize, Descriptor)>,
    /// Sent to the parent when the child ends.
    pub exit_signal: u32,
}

impl Wanted {
    fn has(&self, flag: u32) -> bool {
        self.flags & u64::from(flag) != 0
    }

    fn check(&self) -> Result<()> {
        let unsupported = raw::CLONE_NEWNS
            | raw::CLONE_NEWCGROUP
            | raw::CLONE_NEWUTS
            | raw::CLONE_NEWIPC
            | raw::CLONE_NEWUSER
            | raw::CLONE_NEWPID
            | raw::CLONE_NEWNET
            | raw::CLONE_PIDFD;
        let bad = self.has(unsupported)
            || self.flags & raw::CLONE_INTO_CGROUP != 0
            || (self.has(raw::CLONE_SIGHAND) && !self.has(raw::CLONE_VM))
            || (self.has(raw::CLONE_THREAD) && !self.has(raw::CLONE_SIGHAND))
            || (self.has(raw::CLONE_SIGHAND) && self.flags & raw::CLONE_CLEAR_SIGHAND != 0)
            || (self.has(raw::CLONE_PARENT) && current().process.is_init())
            // FS bases outside of the user half would be kernel addresses.
            || self.exit_signal > crate::signal::LAST;
        if bad {
            return Err(Errno::EINVAL);
        }
        if self.has(raw::CLONE_SETTLS) && self.tls >= crate::mm::layout::USER_END {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

/// Makes a thread or process that goes on like the current thread, whose registers are `frame`.
/// Gives its identifier.
///
/// # Errors
/// `EINVAL` for flags that do not go together or are not served, `EAGAIN`, `ENOMEM`; `ERESTARTNOINTR` if a signal comes
/// first.
pub fn clone(frame: &mut Frame, wanted: &Wanted) -> Result<u32> {
    wanted.check()?;
    frame::admit()?;
    let parent = current();
    let (tid, group_signals) = {
        let mut table = table::lock();
        // One that was sent to its group is the parent's alone: the child is not to come after it.
        if !wanted.has(raw::CLONE_THREAD) && parent.has_signal() {
            return Err(Errno::ERESTARTNOINTR);
        }
        (table.take_identifier()?, parent.process.group_signals())
    };
    let event = match () {
        () if wanted.has(raw::CLONE_VFORK) => trace::PTRACE_EVENT_VFORK,
        () if wanted.exit_signal != raw::SIGCHLD => trace::PTRACE_EVENT_CLONE,
        () => trace::PTRACE_EVENT_FORK,
    };
    let made = make(&parent, (tid, group_signals), frame, wanted, event);
    let child = match made {
        Ok(child) => child,
        Err(error) => {
            table::lock().release(tid);
            return Err(error);
        }
    };
    if wanted.has(raw::CLONE_PARENT_SETTID) {
        // As on Linux, a bad address is not worth undoing everything.
        let _ = crate::user::write(wanted.parent_tid, &tid);
    }
    let vfork = wanted.has(raw::CLONE_VFORK).then(|| {
        let completion = Arc::new(Completion::new());
        *child.process.released.lock() = Some(Arc::clone(&completion));
        completion
    });
    scheduler::start(&child);
    drop(child);
    let traced = parent.is_traced() && wanted.flags & u64::from(raw::CLONE_UNTRACED) == 0;
    if traced {
        ptrace::event(&parent, frame, event, tid.into());
    }
    if let Some(completion) = vfork {
        // Interrupted only by being killed: then nobody is left to hear of it.
        let _ = completion.wait();
        if traced {
            ptrace::event(&parent, frame, trace::PTRACE_EVENT_VFORK_DONE, tid.into());
        }
    }
    Ok(tid)
}

/// `group_signals`: how many there were when the child's identifier was taken.
fn make(
    parent: &Thread,
    (tid, group_signals): (u32, u32),
    frame: &Frame,
    wanted: &Wanted,
    event: u32,
) -> Result<Arc<Thread>> {
    let stack = Stack::allocate()?;
    let is_thread = wanted.has(raw::CLONE_THREAD);
    let process = if is_thread {
        Arc::clone(&parent.process)
    } else {
        Arc::new(fork_process(&parent.process, tid, wanted)?)
    };
    let child =
        Arc::new(Thread::new(tid, Arc::clone(&process), Some(stack), FpuState::copy_current()?));
    inherit(parent, &child, wanted)?;
    let mut registers = *frame;
    registers.set_rax(0);
    ptrace::without_forced_trap(parent, &mut registers);
    if wanted.stack != 0 {
        registers.set_rsp(wanted.stack);
    }
    let (fs_base, gs_base) = scheduler::user_bases();
    let sets_base = wanted.has(raw::CLONE_SETTLS) && wanted.segment.is_none();
    let fs_base = if sets_base { wanted.tls } else { fs_base };
    let selectors = Selectors::present();
    let selectors = if sets_base { selectors.without_fs() } else { selectors };
    prepare(&child, &registers, (fs_base, gs_base), selectors);
    segments::inherit(&child, wanted.segment);
    let mut table = table::lock();
    if !is_thread {
        table.reserve_member(parent.process.group())?;
        // Who sends to a group has the table locked: it finds the child there, or the child does not come to be. If the
        // parent is killed, it never sees this.
        if parent.pending_work() & work::KILL != 0 {
            return Err(Errno::EAGAIN);
        }
        // Signals to the parent alone come too often for this: a timer's period may be shorter than a copy takes.
        if parent.process.group_signals() != group_signals {
            parent.add_work(work::SIGNAL);
            return Err(Errno::ERESTARTNOINTR);
        }
    }
    process.add_thread(&child)?;
    if !is_thread {
        let parent = &parent.process;
        let adopter = if wanted.has(raw::CLONE_PARENT) {
            table.process(parent.parent_id()).cloned()
        } else {
            None
        };
        table.add_process(&process, Some(adopter.as_deref().unwrap_or(parent)));
        if adopter.is_some() {
            let exit_signal = parent.exit_signal.load(Ordering::Relaxed);
            process.exit_signal.store(exit_signal, Ordering::Relaxed);
        }
    }
    table.add_thread(&child);
    if ptrace::tracer_of_new(parent, event, wanted.flags) {
        ptrace::follow(&mut table, parent, &child);
    }
    drop(table);
    way::adopt(&child);
    Ok(child)
}

fn fork_process(parent: &Process, pid: u32, wanted: &Wanted) -> Result<Process> {
    let mm = parent.mm.get().ok_or(Errno::ESRCH)?;
    let files = parent.files.get().ok_or(Errno::ESRCH)?;
    let paths = parent.paths.get().ok_or(Errno::ESRCH)?;
    let actions = parent.actions.get().ok_or(Errno::ESRCH)?;
    let parts = Parts {
        pid,
        mm: Some(if wanted.has(raw::CLONE_VM) { mm } else { mm.fork()? }),
        files: Some(if wanted.has(raw::CLONE_FILES) { files } else { files.fork()? }),
        paths: Some(if wanted.has(raw::CLONE_FS) { paths } else { paths.fork() }),
        actions: if wanted.has(raw::CLONE_SIGHAND) {
            actions
        } else if wanted.flags & raw::CLONE_CLEAR_SIGHAND != 0 {
            actions.without_handlers()
        } else {
            actions.fork()?
        },
        exit_signal: wanted.exit_signal,
    };
    Ok(Process::new(parts, Some(parent)))
}

/// What a new thread has from the one that makes it.
fn inherit(parent: &Thread, child: &Thread, wanted: &Wanted) -> Result<()> {
    child.blocked.store(parent.blocked(), Ordering::Relaxed);
    child.inherit_affinity(parent);
    child.set_name(&parent.name());
    child.maker.store(parent.tid(), Ordering::Relaxed);
    for (to, from) in child.trap.iter().zip(&parent.trap) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    // A thread on a stack of its own in the same memory must not share the alternate one.
    if !wanted.has(raw::CLONE_VM) || wanted.has(raw::CLONE_VFORK) {
        child.alternate_stack.copy(&parent.alternate_stack);
    }
    if wanted.has(raw::CLONE_CHILD_CLEARTID) {
        child.clear_child_tid.store(wanted.child_tid, Ordering::Relaxed);
    }
    if wanted.has(raw::CLONE_CHILD_SETTID) {
        child.set_child_tid.store(wanted.child_tid, Ordering::Relaxed);
    }
    let ports = parent.ports.lock();
    if !ports.is_none() {
        *child.ports.lock() = ports.copy().map_err(|_| Errno::ENOMEM)?;
    }
    Ok(())
}

/// Makes a thread that nobody knows yet ready to be switched to.
fn prepare(
    thread: &Thread,
    registers: &Frame,
    (fs_base, gs_base): (u64, u64),
    selectors: Selectors,
) {
    let frame = thread.frame_pointer();
    // SAFETY: the top of a mapped task stack that nobody runs on, aligned for a frame.
    unsafe { frame.write(*registers) };
    let nothing = frame.addr() as u64 - 8;
    let entry = nothing - 8;
    // SAFETY: below the frame on the same stack.
    unsafe { (nothing as *mut u64).write(0) };
    // SAFETY: below the frame on the same stack.
    unsafe { (entry as *mut u64).write(begin as *const () as u64) };
    // SAFETY: the thread is not known to any scheduler yet, so this is the only access.
    let context = unsafe { &mut *thread.context() };
    context.stack_pointer = entry - SAVED_BYTES;
    context.fs_base = fs_base;
    context.gs_base = gs_base;
    context.selectors = selectors;
}

/// Where a new thread begins, on its own stack.
extern "C" fn begin() -> ! {
    scheduler::finish_switch();
    let thread = current();
    let address = thread.set_child_tid.swap(0, Ordering::Relaxed);
    if address != 0 {
        let _ = crate::user::write(address, &thread.tid());
    }
    // SAFETY: `prepare` wrote it, and this thread alone uses its own stack.
    let frame = unsafe { &mut *thread.frame_pointer() };
    if thread.has_work() {
        super::exit_work(frame);
    }
    cpu::return_to_user(frame)
}

/// Makes the code that calls this this CPU's idle thread, so that there is a current thread.
/// Called once per CPU, before anything that may ask for it.
pub fn initialize_cpu() {
    let parts = Parts {
        pid: 0,
        mm: None,
        files: None,
        paths: None,
        actions: Arc::new(Actions::new()),
        exit_signal: 0,
    };
    let process = Arc::new(Process::new(parts, None));
    let fpu = FpuState::initial().expect("there is memory, at boot and where a CPU is added");
    let thread = Arc::new(Thread::new(0, process, None, fpu));
    thread.set_name(b"idle");
    scheduler::become_idle(thread);
}

/// Runs threads on this CPU for ever: where every CPU but the first ends up when it has been brought up.
pub fn run_idle() -> ! {
    initialize_cpu();
    scheduler::idle()
}

/// Makes process 1 from the program at `path` and runs it, and whatever it starts, for ever.
///
/// # Errors
/// Why the program cannot be run; then there is no process.
pub fn run_first(path: &[u8], arguments: Vec<Vec<u8>>, environment: Vec<Vec<u8>>) -> Errno {
    match make_first(path, arguments, environment) {
        Ok(thread) => scheduler::start(&thread),
        Err(error) => return error,
    }
    scheduler::idle()
}

fn make_first(
    path: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
) -> Result<Arc<Thread>> {
    let paths = Paths::root();
    let program = exec::prepare(&paths, path, arguments, &environment)?;
    let parts = Parts {
        pid: table::lock().take_identifier()?,
        mm: Some(program.loaded.mm),
        files: Some(FileTable::console()),
        paths: Some(paths),
        actions: Arc::new(Actions::new()),
        exit_signal: raw::SIGCHLD,
    };
    let pid = parts.pid;
    let process = Arc::new(Process::new(parts, None));
    process.describe(program.executable, program.loaded.arguments);
    let thread = Arc::new(Thread::new(
        pid,
        Arc::clone(&process),
        Some(Stack::allocate()?),
        FpuState::initial()?,
    ));
    thread.set_name(&program.name);
    prepare(
        &thread,
        &Frame::new_user(program.loaded.entry, program.loaded.stack),
        (0, 0),
        Selectors::default(),
    );
    process.add_thread(&thread)?;
    let mut table = table::lock();
    table.add_process(&process, None);
    table.add_thread(&thread);
    Ok(thread)
}
