//! Time from the TSC, calibrated at boot against the PIT.
//!
//! With QEMU's -icount the TSC counts instructions, so time does too.

use core::sync::atomic::{AtomicU64, Ordering};
use x86_64::instructions::port::Port;

/// Ticks of the PIT in a second.
const PIT_HERTZ: u64 = 1_193_182;
/// How long to calibrate: 10 ms.
const PIT_TICKS: u16 = (PIT_HERTZ / 100) as u16;
/// Most looks at the PIT, of which two have to agree to one part in so many.
const LOOKS: usize = 8;
const AGREES: u64 = 1024;

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

/// What `sample`, which counts up, gains in 10 ms. Where somebody else runs on this CPU meanwhile (a host, or firmware), a
/// look gains too much, and never too little: the least of several counts.
pub fn least_in_10_ms(mut sample: impl FnMut() -> u64) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..LOOKS {
        let gained = gained_in_10_ms(&mut sample);
        let agrees = gained.abs_diff(least) <= least / AGREES;
        least = least.min(gained);
        if agrees {
            break;
        }
    }
    least
}

/// One look, 10 ms of the PIT and a bit.
fn gained_in_10_ms(sample: &mut impl FnMut() -> u64) -> u64 {
    // PIT channel 2, whose gate and output are bits 0 and 5 of port 0x61.
    let mut gate = Port::<u8>::new(0x61);
    let mut command = Port::<u8>::new(0x43);
    let mut counter = Port::<u8>::new(0x42);
    // SAFETY: the PC's timer and speaker ports, used by this function alone, at boot.
    let speaker_off = unsafe {
        let speaker_off = gate.read() & !0b11;
        gate.write(speaker_off);
        command.write(0b1011_0000);
        counter.write(PIT_TICKS as u8);
        counter.write((PIT_TICKS >> 8) as u8);
        speaker_off
    };
    // Before the count begins: what happens between the two makes it more.
    let before = sample();
    // SAFETY: as above.
    unsafe { gate.write(speaker_off | 1) };
    // SAFETY: reading the port changes nothing.
    while unsafe { gate.read() } & 0x20 == 0 {}
    sample().wrapping_sub(before).max(1)
}

/// Calibrates and starts the clock.
pub fn start() {
    let start = ticks();
    let gained = least_in_10_ms(ticks);
    SCALE.store(((10_000_000u128 << 32) / u128::from(gained)) as u64, Ordering::Relaxed);
    START.store(start, Ordering::Relaxed);
}
