//! The library as this kernel uses it: decided, built and activated at boot.

use super::features::{self, Features};
use super::frames::KernelFrames;
use super::traps::KernelHandlers;
use super::{cpu, random};
use crate::breaks::Break;
use crate::mm::layout::{self, ENTRY_REGION, PRIVATE_SLOT};
use crate::println;
use crate::sync::{Mutex, Once};
use core::ops::RangeInclusive;
use ringwall::core::area::AREA_BYTES;
use ringwall::core::hardening::{self, Hardening};
use ringwall::policy::{CpuFacts, Decision, Policy, Vendor};
use ringwall::{Cpu, Isolation, Setup, Stacks};
use x86_64::PhysAddr;
use x86_64::VirtAddr;
use x86_64::structures::paging::PhysFrame;

/// Vectors that ring 3 may raise: INT3, INTO, and Linux's 32-bit calls.
const USER_VECTORS: [u8; 3] = [3, 4, 0x80];
/// Last address of the entry area's region: the top page stays free, so that no pointer wraps.
const REGION_END: u64 = 0xffff_ffff_ffff_efff;
/// Order of a paranoid vector's stack: 16 KiB.
const STACK_ORDER: u8 = 2;
const STACK_BYTES: u64 = 4096 << STACK_ORDER;

static ISOLATION: Once<Mutex<Isolation>> = Once::new();
/// Each CPU's part of the entry area.
static CPUS: [Once<Cpu>; cpu::MAXIMUM] = [const { Once::new() }; cpu::MAXIMUM];
static FEATURES: Once<Features> = Once::new();
static DECISION: Once<Decision> = Once::new();

/// The library's state. Made at boot.
pub fn isolation() -> &'static Mutex<Isolation> {
    ISOLATION.get().expect("isolation is set up at boot")
}

/// Whether isolation is on, and why.
pub fn decision() -> Option<&'static Decision> {
    DECISION.get()
}

/// Whether isolation can be switched while the machine runs: there are two roots.
pub fn switchable() -> bool {
    DECISION.get().is_some_and(|decision| decision.isolate)
}

fn paranoid_stack() -> Option<VirtAddr> {
    let frames = crate::mm::frame::allocate(STACK_ORDER).ok()?;
    Some(VirtAddr::from_ptr(crate::mm::layout::direct(frames)) + STACK_BYTES)
}

/// Whether TLB entries are kept across switches of address spaces and roots; says so.
fn use_pcid(command_line: &[u8], features: &Features) -> bool {
    let mut words = command_line.split(u8::is_ascii_whitespace);
    let refused = words.any(|word| word == b"nopcid");
    println!(
        "ringwall: tlb: {}",
        match (features.pcid, refused, features.invpcid) {
            (false, ..) => "each switch flushes: the CPU has no PCID",
            (true, true, _) => "each switch flushes: nopcid",
            (true, false, true) => "kept across switches: PCID, INVPCID",
            (true, false, false) => "kept across switches: PCID, no INVPCID",
        }
    );
    features.pcid && !refused
}

/// Where the entry area may be.
fn region() -> RangeInclusive<u64> {
    if Break::EntryAreaFollows.is_on() {
        let start = ENTRY_REGION + (layout::slide() & 0x1fff_f000);
        return start..=start + (AREA_BYTES - 1);
    }
    ENTRY_REGION..=REGION_END
}

/// Decides, builds the entry area and makes it this CPU's.
pub fn start(command_line: &[u8], features: &Features) {
    let policy = Policy::from_command_line(command_line);
    if let Some(warning) = &policy.warning {
        println!("ringwall: {warning}");
    }
    let facts = features::facts();
    let decision = policy.decide(&facts);
    println!("ringwall: {decision}");
    println!("ringwall: meltdown: {}", decision.status());
    DECISION.call_once(|| decision);
    let hardening = Hardening::decide(command_line, &facts);
    for word in hardening::unknown_values(command_line) {
        println!(
            "ringwall: unknown value: {}: expected auto, on, off or force",
            word.escape_ascii()
        );
    }
    for line in hardening.lines() {
        println!("ringwall: hardening: {line}");
    }
    let pcid = use_pcid(command_line, features);
    let setup = Setup {
        kernel_root: PhysFrame::containing_address(PhysAddr::new(crate::boot::kernel_root())),
        region: region(),
        random: if layout::is_random() { random::seed() } else { 0 },
        isolate: decision.isolate,
        switchable: true,
        pcid,
        invpcid: features.invpcid,
        hardening,
        fsgsbase: features.fsgsbase,
        sysret_keeps_ss: matches!(facts.vendor(), Vendor::Amd | Vendor::Hygon),
        user_vectors: &USER_VECTORS,
        private_slot: PRIVATE_SLOT,
    };
    // SAFETY: the root is the kernel's own, made with all its top-level entries; nothing else is in
    // the region.
    let isolation = unsafe { Isolation::new(&setup, &mut KernelFrames) };
    let isolation = isolation.unwrap_or_else(|error| panic!("isolation: {error}"));
    ISOLATION.call_once(|| Mutex::new(isolation));
    FEATURES.call_once(|| *features);
    let boot_cpu = make_cpu(0).expect("no memory for the boot CPU's entry area");
    // SAFETY: this is the boot CPU, in ring 0, interrupts off, on the kernel's root.
    let active = unsafe { boot_cpu.activate() };
    active.unwrap_or_else(|error| panic!("isolation: {error}"));
    cpu::tell_number();
}

/// A CPU's part of the entry area, made if this is the first time. `None` if there is no memory for it; `cpu` is
/// below [`cpu::MAXIMUM`]. One caller at a time for each CPU.
pub fn make_cpu(cpu: usize) -> Option<&'static Cpu> {
    if let Some(made) = CPUS[cpu].get() {
        return Some(made);
    }
    let stacks = Stacks {
        nmi: paranoid_stack()?,
        debug: paranoid_stack()?,
        machine_check: paranoid_stack()?,
        double_fault: paranoid_stack()?,
        bytes: STACK_BYTES,
    };
    let local = cpu::local_words(cpu);
    let mut isolation = isolation().lock();
    // SAFETY: each stack was just allocated, 16 KiB, and is never freed.
    let made =
        unsafe { isolation.make_cpu::<KernelHandlers>(cpu, &stacks, local, &mut KernelFrames) };
    match made {
        Ok(made) => Some(CPUS[cpu].call_once(|| made)),
        Err(error) => {
            println!("ringwall: isolation: CPU {cpu}: {error}");
            None
        }
    }
}

/// What the boot CPU has, and every other has to have.
pub fn boot_features() -> Option<&'static Features> {
    FEATURES.get()
}

/// The boot CPU's part of the entry area.
pub fn boot_cpu() -> &'static Cpu {
    CPUS[0].get().expect("isolation is set up at boot")
}
