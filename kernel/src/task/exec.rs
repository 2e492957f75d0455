//! Replacing a process's program.
//!
//! First everything that can fail: finding the file (through up to five interpreter lines),
//! loading it into new memory. Then the point of no return: the other threads end, the new memory
//! takes the old one's place, and what belongs to the old program goes.

use super::thread::{CurrentThread, Thread};
use super::{current, exit, overflow, ptrace, table, way};
use crate::arch::{cpu, fpu};
use crate::errno::{Errno, Result};
use crate::fs::{File, FileTable, Paths};
use crate::mm::{Loaded, Mm};
use crate::user;
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;
use ringwall_rules::script::{self, HEAD_BYTES};

/// Interpreter lines that may follow one another, as on Linux.
const SCRIPTS: usize = 5;
/// Longest single argument, NUL included, and all of them with their pointers (Linux: a quarter
/// of the stack limit, 8 MiB by default).
const LONGEST_ARGUMENT: usize = 128 << 10;
const ALL_ARGUMENTS: usize = 2 << 20;

/// A program that is ready to take over.
pub(super) struct Program {
    pub(super) loaded: Loaded,
    /// The file that was loaded.
    pub(super) executable: Arc<File>,
    /// Last part of the path that exec was given.
    pub(super) name: Vec<u8>,
}

/// Finds and loads the program at `path`.
pub(super) fn prepare(
    paths: &Paths,
    path: &[u8],
    arguments: Vec<Vec<u8>>,
    environment: &[Vec<u8>],
) -> Result<Program> {
    let image = paths.open_executable(path)?;
    prepare_image(paths, image, path, arguments, environment)
}

fn prepare_image(
    paths: &Paths,
    mut image: Arc<File>,
    path: &[u8],
    mut arguments: Vec<Vec<u8>>,
    environment: &[Vec<u8>],
) -> Result<Program> {
    crate::mm::frame::admit()?;
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).to_vec();
    let mut executable = path.to_vec();
    let mut scripts = 0;
    loop {
        let mut head = [0; HEAD_BYTES];
        let length = image.inode().read_at(0, &mut head)?;
        let script = script::interpreter(&head[..length]).map_err(|_| Errno::ENOEXEC)?;
        let Some(script) = script else { break };
        scripts += 1;
        if scripts > SCRIPTS {
            return Err(Errno::ELOOP);
        }
        // The script's name takes the place of its own first argument.
        let own = core::mem::replace(&mut executable, script.path.to_vec());
        let mut new = Vec::new();
        new.try_reserve_exact(arguments.len() + 2).map_err(|_| Errno::ENOMEM)?;
        new.push(script.path.to_vec());
        new.extend(script.argument.map(<[u8]>::to_vec));
        new.push(own);
        new.extend(arguments.into_iter().skip(1));
        arguments = new;
        image = paths.open_executable(&executable)?;
    }
    let loaded = Mm::load(paths, &image, &executable, &arguments, environment)?;
    Ok(Program { loaded, executable: image, name })
}

/// Reads a NULL-terminated array of strings. `left`: bytes that may still be used.
///
/// # Errors
/// `E2BIG`, `EFAULT`, `ENOMEM`.
pub fn read_strings(mut array: u64, left: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    // A null array is an empty one.
    while array != 0 {
        let pointer: u64 = user::read(array)?;
        if pointer == 0 {
            break;
        }
        let string = match user::read_string(pointer, LONGEST_ARGUMENT) {
            Err(Errno::ENAMETOOLONG) => return Err(Errno::E2BIG),
            other => other?,
        };
        let bytes = string.len() + 1 + size_of::<u64>();
        *left = left.checked_sub(bytes).ok_or(Errno::E2BIG)?;
        strings.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        strings.push(string);
        array = array.checked_add(8).ok_or(Errno::EFAULT)?;
    }
    Ok(strings)
}

/// execve: replaces the current process's program and makes `frame` enter it.
///
/// # Errors
/// Why it cannot; the old program goes on.
pub fn execute(
    frame: &mut Frame,
    path: &[u8],
    image: Option<Arc<File>>,
    arguments: u64,
    environment: u64,
) -> Result<()> {
    overflow::if_asked();
    let thread = current();
    let mut left = ALL_ARGUMENTS;
    let mut arguments = read_strings(arguments, &mut left)?;
    let environment = read_strings(environment, &mut left)?;
    if arguments.is_empty() {
        // Programs expect a name; Linux gives them an empty one.
        arguments.push(Vec::new());
    }
    let paths = thread.paths();
    let program = match image {
        Some(image) => prepare_image(paths, image, path, arguments, &environment)?,
        None => prepare(paths, path, arguments, &environment)?,
    };
    drop(environment);
    // Descriptors that another process shares stay that process's.
    let files = if thread.process.files.is_sole() { None } else { Some(thread.files().fork()?) };
    exit::kill_other_threads(&thread)?;
    take_over(thread, frame, program, files);
    Ok(())
}

/// The point of no return is passed.
fn take_over(
    thread: CurrentThread,
    frame: &mut Frame,
    program: Program,
    files: Option<Arc<FileTable>>,
) {
    let process = Arc::clone(&thread.process);
    exit::leave_memory(&thread);
    let former = thread.tid();
    become_leader(&thread);

    let Program { loaded, executable, name } = program;
    let (entry, stack) = (loaded.entry, loaded.stack);
    cpu::activate(loaded.mm.roots(), thread.stack_top());
    process.note_memory();
    let old = process.mm.replace(Some(loaded.mm));
    if let Some(old) = &old {
        way::executed(&thread, old);
    }
    // With the old memory gone, a parent that lent it goes on.
    drop(old);
    let released = process.released.lock().take();
    if let Some(completion) = released {
        completion.complete();
    }
    process.describe(executable, loaded.arguments);
    process.has_executed.store(true, Ordering::Relaxed);
    process.dumpable.store(1, Ordering::Relaxed);
    process.exit_signal.store(raw::SIGCHLD, Ordering::Relaxed);
    process.timers.clear();
    thread.set_name(&name);

    if let Some(files) = files {
        drop(process.files.replace(Some(files)));
    }
    thread.files().close_on_exec();
    if let Some(actions) = process.actions.get() {
        drop(process.actions.replace(Some(actions.for_exec())));
    }
    thread.alternate_stack.forget();
    *thread.restart.lock() = None;
    fpu::load_initial();
    super::segments::clear();
    super::scheduler::clear_selectors();
    super::scheduler::set_fs_base(0);
    super::scheduler::set_gs_base(0);
    ptrace::hardware::forget_breakpoints(&thread);
    let number = frame.number();
    *frame = Frame::new_user(entry, stack);
    if thread.is_traced() {
        ptrace::executed(&thread, frame, number, former);
    }
}

/// A thread other than the first takes over the process's identifier: exec keeps it.
fn become_leader(thread: &Thread) {
    let (own, pid) = (thread.tid(), thread.process.pid);
    if own == pid {
        return;
    }
    let mut table = table::lock();
    let old = ptrace::leader_changes(&mut table, thread);
    let this = table.remove_thread(own);
    thread.set_tid(pid);
    if let Some(this) = this {
        table.add_thread(&this);
    }
    drop(table);
    drop(old);
}
