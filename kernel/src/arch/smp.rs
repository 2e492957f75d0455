//! Brings application processors up: at boot, or whenever somebody asks (hot-add).
//!
//! ```text
//!   this CPU                                        the other
//!   makes its entry area, data and stacks
//!   fills the trampoline in (below 1 MiB)
//!   INIT, 10 ms, start-up interrupt           ───►  real mode ─► 64-bit mode on a root of its own
//!   waits                                           the kernel's root; its features, entry area, APIC
//!                                             ◄───  running, unless it was given up
//!   goes on                                   ◄───  online; whole TLB flushed; its idle thread, for ever
//! ```
//!
//! Invariant: one CPU at a time is between the start-up interrupt and "running": the trampoline is its alone. One that
//! does not get there in time is given up: it is put to sleep again by another INIT, and may be started anew. Which of
//! the two it is, is one exchange on one word, so no CPU that others already count on is ever reset.
//!
//! SDM vol. 3, 9.4.4 (start-up), 11.6.1 (the interrupts for it).

use super::apic::{self, Command};
use super::features::Features;
use super::{clock, cpu, ipi, isolation, machine_check, processors};
use crate::boot::{kernel_root, memory::TRAMPOLINE_BYTES};
use crate::errno::{Errno, Result};
use crate::mm::{self, layout::direct};
use crate::println;
use crate::sync::{Mutex, Once};
use crate::task;
use crate::task::stack::Stack;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use ringwall::core::paging::{ADDRESS_MASK, HUGE, KERNEL_TABLE, PRESENT, WRITABLE};
use ringwall::core::root::KERNEL_HALF;
use ringwall::policy::words;

core::arch::global_asm!(include_str!("trampoline.s"));

unsafe extern "C" {
    static trampoline: u8;
    static trampoline_end: u8;
    static trampoline_far: u8;
    static trampoline_long: u8;
    static trampoline_gdt: u8;
    static trampoline_gdt_base: u8;
    static trampoline_root: u8;
    static trampoline_stack: u8;
    static trampoline_argument: u8;
    static trampoline_entry: u8;
}

const PAGE: u64 = 4096;
const MILLISECOND: u64 = 1_000_000;
/// Between INIT and the start-up interrupt.
const AFTER_INIT: u64 = 10 * MILLISECOND;
/// Between two start-up interrupts: old CPUs may miss the first.
const BETWEEN_STARTS: u64 = 10 * MILLISECOND;
/// How long a CPU may take to come up: long, because an emulator's may have to wait for its turn.
const LIMIT: u64 = 10_000 * MILLISECOND;

/// Physical address of the trampoline's block: the page itself, and three page tables.
static BLOCK: Once<u64> = Once::new();
/// Held by whoever brings a CPU up.
static ONE: Mutex<()> = Mutex::new(());

/// How far the CPU that is being brought up has come.
static STATE: AtomicU32 = AtomicU32::new(STARTED);
const STARTED: u32 = 0;
/// It is about to be online.
const RUNNING: u32 = 1;
/// It is not like the boot CPU.
const DIFFERENT: u32 = 2;
/// It was too late, and will be reset wherever it is.
const GIVEN_UP: u32 = 3;

/// What the command line says about CPUs.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    /// Most CPUs to run from the boot on.
    at_boot: usize,
}

impl Wanted {
    fn from_command_line(command_line: &[u8]) -> Wanted {
        let mut wanted = Wanted { at_boot: cpu::MAXIMUM };
        for word in words(command_line) {
            if word == b"nosmp" {
                wanted.at_boot = 1;
            } else if let Some(number) = word.strip_prefix(b"maxcpus=") {
                let number = core::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
                match number {
                    // As on Linux, 0 is the boot CPU alone too.
                    Some(number) => wanted.at_boot = usize::max(number, 1),
                    None => println!("ringwall: maxcpus= wants a number"),
                }
            }
        }
        wanted
    }
}

/// Brings up the CPUs that are to run from the boot on. `block`: physical, 16 KiB below 1 MiB that nothing uses.
pub fn start(command_line: &[u8], block: Option<u64>) {
    let count = processors::count();
    if let left_out @ 1.. = processors::left_out() {
        println!("ringwall: smp: no room for {left_out} more CPUs: {} at most", cpu::MAXIMUM);
    }
    if count == 1 {
        return;
    }
    let Some(block) = block else {
        println!("ringwall: smp: no memory below 1 MiB: only the boot CPU runs");
        return;
    };
    BLOCK.call_once(|| block);
    let wanted = Wanted::from_command_line(command_line).at_boot.min(count);
    for cpu in 1..wanted {
        // INIT takes its time, but all can take it at once.
        init(cpu);
    }
    wait(AFTER_INIT, || false);
    for cpu in 1..wanted {
        let _one = ONE.lock();
        if let Err(reason) = bring_up(cpu) {
            println!("ringwall: smp: CPU {cpu} stays off: {reason}");
        }
    }
    let online = cpu::online().iter().count();
    println!("ringwall: smp: {online} of {count} CPUs are online");
}

/// Brings up CPU `cpu`, which is there and not online yet (it may be by the time).
///
/// # Errors
/// `ENODEV` if there is no such CPU, `ENOMEM`, `EIO` if it does not come up.
pub fn add(cpu: usize) -> Result<()> {
    if cpu >= processors::count() || BLOCK.get().is_none() {
        return Err(Errno::ENODEV);
    }
    // It makes its idle thread itself, and nobody could be told that there was no memory for that.
    mm::admit()?;
    let _one = ONE.lock();
    if cpu::online().contains(cpu) {
        return Ok(());
    }
    init(cpu);
    wait(AFTER_INIT, || false);
    bring_up(cpu).map_err(|reason| {
        println!("ringwall: smp: CPU {cpu} stays off: {reason}");
        if reason == NO_MEMORY { Errno::ENOMEM } else { Errno::EIO }
    })
}

const NO_MEMORY: &str = "no memory for it";

/// What the APIC of a CPU that can be started is called. If CPUID gave the boot CPU another name than ACPI did, it is in
/// the list a second time, and must not reset itself.
fn other_id(cpu: usize) -> Option<u32> {
    processors::apic_id(cpu).filter(|id| *id != cpu::of(0).apic_id())
}

/// Resets a CPU that runs nothing, so that it waits for a start-up interrupt.
fn init(cpu: usize) {
    let Some(id) = other_id(cpu) else { return };
    // SAFETY: the CPU is not online.
    unsafe { apic::command(id, Command::Init) };
}

/// Waits for so many nanoseconds, or until `done`; gives whether it was. Serves other CPUs meanwhile.
fn wait(nanoseconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let end = clock::nanoseconds() + nanoseconds;
    loop {
        if done() {
            return true;
        }
        if clock::nanoseconds() >= end {
            return false;
        }
        crate::sync::relax();
    }
}

/// Starts a CPU that waits for it. The caller holds [`ONE`].
fn bring_up(cpu: usize) -> core::result::Result<(), &'static str> {
    let (Some(id), Some(&block)) = (other_id(cpu), BLOCK.get()) else {
        return Err("there is no such CPU");
    };
    cpu::of(cpu).set_apic_id(id);
    let area = isolation::make_cpu(cpu).ok_or(NO_MEMORY)?;
    fill_in(block, stack_top(cpu)?, area);
    STATE.store(STARTED, Ordering::SeqCst);
    let begin = Command::Start((block / PAGE) as u8);
    let running = || STATE.load(Ordering::SeqCst) != STARTED;
    // SAFETY: the CPU waits for it; the trampoline is filled in.
    unsafe { apic::command(id, begin) };
    if !wait(BETWEEN_STARTS, running) {
        // SAFETY: as above; a CPU that runs already ignores it.
        unsafe { apic::command(id, begin) };
        wait(LIMIT, running);
    }
    match leave_started(GIVEN_UP) {
        Ok(_) => {
            init(cpu);
            Err("it does not start")
        }
        Err(RUNNING) => {
            // Without a limit: from here on it cannot fail, and nobody may reset it.
            while !cpu::online().contains(cpu) {
                crate::sync::relax();
            }
            Ok(())
        }
        Err(_) => Err("it has not what the boot CPU has"),
    }
}

/// Says what has become of the CPU that is being brought up, unless that has been said.
///
/// # Errors
/// What has been said.
fn leave_started(state: u32) -> core::result::Result<u32, u32> {
    STATE.compare_exchange(STARTED, state, Ordering::SeqCst, Ordering::SeqCst)
}

/// The end of the way up for a CPU that was given up, or is about to say that it cannot go on: it rests until an INIT.
fn rest_as(state: u32) -> ! {
    let _ = leave_started(state);
    super::acpi::stop()
}

/// The end of the stack that a CPU begins on, made if this is the first time. It stays the CPU's for ever, running or
/// not: who knows what one that was slow still does, until the next INIT.
fn stack_top(cpu: usize) -> core::result::Result<u64, &'static str> {
    static TOPS: [AtomicU64; cpu::MAXIMUM] = [const { AtomicU64::new(0) }; cpu::MAXIMUM];
    let top = &TOPS[cpu];
    if top.load(Ordering::Relaxed) == 0 {
        let stack = Stack::allocate().map_err(|_| NO_MEMORY)?;
        top.store(core::mem::ManuallyDrop::new(stack).bounds().end, Ordering::Relaxed);
    }
    Ok(top.load(Ordering::Relaxed))
}

/// Puts the trampoline below 1 MiB, with what this CPU needs.
fn fill_in(block: u64, stack_top: u64, area: &'static ringwall::Cpu) {
    let offset = |symbol: *const u8| symbol.addr() - (&raw const trampoline).addr();
    let length = offset(&raw const trampoline_end);
    let page = direct(block);
    // SAFETY: the block is RAM that nothing else uses; the template fits a page.
    unsafe { page.write_bytes(0, TRAMPOLINE_BYTES as usize) };
    // SAFETY: as above.
    unsafe { page.copy_from_nonoverlapping(&raw const trampoline, length) };
    let physical = |symbol| block + offset(symbol) as u64;
    let entry: extern "sysv64" fn(&'static ringwall::Cpu) -> ! = begin;
    for (place, value) in [
        (&raw const trampoline_far, physical(&raw const trampoline_long)),
        (&raw const trampoline_gdt_base, physical(&raw const trampoline_gdt)),
    ] {
        // SAFETY: four bytes of the page, below 1 MiB.
        unsafe { page.add(offset(place)).cast::<u32>().write_unaligned(value as u32) };
    }
    for (place, value) in [
        (&raw const trampoline_root, block + PAGE),
        (&raw const trampoline_stack, stack_top),
        (&raw const trampoline_argument, core::ptr::from_ref(area).addr() as u64),
        (&raw const trampoline_entry, entry as *const () as u64),
    ] {
        // SAFETY: eight bytes of the page.
        unsafe { page.add(offset(place)).cast::<u64>().write_unaligned(value) };
    }
    make_root(block);
}

/// Page tables for the few instructions of the trampoline: the kernel half of the kernel's root, and the first 2 MiB at
/// address 0. They are below 4 GiB, where 32 bits of CR3 reach.
fn make_root(block: u64) {
    let table = |physical: u64| direct(physical).cast::<u64>();
    let [root, level_3, level_2] = [1, 2, 3].map(|page| block + page * PAGE);
    let kernel = table(kernel_root() & ADDRESS_MASK);
    for slot in KERNEL_HALF {
        // SAFETY: entries of two tables; the kernel's does not change.
        unsafe { table(root).add(slot).write(kernel.add(slot).read()) };
    }
    for (place, value) in [
        (root, level_3 | KERNEL_TABLE),
        (level_3, level_2 | KERNEL_TABLE),
        (level_2, PRESENT | WRITABLE | HUGE),
    ] {
        // SAFETY: the first entry of a table of ours.
        unsafe { table(place).write(value) };
    }
}

/// The first Rust code of an application processor: on its stack, on the trampoline's root, interrupts off. Nothing
/// of it may wait for a lock, or look at this CPU's data, before the CPU is made active.
extern "sysv64" fn begin(area: &'static ringwall::Cpu) -> ! {
    load_kernel_root();
    match (Features::read(), isolation::boot_features()) {
        (Ok(here), Some(there)) if here == *there => here.enable(),
        _ => rest_as(DIFFERENT),
    }
    // SAFETY: this CPU is the one that it was made for, in ring 0, interrupts off, on the kernel's root. If it was here
    // before, it was reset since, before it ran any thread.
    let active = unsafe { area.activate() };
    if active.is_err() {
        rest_as(DIFFERENT);
    }
    cpu::tell_number();
    machine_check::start();
    apic::start_cpu();
    if leave_started(RUNNING).is_err() {
        rest_as(GIVEN_UP);
    }
    // From here on this CPU is told of every change of the kernel's translations; what it knows from before goes.
    cpu::set_online();
    // Who ends the machine and read the set of CPUs before has not told this one.
    ipi::stop_if_asked();
    load_kernel_root();
    task::run_idle()
}

/// Drops all translations, too: none is global, and the kernel's root has PCID 0 alone.
fn load_kernel_root() {
    let root = kernel_root();
    // SAFETY: it maps the running code and its stack, as the root before did.
    unsafe { core::arch::asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
}
