//! Isolation switched at run time: for the machine and for single processes.
//!
//! ```text
//!   setting changes ─► Mm open ─► threads flagged (work::WAY) ─► each, on its way to ring 3: set_way, leaves anew
//!                      threads flagged ─► Mm closed, shot down   (the other direction)
//! ```
//!
//! A thread leaves the kernel by the entry text that it came in by: the return address is on its stack. So only the
//! thread itself changes its way, as the last thing before it goes to ring 3, and does not go back through what called
//! it. A CPU goes by its thread: [`OPEN`] in `switch_work` says which way that has, so that a switch between two
//! threads with isolation looks no further than it does for traced ones.
//!
//! Invariants: a thread goes open only if its memory is open. Memory is closed after its threads were told; one of them
//! that is in ring 3 at that moment is interrupted by the shootdown, or faults on its next fetch.
//! A new thread looks at the setting after it can be found in the table: either it sees a change, or the change sees it.

use super::thread::{CurrentThread, Thread, work};
use super::{Process, ptrace, table};
use crate::arch::{cpu, isolation};
use crate::breaks::Break;
use crate::errno::{Errno, Result};
use crate::mm::Mm;
use crate::sync::Mutex;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use ringwall::Frame;
use ringwall_rules::isolation::Refused;

/// In [`Thread::switch_work`]: the thread goes to ring 3 under the kernel root.
pub const OPEN: u32 = 4;

/// Isolation is switched off for whoever follows the machine.
static MACHINE_IS_OPEN: AtomicBool = AtomicBool::new(false);
/// One change at a time. Before the table's lock and memory's.
static CHANGE: Mutex<()> = Mutex::new(());

fn machine_is_open() -> bool {
    MACHINE_IS_OPEN.load(Ordering::Relaxed)
}

/// Whether the machine has isolation now, for whoever follows it.
pub fn machine_is_isolated() -> bool {
    isolation::switchable() && !machine_is_open()
}

fn wants_open(mm: &Mm) -> bool {
    mm.isolation().is_open(machine_is_open())
}

/// Switches the isolation of the machine.
///
/// # Errors
/// `EPERM` but for root; `EINVAL` for isolation in a kernel that was booted without; `ENOMEM`.
pub fn switch_machine(isolated: bool) -> Result<()> {
    if !super::current().process.credentials.lock().is_privileged() {
        return Err(Errno::EPERM);
    }
    if !isolation::switchable() {
        return if isolated { Err(Errno::EINVAL) } else { Ok(()) };
    }
    let _one = CHANGE.lock();
    let was_open = MACHINE_IS_OPEN.swap(!isolated, Ordering::SeqCst);
    let all = table::all();
    // It has the caller in it, unless there is no memory for the list.
    if all.is_empty() {
        MACHINE_IS_OPEN.store(was_open, Ordering::SeqCst);
        return Err(Errno::ENOMEM);
    }
    settle(&all);
    crate::println!(
        "ringwall: isolation {} by process {}",
        if isolated { "switched on" } else { "switched off" },
        super::current().process.pid
    );
    Ok(())
}

/// PR_GET_PTI: what holds for the current process.
///
/// # Errors
/// `ENXIO` in a kernel that was booted without isolation.
pub fn ask() -> Result<usize> {
    match isolation::switchable() {
        true => Ok(super::current().mm().isolation().told(machine_is_open()) as usize),
        false => Err(Errno::ENXIO),
    }
}

/// PR_SET_PTI: switches the isolation of the current process and of whoever shares its memory.
///
/// # Errors
/// `ENXIO` in a kernel that was booted without isolation, `ERANGE` for a word that there is not, `EPERM`, `ENOMEM`.
pub fn switch_process(word: u64) -> Result<()> {
    if !isolation::switchable() {
        return Err(Errno::ENXIO);
    }
    let thread = super::current();
    let privileged = thread.process.credentials.lock().is_privileged();
    let mm = thread.mm();
    let _one = CHANGE.lock();
    let setting = mm.isolation().change(word, privileged).map_err(|refused| match refused {
        Refused::Unknown => Errno::ERANGE,
        Refused::Privilege => Errno::EPERM,
    })?;
    let all = table::all();
    if all.is_empty() {
        return Err(Errno::ENOMEM);
    }
    mm.set_isolation(setting);
    let mut sharing = all;
    sharing.retain(|process| process.mm.get().is_some_and(|other| core::ptr::eq(&*other, mm)));
    settle(&sharing);
    Ok(())
}

/// Brings memories and threads in line with what is set. [`CHANGE`] is held.
fn settle(processes: &[Arc<Process>]) {
    // What has no memory is ending, and goes to ring 3 no more; what gets another meanwhile sees to itself.
    let memories = || processes.iter().filter_map(|process| Some((process, process.mm.get()?)));
    for (_, mm) in memories() {
        if wants_open(&mm) && !mm.is_open() {
            mm.set_open(true);
        }
    }
    for (process, mm) in memories() {
        if Break::StaysOpen.is_on() && !wants_open(&mm) {
            continue;
        }
        // All of them, whatever they are now: one may be about to follow the setting before this one.
        for thread in process.threads.lock().iter() {
            thread.add_work(work::WAY);
        }
    }
    for (_, mm) in memories() {
        if !wants_open(&mm) && mm.is_open() && !Break::StaysOpen.is_on() {
            mm.set_open(false);
        }
    }
}

fn is_open(thread: &Thread) -> bool {
    thread.switch_work.load(Ordering::Acquire) & OPEN != 0
}

/// The thread goes to ring 3, and everything else is done: changes its way, and goes.
pub(super) fn change(thread: &CurrentThread, frame: &mut Frame) -> ! {
    thread.clear_work(work::WAY);
    let mm = thread.mm();
    let open = wants_open(mm) && mm.is_open();
    ptrace::hardware::note(thread, OPEN, open);
    set_cpu(open);
    cpu::return_to_user(frame)
}

fn set_cpu(open: bool) {
    let local = cpu::local();
    if local.is_open.load(Ordering::Relaxed) != open {
        local.is_open.store(open, Ordering::Relaxed);
        cpu::set_way(open);
    }
}

/// The CPU switches to `next`, and it or the thread before it is open.
pub(super) fn switch_to(next: &Thread) {
    match next.process.pid {
        // Whoever comes after the idle thread is to look again.
        0 => ptrace::hardware::note(next, OPEN, cpu::local().is_open.load(Ordering::Relaxed)),
        _ => set_cpu(is_open(next)),
    }
}

/// A new thread, which can be found in the table and has not run yet, gets the way that its memory has.
pub(super) fn adopt(child: &Thread) {
    // SAFETY: the child does not run yet; its process is new, or that of the current thread, which is no other thread's
    // to replace while this one lives.
    let Some(mm) = (unsafe { child.process.mm.borrow() }) else { return };
    if wants_open(mm) || mm.is_open() {
        let _one = CHANGE.lock();
        settle_new(child, mm);
    }
}

#[cold]
fn settle_new(thread: &Thread, mm: &Mm) {
    let open = wants_open(mm);
    if mm.is_open() != open {
        mm.set_open(open);
    }
    ptrace::hardware::note(thread, OPEN, open);
}

/// The current thread, its process's only one, has new memory: of the program before it, what outlives exec.
pub(super) fn executed(thread: &CurrentThread, old: &Mm) {
    let mm = thread.mm();
    mm.set_isolation(old.isolation().after_exec());
    if !wants_open(mm) && !is_open(thread) {
        return;
    }
    let _one = CHANGE.lock();
    let open = wants_open(mm);
    if mm.is_open() != open {
        mm.set_open(open);
    }
    if open != is_open(thread) {
        thread.add_work(work::WAY);
    }
}
