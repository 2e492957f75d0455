//! What each CPU keeps for itself, and the few things that only a CPU can do.
//!
//! Word 0 of the library's local words points to the CPU's [`CpuLocal`], word 1 to the running
//! thread, word 2 is the CPU's number: one instruction each.

use super::{apic, clock, machine_check};
use crate::task::{Scheduling, Thread};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use raw_cpuid::CpuId;
use ringwall::core::tlb::CpuSet;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, Msr};

/// Most CPUs that the kernel runs.
pub const MAXIMUM: usize = 64;

/// One CPU's data, found through GS while the kernel runs.
#[repr(align(64))]
pub struct CpuLocal {
    apic_id: AtomicU32,
    /// Whether the GDT entries of a thread hold anything (`task::segments`).
    pub has_segments: AtomicBool,
    /// The thread that runs, or the last one before the CPU idles, goes to ring 3 under the kernel root (`task::way`).
    pub is_open: AtomicBool,
    /// How many NMIs there were.
    pub nmis: AtomicU64,
    /// How often the timer fired.
    pub timers: AtomicU64,
    /// How often another CPU asked for a look at the run queue.
    pub reschedules: AtomicU64,
    /// How often another CPU asked for a flush.
    pub flushes: AtomicU64,
    /// How often this CPU asked others for work, flushes above all, and waited (`sync::cross`).
    pub shootdowns_sent: AtomicU64,
    /// How often it did what another one had asked.
    pub shootdowns_served: AtomicU64,
    /// How many machine checks there were.
    pub machine_checks: AtomicU64,
    /// A machine check that is yet to be told.
    pub machine_check: machine_check::Record,
    /// The scheduler's part.
    pub scheduling: Scheduling,
}

impl CpuLocal {
    const fn new() -> CpuLocal {
        CpuLocal {
            apic_id: AtomicU32::new(0),
            has_segments: AtomicBool::new(false),
            is_open: AtomicBool::new(false),
            nmis: AtomicU64::new(0),
            timers: AtomicU64::new(0),
            reschedules: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            shootdowns_sent: AtomicU64::new(0),
            shootdowns_served: AtomicU64::new(0),
            machine_checks: AtomicU64::new(0),
            machine_check: machine_check::Record::new(),
            scheduling: Scheduling::new(),
        }
    }

    /// One more of something that this CPU alone counts.
    #[inline]
    pub fn count(&self, of: fn(&CpuLocal) -> &AtomicU64) {
        let counter = of(self);
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// What its local APIC is called.
    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// Notes what its local APIC is called. Before the CPU runs.
    pub(super) fn set_apic_id(&self, apic_id: u32) {
        self.apic_id.store(apic_id, Ordering::Relaxed);
    }
}

static LOCALS: [CpuLocal; MAXIMUM] = [const { CpuLocal::new() }; MAXIMUM];
static ONLINE: CpuSet = CpuSet::new();

/// The local words of a CPU.
pub(super) fn local_words(cpu: usize) -> [u64; 4] {
    [(&raw const LOCALS[cpu]).addr() as u64, 0, cpu as u64, 0]
}

/// A CPU's data. `cpu` is below [`MAXIMUM`].
pub fn of(cpu: usize) -> &'static CpuLocal {
    &LOCALS[cpu]
}

/// This CPU's number: 0 for the boot CPU, below [`MAXIMUM`]. It stays the same only as long as the thread does
/// not sleep.
#[inline(always)]
pub fn index() -> usize {
    // SAFETY: the CPU is made active at boot, before anything asks.
    unsafe { ringwall::local_word::<2>() as usize }
}

/// Whether this CPU has been made active, so that [`index`] and the like can be asked. For slow paths.
pub fn is_active() -> bool {
    GsBase::read().as_u64() >> 63 != 0
}

/// The CPUs that run threads and take interrupts from others. None ever leaves.
pub fn online() -> &'static CpuSet {
    &ONLINE
}

/// This CPU is ready for interrupts from others.
pub(super) fn set_online() {
    ONLINE.insert(index());
}

/// Tells programs this CPU's number by RDTSCP and RDPID, as Linux does. Once it is active.
pub(super) fn tell_number() {
    const IA32_TSC_AUX: u32 = 0xc000_0103;
    let cpuid = CpuId::new();
    let identifiers = cpuid.get_extended_processor_and_feature_identifiers();
    let rdtscp = identifiers.is_some_and(|leaf| leaf.has_rdtscp());
    if rdtscp || cpuid.get_extended_feature_info().is_some_and(|leaf| leaf.has_rdpid()) {
        // SAFETY: whoever has one of the instructions has the register, which nothing else uses.
        unsafe { Msr::new(IA32_TSC_AUX).write(index() as u64) };
    }
}

/// This CPU's data.
#[inline(always)]
pub fn local() -> &'static CpuLocal {
    // SAFETY: the CPU is made active at boot, before anything asks.
    let address = unsafe { ringwall::local_word::<0>() };
    // SAFETY: word 0 is set when the CPU's part of the entry area is made, to the address of a
    // `CpuLocal` that lives for ever.
    unsafe { &*(address as *const CpuLocal) }
}

/// The running thread, an `Arc<Thread>`'s pointer that the scheduler owns: null before the first one runs.
#[inline(always)]
pub fn current_thread() -> *const Thread {
    // SAFETY: the CPU is made active at boot, before anything asks.
    unsafe { ringwall::local_word::<1>() as *const Thread }
}

/// Makes `thread` the running one. The scheduler alone calls it.
#[inline(always)]
pub fn set_current_thread(thread: *const Thread) {
    // SAFETY: as in `current_thread`.
    unsafe { ringwall::set_local_word::<1>(thread.addr() as u64) };
}

/// Tells the CPU which memory and which task stack the next exit to user mode and the next entry
/// use, and loads that memory's kernel root. `stack_top`: 16-aligned end of the next task stack.
#[inline]
pub fn activate(roots: &ringwall::AddressSpace, stack_top: VirtAddr) {
    // SAFETY: interrupts are off in the kernel; the scheduler passes the memory and the stack of the
    // thread it switches to, which keeps both alive; all kernel memory is in every kernel half.
    unsafe { ringwall::switch_to(roots, stack_top) };
}

/// This CPU idles on the memory that is loaded, and touches none of it.
pub fn rest() {
    // SAFETY: interrupts are off in the kernel.
    unsafe { ringwall::rest() };
}

/// Makes this CPU's ways to ring 3 and back those without a switch of roots, or those with one. `task::way` alone calls
/// it.
pub fn set_way(open: bool) {
    let way = if open { ringwall::Way::Open } else { ringwall::Way::Isolated };
    // SAFETY: interrupts are off in the kernel; `task::way` keeps each thread to the way it came in by, and lets a thread
    // be open only with open memory.
    unsafe { ringwall::set_way(way) };
}

/// Restores `frame`, which must be the one at the top of the current task stack, and runs it.
pub fn return_to_user(frame: &mut ringwall::Frame) -> ! {
    // SAFETY: interrupts are off in the kernel; the caller is the running thread, after `activate`.
    unsafe { ringwall::return_to_user(frame) }
}

/// Lets interrupts come in and waits for one (the idle loop).
pub fn wait_for_interrupt() {
    x86_64::instructions::interrupts::enable_and_hlt();
    x86_64::instructions::interrupts::disable();
}

/// Lets interrupts come in that wait. For long stretches of the kernel, with no lock held.
pub fn let_interrupts_in() {
    x86_64::instructions::interrupts::enable();
    // The instruction after STI still runs undisturbed (SDM vol. 2, STI).
    x86_64::instructions::nop();
    x86_64::instructions::interrupts::disable();
}

/// Asks the local APIC timer for an interrupt in `nanoseconds`.
pub fn arm_timer(nanoseconds: u64) {
    apic::arm_timer(nanoseconds);
}

/// Nanoseconds since boot, from the TSC.
#[inline]
pub fn nanoseconds() -> u64 {
    clock::nanoseconds()
}

/// Ends the machine: powers it off, or resets it.
pub fn power_off(reset: bool) -> ! {
    if reset { super::acpi::reset() } else { super::acpi::power_off() }
}
