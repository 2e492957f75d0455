//! Spin locks, and every other wait with interrupts off.
//!
//! Invariant: who waits serves. A CPU that holds a lock may be waiting for the answers of all others ([`cross`]), so
//! one that waits for that lock has to give them meanwhile, or both wait for ever. Hence no lock of the kernel is
//! `spin`'s own type.
//!
//! What a lock costs where nobody holds it is counted in every system call, so the wait is out of the way: it is a
//! place that the compiler takes for never reached, and a call that changes no register. Otherwise every function
//! with a lock in it saved and restored what it has in registers, for a wait that hardly ever comes.

use super::cross;
use core::arch::{asm, naked_asm};

/// What a wait does in each turn.
pub struct Serving;

impl spin::RelaxStrategy for Serving {
    #[inline(always)]
    fn relax() {
        relax();
    }
}

/// One turn of a wait for another CPU: for loops that are no lock's.
#[inline(always)]
pub fn relax() {
    core::hint::cold_path();
    // SAFETY: it is called as any function is, on a stack that the compiler has aligned, and leaves all registers but
    // RFLAGS as they were. What it does to memory the compiler expects of it.
    unsafe { asm!("call {turn}", turn = sym turn) };
}

/// [`cross::serve`] for [`relax`]: all registers that a function may change are as before when it returns.
#[unsafe(naked)]
extern "sysv64" fn turn() {
    extern "sysv64" fn serve() {
        cross::serve();
    }
    naked_asm!(
        "pause",
        // With the return address ten words: the stack is aligned for the call again.
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "call {serve}",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret",
        serve = sym serve,
    )
}

/// A spin lock.
pub type Mutex<T> = spin::mutex::Mutex<T, Serving>;
/// Holds a [`Mutex`].
pub type MutexGuard<'a, T> = spin::mutex::MutexGuard<'a, T, Serving>;
/// A spin lock for many readers or one writer.
pub type RwLock<T> = spin::rwlock::RwLock<T, Serving>;
/// A value that is made once.
pub type Once<T> = spin::once::Once<T, Serving>;
/// A value that is made when it is first used.
pub type Lazy<T, F = fn() -> T> = spin::lazylock::LazyLock<T, F, Serving>;
