//! Machine checks: hardware's own errors, told by exception 18.
//!
//! Invariant: [`handle`] takes no lock and allocates nothing, because what it interrupted may hold any
//! lock. What it has to say waits in this CPU's [`Record`] until [`tell`] is called from a place that
//! holds none.
//!
//! SDM vol. 3, 16.3 (registers), 16.8 (initialising), 16.10.4 (the handler).

use super::{cpu, msr};
use crate::println;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ringwall::Frame;
use ringwall_rules::machine_check::{Circumstances, Status, Verdict, decide};
use x86_64::registers::model_specific::Msr;

const CAPABILITIES: u32 = 0x179;
const GLOBAL_STATUS: Msr = Msr::new(0x17a);
const GLOBAL_CONTROL: Msr = Msr::new(0x17b);
/// First register of bank 0: control, status, address, miscellaneous. Each bank has four.
const BANKS: u32 = 0x400;

/// In IA32_MCG_CAP: how many banks.
const COUNT: u64 = 0xff;
/// In IA32_MCG_CAP: IA32_MCG_CTL exists.
const HAS_CONTROL: u64 = 1 << 8;

/// What a machine check has left to be told. One at a time: while it waits, later ones are only counted.
#[derive(Debug)]
pub struct Record {
    waiting: AtomicBool,
    bank: AtomicU64,
    status: AtomicU64,
    address: AtomicU64,
}

impl Record {
    /// Nothing to tell.
    pub const fn new() -> Record {
        Record {
            waiting: AtomicBool::new(false),
            bank: AtomicU64::new(0),
            status: AtomicU64::new(0),
            address: AtomicU64::new(0),
        }
    }

    fn keep(&self, bank: u32, status: Status, address: u64) {
        if self.waiting.load(Ordering::Relaxed) {
            return;
        }
        self.bank.store(bank.into(), Ordering::Relaxed);
        self.status.store(status.0, Ordering::Relaxed);
        self.address.store(address, Ordering::Relaxed);
        self.waiting.store(true, Ordering::Release);
    }
}

impl Default for Record {
    fn default() -> Record {
        Record::new()
    }
}

/// Whether this CPU has the registers; CR4.MCE alone promises only the exception. Known after [`start`].
static PRESENT: AtomicBool = AtomicBool::new(false);

fn present() -> bool {
    PRESENT.load(Ordering::Relaxed)
}

/// Number of banks.
fn count() -> u32 {
    // SAFETY: `present` is asked first, at boot; a machine check without the registers never comes here.
    (unsafe { Msr::new(CAPABILITIES).read() } & COUNT) as u32
}

fn read(bank: u32) -> (Status, u64) {
    let first = BANKS + 4 * bank;
    // SAFETY: the bank exists.
    let status = Status(unsafe { Msr::new(first + 1).read() });
    // SAFETY: the bank has an address register if its status says so.
    let address = if status.has_address() { unsafe { Msr::new(first + 2).read() } } else { 0 };
    (status, address)
}

fn clear(bank: u32) {
    // SAFETY: the bank exists; 0 is the only value that may be written.
    unsafe { Msr::new(BANKS + 4 * bank + 1).write(0) };
}

/// Asks for all errors on this CPU. Tells of those that a reset did not clear.
pub fn start() {
    let features = raw_cpuid::CpuId::new().get_feature_info();
    if !features.is_some_and(|features| features.has_mce() && features.has_mca()) {
        return;
    }
    let Some(capabilities) = msr::read(CAPABILITIES) else { return };
    PRESENT.store(true, Ordering::Relaxed);
    if capabilities & HAS_CONTROL != 0 {
        let mut control = GLOBAL_CONTROL;
        // SAFETY: the register exists; all ones asks for everything.
        unsafe { control.write(u64::MAX) };
    }
    for bank in 0..count() {
        let (status, address) = read(bank);
        if status.valid() {
            println!(
                "ringwall: machine check from before the boot: {status}, address {address:#x}"
            );
        }
        // SAFETY: the bank exists; all ones asks for everything.
        unsafe { Msr::new(BANKS + 4 * bank).write(u64::MAX) };
        clear(bank);
    }
}

/// Handles exception 18, from anywhere. [`Verdict::Signal`] is the caller's to carry out.
pub fn handle(frame: &Frame) -> Verdict {
    let local = cpu::local();
    local.machine_checks.fetch_add(1, Ordering::Relaxed);
    if !present() {
        stop("a processor without the registers that would say more", frame);
    }
    // SAFETY: `present`.
    let (global, capabilities) = unsafe { (GLOBAL_STATUS.read(), Msr::new(CAPABILITIES).read()) };
    let at = Circumstances { from_user: frame.from_user(), global, capabilities };
    let verdict = decide(&at, (0..count()).map(|bank| read(bank).0));
    if let Verdict::Stop(reason) = verdict {
        stop(reason, frame);
    }
    for bank in 0..count() {
        let (status, address) = read(bank);
        if status.valid() {
            local.machine_check.keep(bank, status, address);
            clear(bank);
        }
    }
    // Last: until then, another machine check resets the machine.
    let mut status = GLOBAL_STATUS;
    // SAFETY: `present`; the bits mean nothing once this one is handled.
    unsafe { status.write(0) };
    verdict
}

/// Tells of a machine check that let the machine go on. No lock may be held.
#[inline]
pub fn tell() {
    let record = &cpu::local().machine_check;
    if record.waiting.load(Ordering::Acquire) {
        tell_record(record);
    }
}

#[cold]
fn tell_record(record: &Record) {
    let [bank, status, address] =
        [&record.bank, &record.status, &record.address].map(|word| word.load(Ordering::Relaxed));
    record.waiting.store(false, Ordering::Release);
    tell_bank(bank as u32, Status(status), address);
}

fn tell_bank(bank: u32, status: Status, address: u64) {
    println!("ringwall: machine check: bank {bank}: status {status}, address {address:#x}");
}

/// Says all that is known, and stops the machine.
fn stop(reason: &str, frame: &Frame) -> ! {
    super::ipi::claim_the_end();
    println!("ringwall: machine check: {reason}");
    if present() {
        // SAFETY: `present`.
        let global = unsafe { GLOBAL_STATUS.read() };
        println!("ringwall: IA32_MCG_STATUS {global:#x}");
        for bank in 0..count() {
            let (status, address) = read(bank);
            if status.valid() {
                tell_bank(bank, status, address);
            }
        }
    }
    super::traps::report("machine check", frame);
    println!("ringwall: this is the hardware's error: the machine stops");
    cpu::power_off(false)
}
