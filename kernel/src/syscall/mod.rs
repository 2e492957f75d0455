//! The Linux system-call interface.
//!
//! Each area declares its calls as a list; the table is put together at compile time.

use crate::errno::{Errno, Result};
use ringwall::Frame;

pub mod across;
pub mod files;
pub mod identity;
pub mod int80;
pub mod memory;
pub mod ports;
pub mod process;
pub mod resources;
pub mod segments;
pub mod signal;
pub mod system;
pub mod time;
pub mod timers;

/// One call: reads its arguments from the frame, gives what RAX gets.
pub type Call = fn(&mut Frame) -> u64;

/// Calls of one area: number and function.
pub type Calls = &'static [(u32, Call)];

/// RAX for the outcome of a call: the value, or the error number negated.
#[inline(always)]
pub fn for_rax(outcome: Result<usize>) -> u64 {
    match outcome {
        Ok(value) => value as u64,
        Err(Errno(number)) => (number as u64).wrapping_neg(),
    }
}

/// An area's list of `(number, function)`. Each function's outcome is made RAX's value where the
/// compiler sees both, so that a call that cannot fail pays nothing for it.
macro_rules! calls {
    ($(($number:expr, $function:expr)),* $(,)?) => {
        &[$(($number, |frame| $crate::syscall::for_rax($function(frame)))),*]
    };
}
pub(crate) use calls;

/// One more than the greatest number served.
pub const NUMBERS: usize = 512;

static TABLE: [Call; NUMBERS] = build(&[
    across::CALLS,
    files::CALLS,
    identity::CALLS,
    memory::CALLS,
    ports::CALLS,
    crate::task::ptrace::CALLS,
    process::CALLS,
    resources::CALLS,
    segments::CALLS,
    signal::CALLS,
    system::CALLS,
    time::CALLS,
    timers::CALLS,
]);

const fn build(areas: &[Calls]) -> [Call; NUMBERS] {
    let mut table: [Call; NUMBERS] = [unknown; NUMBERS];
    let mut area = 0;
    while area < areas.len() {
        let mut call = 0;
        while call < areas[area].len() {
            let (number, function) = areas[area][call];
            table[number as usize] = function;
            call += 1;
        }
        area += 1;
    }
    table
}

#[cold]
#[inline(never)]
fn unknown(frame: &mut Frame) -> u64 {
    for_rax(Err(system::unknown(frame.number() & 0xffff_ffff, false)))
}

/// Serves the call in `frame` and sets its RAX. A call's number is EAX: the upper half of RAX is not
/// looked at.
#[inline(always)]
pub fn dispatch(frame: &mut Frame) {
    let number = frame.number() as u32;
    let value = match TABLE.get(number as usize) {
        Some(call) => call(frame),
        None => unknown(frame),
    };
    frame.set_rax(value);
}
