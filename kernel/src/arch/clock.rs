//! Time from the TSC, calibrated once against the PIT.
//!
//! With QEMU's -icount the TSC counts instructions, so time does too.

use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::instructions::port::Port;

/// Ticks of the PIT in a second.
const PIT_HERTZ: u64 = 1_193_182;
/// How long to calibrate: 10 ms.
const PIT_TICKS: u16 = (PIT_HERTZ / 100) as u16;

static START: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds in one TSC tick, times 2^32.
static SCALE: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter.
#[inline(always)]
pub fn ticks() -> u64 {
    // SAFETY: every CPU with long mode has RDTSC, and CR4.TSD does not matter in ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds since boot.
#[inline]
pub fn nanoseconds() -> u64 {
    let elapsed = ticks().wrapping_sub(START.load(Ordering::Relaxed));
    ((u128::from(elapsed) * u128::from(SCALE.load(Ordering::Relaxed))) >> 32) as u64
}

/// TSC ticks in a second.
pub fn hertz() -> u64 {
    let scale = SCALE.load(Ordering::Relaxed).max(1);
    ((1_000_000_000u128 << 32) / u128::from(scale)) as u64
}

/// Runs `sample` before and after 10 ms of the PIT, and gives both.
pub fn during_10_ms<T>(mut sample: impl FnMut() -> T) -> (T, T) {
    // PIT channel 2, whose gate and output are bits 0 and 5 of port 0x61.
    let mut gate = Port::<u8>::new(0x61);
    let mut command = Port::<u8>::new(0x43);
    let mut counter = Port::<u8>::new(0x42);
    // SAFETY: the PC's timer and speaker ports, used by this function alone, at boot.
    unsafe {
        let speaker_off = gate.read() & !0b11;
        gate.write(speaker_off);
        command.write(0b1011_0000);
        counter.write(PIT_TICKS as u8);
        counter.write((PIT_TICKS >> 8) as u8);
        gate.write(speaker_off | 1);
    }
    let before = sample();
    // SAFETY: reading the port changes nothing.
    while unsafe { gate.read() } & 0x20 == 0 {}
    (before, sample())
}

/// Calibrates and starts the clock.
pub fn start() {
    let (before, after) = during_10_ms(ticks);
    let ticks_in_10_ms = after.wrapping_sub(before).max(1);
    SCALE.store(((10_000_000u128 << 32) / u128::from(ticks_in_10_ms)) as u64, Ordering::Relaxed);
    START.store(before, Ordering::Relaxed);
}
