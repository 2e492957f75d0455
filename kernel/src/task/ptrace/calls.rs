//! System calls of tracees: on the way in, the tracer may change them or leave them out; on the way out,
//! it may change what they gave.

use super::{abi, hardware, stop, watch};
use crate::errno::Errno;
use crate::signal::{self, Info};
use crate::syscall;
use crate::task::thread::work;
use crate::task::{self, Thread};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use ringwall::Frame;

/// The handler of SYSCALL while a thread runs whose calls are watched.
pub(super) extern "sysv64" fn watched(frame: &mut Frame) {
    if begin(frame) {
        syscall::dispatch(frame);
    }
    if task::has_work() {
        task::exit_work(frame);
    }
}

/// The handler of SYSCALL otherwise: the same as the library has from boot.
pub(super) extern "sysv64" fn plain(frame: &mut Frame) {
    <crate::arch::traps::KernelHandlers as ringwall::Handlers>::syscall(frame);
}

/// A system call begins; its number is in the frame. False if it is not to be made; then RAX is what the
/// program gets.
pub fn begin(frame: &mut Frame) -> bool {
    let thread = task::current();
    let Some(tracee) = thread.traced() else {
        // The tracer ended while this ran.
        hardware::note(&thread, hardware::CALLS, false);
        hardware::switch_to(&thread);
        return true;
    };
    let calls = tracee.calls.load(Ordering::Relaxed);
    if calls & (watch::REPORT | watch::EMULATE) != 0 {
        frame.set_rax((Errno::ENOSYS.0 as u64).wrapping_neg());
        report(&thread, frame, abi::PTRACE_EVENTMSG_SYSCALL_ENTRY);
    }
    if tracee.watched(watch::REPORT | watch::STEP) {
        thread.add_work(work::CALL_ENDS);
    }
    let left_out = calls & watch::EMULATE != 0 || frame.number() as i32 == -1;
    !left_out && thread.pending_work() & work::KILL == 0
}

/// A system call has ended that was watched when it began, or since.
pub fn end(thread: &Thread, frame: &mut Frame) {
    let Some(tracee) = thread.traced() else { return };
    if tracee.watched(watch::STEP) && !tracee.watched(watch::EMULATE) {
        let rip = frame.rip();
        signal::fault(frame, raw::SIGTRAP, raw::TRAP_BRKPT as i32, rip, 1, 0, None);
    } else if tracee.watched(watch::REPORT) {
        report(thread, frame, abi::PTRACE_EVENTMSG_SYSCALL_EXIT);
    }
}

fn report(thread: &Thread, frame: &mut Frame, message: u32) {
    let Some(tracee) = thread.traced() else { return };
    let good = if tracee.has_option(abi::PTRACE_O_TRACESYSGOOD) { 0x80 } else { 0 };
    let signal = stop::notify(thread, frame, raw::SIGTRAP | good, message.into());
    if (1..=signal::LAST).contains(&signal) {
        signal::send_to_thread(thread, Info::kernel(signal));
    }
}
