//! A test hook: `ringwall.overflow_stack` on the command line.
//!
//! With that word the first program that replaces itself (execve) runs its task stack over instead, on
//! purpose: the recursion reaches the guard below the stack, the page fault cannot be pushed there, and
//! the double fault's report has to name the thread, its stack and the guard. Never for use.

use core::hint::black_box;
use core::sync::atomic::{AtomicBool, Ordering};

/// The word on the command line.
pub const WORD: &[u8] = b"ringwall.overflow_stack";

/// Bytes of stack that each call takes: less than the guard has, so that none steps over it.
const BYTES_PER_CALL: usize = 512;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Makes the next [`if_asked`] overrun its stack.
pub fn ask() {
    ASKED.store(true, Ordering::Relaxed);
}

/// Overruns the current task stack if the command line said so.
#[inline]
pub(super) fn if_asked() {
    if ASKED.load(Ordering::Relaxed) {
        crate::println!("ringwall: the command line asks for a stack overflow: here it is");
        recurse(0);
    }
}

/// Calls itself without an end. No tail call: the array is used afterwards.
#[cold]
#[inline(never)]
#[expect(unconditional_recursion, reason = "running out of stack is the purpose")]
fn recurse(depth: usize) -> usize {
    let room = black_box([depth as u8; BYTES_PER_CALL]);
    recurse(black_box(depth + 1)) + usize::from(room[depth % BYTES_PER_CALL])
}
