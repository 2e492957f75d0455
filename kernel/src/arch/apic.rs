//! Local APIC: end of interrupt, the one-shot timer, the pin that brings NMIs, interrupts to other CPUs. I/O APIC:
//! the serial line.
//!
//! A CPU's registers are its own, at the same addresses as everybody's, so there is nothing to lock: in x2APIC mode
//! they are MSRs, else a page of memory. All CPUs use the same mode.
//!
//! Invariant: every vector but the ones here is masked; the old PICs are masked whole.
//!
//! SDM vol. 3, 11.4.1 (registers), 11.5.1 (local vectors), 11.6.1 (interrupt command), 11.12 (x2APIC).

use super::{clock, cpu};
use crate::mm::layout::direct;
use core::sync::atomic::{AtomicU64, Ordering};
use raw_cpuid::CpuId;
use x2apic::ioapic::{IoApic, IrqFlags, IrqMode, RedirectionTableEntry};
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

/// Vector of the local timer.
pub const TIMER: u8 = 0xec;
/// Vector of the first serial port.
pub const SERIAL: u8 = 0x24;
/// Vector by which another CPU asks for a flush.
pub const FLUSH: u8 = 0xfc;
/// Vector by which another CPU asks for a look at the run queue.
pub const RESCHEDULE: u8 = 0xfd;
/// Vector of local APIC errors.
pub const ERROR: u8 = 0xfe;
/// Vector of interrupts that went away.
pub const SPURIOUS: u8 = 0xff;

const IO_APIC: u64 = 0xfec0_0000;
const SERIAL_IRQ: u8 = 4;

const IA32_APIC_BASE: u32 = 0x1b;
/// In IA32_APIC_BASE: the registers are MSRs; the APIC is on; where the registers are otherwise.
const X2APIC_MODE: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;
const BASE: u64 = 0xf_ffff_f000;

/// Register numbers: as MSRs from 0x800 on, in memory 16 bytes apart.
mod register {
    pub const ID: u32 = 0x02;
    pub const TASK_PRIORITY: u32 = 0x08;
    pub const END_OF_INTERRUPT: u32 = 0x0b;
    pub const SPURIOUS_VECTOR: u32 = 0x0f;
    pub const COMMAND: u32 = 0x30;
    pub const COMMAND_DESTINATION: u32 = 0x31;
    pub const TIMER_VECTOR: u32 = 0x32;
    pub const PIN_0_VECTOR: u32 = 0x35;
    pub const PIN_1_VECTOR: u32 = 0x36;
    pub const ERROR_VECTOR: u32 = 0x37;
    pub const TIMER_INITIAL: u32 = 0x38;
    pub const TIMER_CURRENT: u32 = 0x39;
    pub const TIMER_DIVIDE: u32 = 0x3e;
}

/// In the spurious vector's register: the APIC takes interrupts.
const TAKES_INTERRUPTS: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DELIVER_NMI: u32 = 4 << 8;
const DELIVER_INIT: u32 = 5 << 8;
const DELIVER_START: u32 = 6 << 8;
const DIVIDE_BY_1: u32 = 0b1011;
/// In the command register of a page of memory: the last command has not left yet.
const PENDING: u32 = 1 << 12;
/// In the command register: the level that means something (every command but one that does not exist any more).
const ASSERT: u32 = 1 << 14;

/// The page of registers, as the kernel sees it; 0 in x2APIC mode.
static PAGE: AtomicU64 = AtomicU64::new(0);
/// Timer counts in a nanosecond, times 2^32.
static TIMER_SCALE: AtomicU64 = AtomicU64::new(0);

fn place(page: u64, register: u32) -> *mut u32 {
    (page + 16 * u64::from(register)) as *mut u32
}

fn read(register: u32) -> u32 {
    match PAGE.load(Ordering::Relaxed) {
        // SAFETY: `start` turned x2APIC mode on; reading one of these registers changes nothing.
        0 => unsafe { Msr::new(0x800 + register).read() as u32 },
        // SAFETY: the register's place, mapped uncached.
        page => unsafe { place(page, register).read_volatile() },
    }
}

/// # Safety
/// The value is one that the kernel is ready for: a vector with a handler, a command to a CPU that may get it.
#[inline]
unsafe fn write(register: u32, value: u32) {
    match PAGE.load(Ordering::Relaxed) {
        // SAFETY: `start` turned x2APIC mode on; the caller's promise.
        0 => unsafe { Msr::new(0x800 + register).write(value.into()) },
        // SAFETY: the register's place, mapped uncached; the caller's promise.
        page => unsafe { place(page, register).write_volatile(value) },
    }
}

fn mask_pics() {
    for port in [0x21, 0xa1] {
        // SAFETY: the PICs' mask registers.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Turns on the boot CPU's APIC, calibrates its timer, and routes the serial line to it.
pub fn start() {
    mask_pics();
    start_cpu();
    calibrate();
    let id = id();
    cpu::of(cpu::index()).set_apic_id(id);
    cpu::set_online();
    route_serial(id as u8);
}

/// Turns on this CPU's APIC.
pub fn start_cpu() {
    let mut control = Msr::new(IA32_APIC_BASE);
    // SAFETY: every CPU with long mode has the register.
    let base = unsafe { control.read() };
    let by_msr = CpuId::new().get_feature_info().is_some_and(|leaf| leaf.has_x2apic());
    if base & ENABLED == 0 {
        // One that is off cannot go to x2APIC mode at once (SDM vol. 3, 11.12.5).
        // SAFETY: firmware may have turned it off; the registers' page stays where it is.
        unsafe { control.write(base | ENABLED) };
    }
    // SAFETY: from the state after a reset, or after firmware, to a mode that CPUID has (SDM vol. 3, 11.12.1).
    unsafe { control.write(base | ENABLED | if by_msr { X2APIC_MODE } else { 0 }) };
    let page = if by_msr { 0 } else { direct(base & BASE).addr() as u64 };
    PAGE.store(page, Ordering::Relaxed);
    for (number, value) in [
        (register::TASK_PRIORITY, 0),
        (register::TIMER_VECTOR, TIMER.into()),
        (register::TIMER_DIVIDE, DIVIDE_BY_1),
        (register::TIMER_INITIAL, 0),
        (register::ERROR_VECTOR, ERROR.into()),
        // LINT1 brings NMIs, as every PC wires it; LINT0 would bring the old PICs' interrupts.
        (register::PIN_0_VECTOR, MASKED),
        (register::PIN_1_VECTOR, DELIVER_NMI),
        (register::SPURIOUS_VECTOR, TAKES_INTERRUPTS | u32::from(SPURIOUS)),
    ] {
        // SAFETY: the vectors have handlers; the registers are mapped uncached, or MSRs.
        unsafe { write(number, value) };
    }
}

/// This CPU's identifier.
pub fn id() -> u32 {
    let id = read(register::ID);
    if PAGE.load(Ordering::Relaxed) == 0 { id } else { id >> 24 }
}

fn calibrate() {
    let counts = loop {
        // SAFETY: a one-shot count; should it end, that is one timer interrupt that nobody asked for.
        unsafe { write(register::TIMER_INITIAL, u32::MAX) };
        let counts = clock::least_in_10_ms(|| u64::from(u32::MAX - read(register::TIMER_CURRENT)));
        // If it ended meanwhile, this CPU was away for seconds.
        if read(register::TIMER_CURRENT) != 0 {
            break counts;
        }
    };
    // SAFETY: stops the count.
    unsafe { write(register::TIMER_INITIAL, 0) };
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
#[inline]
pub fn end_of_interrupt() {
    // SAFETY: called once for each interrupt, by the trap handler.
    unsafe { write(register::END_OF_INTERRUPT, 0) };
}

/// Asks for a timer interrupt on this CPU in `nanoseconds`; at least one count, at most what the counter holds.
pub fn arm_timer(nanoseconds: u64) {
    let counts = (u128::from(nanoseconds) * u128::from(TIMER_SCALE.load(Ordering::Relaxed))) >> 32;
    let counts = counts.clamp(1, u128::from(u32::MAX)) as u32;
    // SAFETY: the timer's vector has a handler.
    unsafe { write(register::TIMER_INITIAL, counts) };
}

/// What the interrupt command register is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// An interrupt with this vector.
    Interrupt(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// A reset of the CPU, which then waits to be started.
    Init,
    /// A start in real mode at the page below 1 MiB with this number.
    Start(u8),
}

impl Command {
    const fn bits(self) -> u32 {
        ASSERT
            | match self {
                Command::Interrupt(vector) => vector as u32,
                Command::Nmi => DELIVER_NMI,
                Command::Init => DELIVER_INIT,
                Command::Start(page) => DELIVER_START | page as u32,
            }
    }
}

/// Sends a command to the CPU with APIC identifier `destination`. All stores so far are seen there when it arrives.
///
/// # Safety
/// That CPU is ready for it.
pub unsafe fn command(destination: u32, command: Command) {
    match PAGE.load(Ordering::Relaxed) {
        0 => {
            // WRMSR to the APIC waits for no earlier store (SDM vol. 3, 11.12.3).
            // SAFETY: fences change nothing.
            unsafe { core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags)) };
            let value = u64::from(destination) << 32 | u64::from(command.bits());
            // SAFETY: x2APIC mode; the caller's promise.
            unsafe { Msr::new(0x800 + register::COMMAND).write(value) };
        }
        _ => {
            while read(register::COMMAND) & PENDING != 0 {
                core::hint::spin_loop();
            }
            // SAFETY: where the command goes, which does nothing yet.
            unsafe { write(register::COMMAND_DESTINATION, destination << 24) };
            // SAFETY: the caller's promise.
            unsafe { write(register::COMMAND, command.bits()) };
        }
    }
}
