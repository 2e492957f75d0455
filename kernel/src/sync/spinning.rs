//! Spin locks, and every other wait with interrupts off.
//!
//! Invariant: who waits serves. A CPU that holds a lock may be waiting for the answers of all others ([`cross`]), so
//! one that waits for that lock has to give them meanwhile, or both wait for ever. Hence no lock of the kernel is
//! `spin`'s own type.

use super::cross;

/// What a wait does in each turn.
pub struct Serving;

impl spin::RelaxStrategy for Serving {
    #[inline]
    fn relax() {
        relax();
    }
}

/// One turn of a wait for another CPU: for loops that are no lock's.
#[inline]
pub fn relax() {
    core::hint::spin_loop();
    cross::serve();
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
