//! The Linux system-call interface.
//!
//! Each area declares its calls as a list; the table is put together at compile time.

use crate::errno::{Errno, Result};
use ringwall::Frame;

pub mod files;
pub mod identity;
pub mod int80;
pub mod memory;
pub mod process;
pub mod resources;
pub mod signal;
pub mod system;
pub mod time;

/// One call: reads its arguments from the frame, gives the value for RAX.
pub type Call = fn(&mut Frame) -> Result<usize>;

/// Calls of one area: number and function.
pub type Calls = &'static [(u32, Call)];

/// One more than the greatest number served.
pub const NUMBERS: usize = 512;

static TABLE: [Call; NUMBERS] = build(&[
    files::CALLS,
    identity::CALLS,
    memory::CALLS,
    process::CALLS,
    resources::CALLS,
    signal::CALLS,
    system::CALLS,
    time::CALLS,
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

fn unknown(frame: &mut Frame) -> Result<usize> {
    Err(system::unknown(frame.number(), false))
}

/// Serves the call in `frame` and sets its RAX. Success is the straight line: every program's every
/// call runs these instructions.
#[inline(always)]
pub fn dispatch(frame: &mut Frame) {
    let Some(call) = TABLE.get(frame.number() as usize) else {
        let error = system::unknown(frame.number(), false);
        return fail(frame, error);
    };
    match call(frame) {
        Ok(value) => frame.set_rax(value as u64),
        Err(error) => fail(frame, error),
    }
}

/// Sets RAX to what programs take for `error`.
#[cold]
#[inline(never)]
fn fail(frame: &mut Frame, error: Errno) {
    frame.set_rax((error.0 as u64).wrapping_neg());
}
