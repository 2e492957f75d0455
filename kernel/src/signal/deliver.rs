//! Delivery: what happens to a thread's signals on its way out to ring 3.
//!
//! An interrupted system call ends with one of the codes that programs never see. Here they become
//! what the program sees: EINTR, or the call anew, by putting RIP back on its SYSCALL or INT 80h
//! instruction (both are two bytes long) and the number back in RAX.

use super::send::{block, recalculate, set_blocked};
use super::{
    Action, Actions, DEFAULT, DUMPS, IGNORE, IGNORED_BY_DEFAULT, Info, STOPS, bit, frame, stop,
};
use crate::errno::Errno;
use crate::task::{self, Thread, exit, ptrace, work};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;

const SYSCALL_BYTES: u64 = 2;
const INT_80: u8 = 0x80;
const NO_CALL: u64 = u64::MAX;

enum Next {
    /// Go to the handler.
    Handle(Info, Action),
    /// The process is stopped, or was.
    Stop,
    /// Nothing to deliver.
    Nothing,
}

/// Delivers the current thread's signals, or goes on with the call that they interrupted.
pub fn deliver(frame: &mut Frame) {
    let thread = task::current();
    loop {
        match next(&thread, frame) {
            Next::Handle(info, action) => {
                restart_before_handler(frame, &action);
                handle(&thread, frame, &info, &action);
                recalculate(&thread);
                // Further signals put their frames on top of this one.
                if !thread.has_signal() {
                    return;
                }
            }
            Next::Stop => {
                if !thread.is_traced() {
                    stop::park(&thread);
                }
                if thread.pending_work() & work::KILL != 0 {
                    return;
                }
            }
            Next::Nothing => {
                restart_without_handler(frame);
                if thread.pending_work() & work::RESTORE_MASK != 0 {
                    thread.clear_work(work::RESTORE_MASK);
                    set_blocked(&thread, thread.saved_mask.load(Ordering::Relaxed));
                    // A signal that only the call's mask held back comes now.
                    if thread.has_signal() {
                        continue;
                    }
                }
                return;
            }
        }
    }
}

/// Takes signals until one needs something done outside of the locks.
fn next(thread: &Thread, frame: &mut Frame) -> Next {
    let process = &thread.process;
    loop {
        if thread.pending_work() & work::KILL != 0 {
            return Next::Nothing;
        }
        if ptrace::trap_if_due(thread, frame) {
            continue;
        }
        let wanted = !thread.blocked();
        let (taken, continues) = {
            let mut shared = process.signals.lock();
            if shared.stopped_by.is_some() && ptrace::takes_part(thread) {
                return Next::Stop;
            }
            let own = thread.pending.lock().take(wanted);
            (own.or_else(|| shared.pending.take(wanted)), shared.continues)
        };
        let Some(info) = taken else {
            recalculate(thread);
            return if thread.pending_work() & work::SIGNAL != 0 {
                continue;
            } else {
                Next::Nothing
            };
        };
        let Some(info) = ptrace::signal_arrives(thread, frame, info) else { continue };
        let signal = info.number();
        // SAFETY: this is the process's own thread; exec is not under way on it.
        let Some(actions) = (unsafe { process.actions.borrow() }) else { return Next::Nothing };
        let action = actions.take(signal);
        match action.handler {
            IGNORE => continue,
            DEFAULT if bit(signal) & IGNORED_BY_DEFAULT != 0 => continue,
            // Process 1 does not do what it has no handler for.
            DEFAULT if process.is_init() => continue,
            DEFAULT if bit(signal) & STOPS != 0 => {
                let meant = ptrace::stop_is_meant(thread);
                if !meant || (signal != raw::SIGSTOP && stop::is_unattended(process)) {
                    continue;
                }
                stop::begin(process, signal, continues);
                return Next::Stop;
            }
            DEFAULT => exit::end_by_signal(signal, dump_flag(thread, signal)),
            _ => return Next::Handle(info, action),
        }
    }
}

/// The wait status bit that says that a core was dumped: set where Linux would write one, which is
/// not with the limits that programs have at boot. No core is ever written here.
fn dump_flag(thread: &Thread, signal: u32) -> u32 {
    let limit = thread.process.limits.lock().get(raw::RLIMIT_CORE).0;
    if bit(signal) & DUMPS != 0 && limit >= 4096 { 0x80 } else { 0 }
}

/// Writes the handler's frame and sets mask and registers for it.
fn handle(thread: &Thread, frame: &mut Frame, info: &Info, action: &Action) {
    let signal = info.number();
    let mask = if thread.pending_work() & work::RESTORE_MASK != 0 {
        thread.saved_mask.load(Ordering::Relaxed)
    } else {
        thread.blocked()
    };
    let stepped = ptrace::leave_for_handler(thread, frame);
    if frame::push(thread, frame, info, action, mask).is_err() {
        // There is nowhere to write: SIGSEGV, and for good if that was the signal.
        if signal == raw::SIGSEGV {
            end_init_or(raw::SIGSEGV, thread, frame);
        }
        force(frame, Info::kernel(raw::SIGSEGV));
        return;
    }
    thread.clear_work(work::RESTORE_MASK);
    let own = if action.has(raw::SA_NODEFER) { 0 } else { bit(signal) };
    block(thread, action.mask | own);
    if stepped {
        ptrace::notify(thread, frame, raw::SIGTRAP, 0);
    }
}

/// A signal that an instruction of the current thread caused and that cannot wait: its handler
/// runs next, or the process dies of it. The trap is remembered for the signal's frame, and the fault
/// address, if it has one, until the next that has.
#[allow(clippy::too_many_arguments)]
pub fn fault(
    frame: &mut Frame,
    signal: u32,
    code: i32,
    address: u64,
    trap: u64,
    error_code: u64,
    cr2: Option<u64>,
) {
    let thread = task::current();
    let [trap_word, error_word, address_word] = &thread.trap;
    trap_word.store(trap, Ordering::Relaxed);
    error_word.store(error_code, Ordering::Relaxed);
    if let Some(cr2) = cr2 {
        address_word.store(cr2, Ordering::Relaxed);
    }
    force(frame, Info::fault(signal, code, address));
}

/// Delivers a signal that may be neither blocked nor ignored to the current thread, now.
pub fn force(frame: &mut Frame, info: Info) {
    let thread = task::current();
    let signal = info.number();
    // SAFETY: this is the process's own thread; exec is not under way on it.
    let Some(actions) = (unsafe { thread.process.actions.borrow() }) else { return };
    let blocked = thread.blocked() & bit(signal) != 0;
    if thread.is_traced() && signal != raw::SIGKILL {
        return force_on_tracee(&thread, actions, info, blocked);
    }
    let action = actions.take(signal);
    if blocked || action.handler <= IGNORE {
        actions.reset(signal);
        end_init_or(signal, &thread, frame);
    }
    restart_before_handler(frame, &action);
    handle(&thread, frame, &info, &action);
}

/// A tracer hears of the signal before it has any effect.
fn force_on_tracee(thread: &Thread, actions: &Actions, info: Info, blocked: bool) {
    let signal = info.number();
    if blocked || actions.get(signal).handler == IGNORE {
        actions.reset(signal);
        set_blocked(thread, thread.blocked() & !bit(signal));
    }
    // Standard signals fit in any queue, or come without details.
    let _ = thread.pending.lock().push(info, u64::MAX);
    thread.add_work(work::SIGNAL);
}

/// The current process dies of `signal`; for process 1, says what happened first.
fn end_init_or(signal: u32, thread: &Thread, frame: &Frame) -> ! {
    if thread.process.is_init() {
        let [trap, error, address] =
            [0, 1, 2].map(|word| thread.trap[word].load(Ordering::Relaxed));
        crate::println!(
            "process 1 faults: signal {signal}, vector {trap}, error code {error:#x}, \
             address {address:#x}, rip {:#x}, rsp {:#x}",
            frame.rip(),
            frame.rsp(),
        );
    }
    exit::end_by_signal(signal, dump_flag(thread, signal))
}

/// The code with which an interrupted call ended, if `frame` is one of a call.
fn interrupted(frame: &Frame) -> Option<Errno> {
    let is_call = matches!(frame.vector(), None | Some(INT_80)) && frame.number() != NO_CALL;
    let code = (frame.rax() as usize).wrapping_neg();
    (is_call && (512..=516).contains(&code)).then_some(Errno(code))
}

fn call_again(frame: &mut Frame, number: u64) {
    frame.set_rax(number);
    frame.set_rip(frame.rip().wrapping_sub(SYSCALL_BYTES));
}

fn restart_before_handler(frame: &mut Frame, action: &Action) {
    let again = match interrupted(frame) {
        None => return,
        Some(Errno::ERESTARTSYS) => action.has(raw::SA_RESTART),
        Some(Errno::ERESTARTNOINTR) => true,
        Some(_) => false,
    };
    if again {
        call_again(frame, frame.number());
    } else {
        frame.set_rax((Errno::EINTR.0 as u64).wrapping_neg());
    }
}

fn restart_without_handler(frame: &mut Frame) {
    match interrupted(frame) {
        None => {}
        Some(Errno::ERESTART_RESTARTBLOCK) => {
            let number = match frame.vector() {
                Some(_) => crate::syscall::int80::RESTART_SYSCALL,
                None => raw::__NR_restart_syscall,
            };
            call_again(frame, u64::from(number));
        }
        Some(_) => call_again(frame, frame.number()),
    }
}
