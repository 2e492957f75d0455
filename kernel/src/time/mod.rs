//! Clocks and timers.
//!
//! Three clocks are kept: nanoseconds since boot from the TSC, the offset that makes them the time
//! of day (read once from the machine's clock chip, then set by programs alone), and each thread's
//! and process's time on a CPU, which the scheduler adds up at every switch.

mod chip;
pub mod interval;
pub mod posix;
mod queue;

pub use queue::{Alarm, Expire, ensure_armed, expire_due, next_deadline};

use core::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Add this to nanoseconds since boot to get nanoseconds since 1970.
static OFFSET: AtomicU64 = AtomicU64::new(0);

/// Reads the time of day from the clock chip. Once, at boot.
pub fn initialize() {
    set_realtime(chip::read().saturating_mul(SECOND));
}

/// Nanoseconds since boot.
#[inline]
pub fn now() -> u64 {
    crate::arch::cpu::nanoseconds()
}

/// Nanoseconds since 1970.
pub fn realtime() -> u64 {
    now().wrapping_add(OFFSET.load(Ordering::Relaxed))
}

/// Sets the time of day: nanoseconds since 1970.
pub fn set_realtime(nanoseconds: u64) {
    OFFSET.store(nanoseconds.wrapping_sub(now()), Ordering::Relaxed);
}

/// The deadline on the clock of [`now`] for a time of day.
pub fn from_realtime(nanoseconds: u64) -> u64 {
    let offset = OFFSET.load(Ordering::Relaxed);
    // Before boot is "at once"; the offset may be "negative" if the day was set back to 1970.
    let since_boot = i128::from(nanoseconds) - i128::from(offset.cast_signed());
    since_boot.clamp(0, i128::from(u64::MAX)) as u64
}

/// The local APIC timer's interrupt. `from_user`: it interrupted ring 3.
pub fn tick(_from_user: bool) {
    crate::task::scheduler::timer_fired();
}
