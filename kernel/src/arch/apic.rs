//! Local APIC: end of interrupt, the one-shot timer, the pin that brings NMIs. I/O APIC: the serial line.
//!
//! Invariant: every vector but the ones here is masked; the old PICs are masked whole.

use super::clock;
use crate::mm::layout::direct;
use crate::sync::{Mutex, Once};
use core::sync::atomic::{AtomicU64, Ordering};
use x2apic::ioapic::{IoApic, IrqFlags, IrqMode, RedirectionTableEntry};
use x2apic::lapic::{LocalApic, LocalApicBuilder, TimerDivide, TimerMode, xapic_base};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// Vector of the local timer.
pub const TIMER: u8 = 0xec;
/// Vector of the first serial port.
pub const SERIAL: u8 = 0x24;
/// Vector of local APIC errors.
pub const ERROR: u8 = 0xfe;
/// Vector of interrupts that went away.
pub const SPURIOUS: u8 = 0xff;

const IO_APIC: u64 = 0xfec0_0000;
const SERIAL_IRQ: u8 = 4;

/// The boot CPU's APIC.
struct Apic(LocalApic);

// SAFETY: the pointers inside are to device registers, mapped for ever on every CPU.
unsafe impl Send for Apic {}

static APIC: Once<Mutex<Apic>> = Once::new();
/// Timer counts in a nanosecond, times 2^32.
static TIMER_SCALE: AtomicU64 = AtomicU64::new(0);

fn mask_pics() {
    for port in [0x21, 0xa1] {
        // SAFETY: the PICs' mask registers.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Turns on this CPU's APIC, calibrates its timer, and routes the serial line to it.
pub fn start() {
    mask_pics();
    // SAFETY: every CPU with long mode has IA32_APIC_BASE.
    let base = direct(unsafe { xapic_base() }).addr() as u64;
    let mut apic = LocalApicBuilder::new()
        .timer_vector(TIMER.into())
        .error_vector(ERROR.into())
        .spurious_vector(SPURIOUS.into())
        .timer_mode(TimerMode::OneShot)
        .timer_divide(TimerDivide::Div1)
        .timer_initial(0)
        .set_xapic_base(base)
        .build()
        .expect("all vectors and the base are given");
    // SAFETY: the registers are mapped uncached; the vectors have handlers.
    unsafe { apic.enable() };
    listen_to_pins(base);
    calibrate(&mut apic);
    // SAFETY: reads a register.
    let id = unsafe { apic.id() };
    super::cpu::local().apic_id.store(id, Ordering::Relaxed);
    APIC.call_once(|| Mutex::new(Apic(apic)));
    route_serial(id as u8);
}

/// LINT1 brings NMIs, as every PC wires it; LINT0 would bring the old PICs' interrupts, and is masked.
/// (SDM vol. 3, 11.5.1.)
fn listen_to_pins(base: u64) {
    /// Register numbers: as MSRs from 0x800 on, in memory 16 bytes apart.
    const LINT0: u32 = 0x35;
    const LINT1: u32 = 0x36;
    const MASKED: u32 = 1 << 16;
    const NMI: u32 = 4 << 8;
    /// In IA32_APIC_BASE: the registers are MSRs.
    const X2APIC: u64 = 1 << 10;
    // SAFETY: every CPU with long mode has IA32_APIC_BASE.
    let by_msr = unsafe { Msr::new(0x1b).read() } & X2APIC != 0;
    for (register, value) in [(LINT0, MASKED), (LINT1, NMI)] {
        if by_msr {
            // SAFETY: the register exists in that mode; both values are allowed.
            unsafe { Msr::new(0x800 + register).write(value.into()) };
        } else {
            let place = (base + 16 * u64::from(register)) as *mut u32;
            // SAFETY: the register's place, mapped uncached.
            unsafe { place.write_volatile(value) };
        }
    }
}

fn calibrate(apic: &mut LocalApic) {
    // SAFETY: a one-shot count that ends long after the calibration.
    unsafe { apic.set_timer_initial(u32::MAX) };
    // SAFETY: reads a register.
    let (before, after) = clock::during_10_ms(|| unsafe { apic.timer_current() });
    // SAFETY: stops the count.
    unsafe { apic.set_timer_initial(0) };
    let counts = u64::from(before.wrapping_sub(after)).max(1);
    TIMER_SCALE.store((counts << 32) / 10_000_000, Ordering::Relaxed);
}

fn route_serial(apic_id: u8) {
    // SAFETY: the firmware's default place, mapped uncached.
    let mut controller = unsafe { IoApic::new(direct(IO_APIC).addr() as u64) };
    let mut entry = RedirectionTableEntry::default();
    entry.set_mode(IrqMode::Fixed);
    entry.set_flags(IrqFlags::empty());
    entry.set_dest(apic_id);
    entry.set_vector(SERIAL);
    // SAFETY: the vector has a handler.
    unsafe { controller.set_table_entry(SERIAL_IRQ, entry) };
    super::serial::enable_interrupt();
}

/// Tells the local APIC that its interrupt was served.
pub fn end_of_interrupt() {
    if let Some(apic) = APIC.get() {
        // SAFETY: called once for each interrupt, by the trap handler.
        unsafe { apic.lock().0.end_of_interrupt() };
    }
}

/// Asks for a timer interrupt in `nanoseconds`; at least one count, at most what the counter holds.
pub fn arm_timer(nanoseconds: u64) {
    let Some(apic) = APIC.get() else { return };
    let counts = (u128::from(nanoseconds) * u128::from(TIMER_SCALE.load(Ordering::Relaxed))) >> 32;
    let counts = counts.clamp(1, u128::from(u32::MAX)) as u32;
    // SAFETY: the timer's vector has a handler.
    unsafe { apic.lock().0.set_timer_initial(counts) };
}
