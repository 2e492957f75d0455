//! What the kernel does with system calls, exceptions and interrupts.
//!
//! Invariant: an exception in ring 0 is resolved only if it is a page fault in a copy to or from user
//! memory, or a fault of an FPU instruction on a program's own area; anything else is a kernel bug,
//! reported and the end.

use super::{apic, fpu, ipi, machine_check, msr, ports, umip};
use crate::mm::layout::USER_END;
use crate::mm::{self, Access, Fault};
use crate::signal::{self, fault};
use crate::{println, syscall, task, time, user};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as linux;
use ringwall::{DoubleFault, Frame, Handlers};
use ringwall_rules::machine_check::Verdict;
use x86_64::registers::control::Cr2;

/// The kernel's handlers, as the library calls them.
pub struct KernelHandlers;

impl Handlers for KernelHandlers {
    #[inline(always)]
    fn syscall(frame: &mut Frame) {
        syscall::dispatch(frame);
        if task::has_work() {
            task::exit_work(frame);
        }
    }

    fn trap(frame: &mut Frame) {
        let vector = frame.vector().unwrap_or(apic::SPURIOUS);
        if !frame.from_user() {
            return in_kernel(frame, vector);
        }
        match vector {
            14 => page_fault(frame),
            1 => task::ptrace::hardware::debug_exception(frame),
            0..32 => exception(frame, vector),
            0x80 => syscall::int80::dispatch(frame),
            _ => interrupt(vector, true),
        }
        if task::has_work() {
            task::exit_work(frame);
        }
    }

    fn nmi(_frame: &mut Frame) {
        ipi::stop_if_asked();
        // One from outside is counted, and changes nothing.
        super::cpu::local().nmis.fetch_add(1, Ordering::Relaxed);
    }

    fn debug(frame: &mut Frame) {
        // A breakpoint that a copy from or to the program hit, or that a MOV to SS delayed to an entry: nobody
        // hears of it, as on Linux. Or a TF that SYSCALL or SYSENTER carried here.
        task::ptrace::hardware::forget_status();
        if !in_sysenter_stub(frame.rip()) {
            frame.set_rflags(frame.rflags() & !u64::from(TRAP_FLAG));
        }
    }

    fn machine_check(frame: &mut Frame) {
        // Without a program to signal, the verdict is to go on; or `handle` does not come back.
        machine_check::handle(frame);
    }

    fn double_fault(frame: &Frame, report: &DoubleFault) -> ! {
        double_fault(frame, report)
    }
}

const TRAP_FLAG: u32 = 1 << 8;

/// Whether `rip` is in the first instructions after a SYSENTER. They save TF, which SYSENTER leaves set, and
/// then clear it; until then each of them traps.
fn in_sysenter_stub(rip: u64) -> bool {
    const IA32_SYSENTER_EIP: u32 = 0x176;
    const STUB_BYTES: u64 = 64;
    // SAFETY: the register exists in every CPU with 64-bit mode, and the library has set it.
    let stub = unsafe { x86_64::registers::model_specific::Msr::new(IA32_SYSENTER_EIP).read() };
    (stub..stub.saturating_add(STUB_BYTES)).contains(&rip)
}

/// Page-fault error code bits (SDM vol. 3, 4.7).
mod cause {
    pub const WRITE: u64 = 1 << 1;
    pub const RESERVED: u64 = 1 << 3;
    pub const FETCH: u64 = 1 << 4;
    pub const KEY: u64 = 1 << 5;
}

fn access(error_code: u64) -> Access {
    if error_code & cause::FETCH != 0 {
        Access::Execute
    } else if error_code & cause::WRITE != 0 {
        Access::Write
    } else {
        Access::Read
    }
}

fn page_fault(frame: &mut Frame) {
    let address = Cr2::read_raw();
    let error_code = frame.error_code();
    if error_code & (cause::RESERVED | cause::KEY) != 0 {
        return denied_by_key(frame, address, error_code);
    }
    let outcome = match address < USER_END {
        true => task::current().mm().fault(address, access(error_code)),
        false => Err(Fault::NotMapped),
    };
    let (number, code) = match outcome {
        Ok(()) => return,
        Err(Fault::NotMapped) => (linux::SIGSEGV, linux::SEGV_MAPERR),
        Err(Fault::Denied) => (linux::SIGSEGV, linux::SEGV_ACCERR),
        Err(Fault::BeyondFile) => (linux::SIGBUS, linux::BUS_ADRERR),
        Err(Fault::NoMemory) => return out_of_memory(frame),
    };
    // Linux tells a program nothing about kernel addresses, not even that one is mapped.
    let told = if address < USER_END { error_code } else { error_code | 1 };
    fault(frame, number, code as i32, address, 14, told, Some(address));
}

/// The program's own PKRU forbids the access, whatever the tables say.
#[cold]
fn denied_by_key(frame: &mut Frame, address: u64, error_code: u64) {
    if error_code & cause::RESERVED != 0 {
        bug("reserved bit in a page table", frame);
    }
    let code = linux::SEGV_PKUERR as i32;
    fault(frame, linux::SIGSEGV, code, address, 14, error_code, Some(address));
}

/// There is no frame left for a page that the program may have: the process with most memory is
/// killed, and if that is another one, the program tries again.
fn out_of_memory(frame: &mut Frame) {
    if !task::exit::relieve_memory() {
        signal::force(frame, signal::Info::kernel(linux::SIGKILL));
    }
}

const GENERAL_PROTECTION: u8 = 13;

/// `si_code` of signals that only say that the kernel sent them.
const SI_KERNEL: i32 = 0x80;

fn exception(frame: &mut Frame, vector: u8) {
    if vector == GENERAL_PROTECTION && (ports::emulate(frame) || umip::emulate(frame)) {
        return;
    }
    let rip = frame.rip();
    let (number, code, address) = match vector {
        0 => (linux::SIGFPE, linux::FPE_INTDIV as i32, rip),
        3 => (linux::SIGTRAP, SI_KERNEL, 0),
        6 => (linux::SIGILL, linux::ILL_ILLOPN as i32, rip),
        11 | 12 => (linux::SIGBUS, SI_KERNEL, 0),
        16 | 19 => match floating_point_code(vector) {
            Some(code) => (linux::SIGFPE, code, rip),
            // What was unmasked is masked by now: the instruction is done again.
            None => return,
        },
        17 => (linux::SIGBUS, linux::BUS_ADRALN as i32, 0),
        18 if machine_check::handle(frame) != Verdict::Signal => return,
        // Where the data was is told as a physical address, which is no business of a program.
        18 => (linux::SIGBUS, linux::BUS_MCEERR_AR as i32, 0),
        _ => (linux::SIGSEGV, SI_KERNEL, 0),
    };
    fault(frame, number, code, address, vector.into(), frame.error_code(), None);
}

/// x87 exceptions that are pending and not masked.
fn x87_causes() -> u32 {
    let (status, control): (u16, u16);
    // SAFETY: reads two registers of the FPU, which hold the program's state.
    unsafe {
        let mut control_word = 0u16;
        core::arch::asm!("fnstsw ax", "fnstcw [{}]", in(reg) &raw mut control_word, out("ax") status);
        control = control_word;
    }
    u32::from(status & !control)
}

/// SSE exceptions that are pending and not masked.
fn simd_causes() -> u32 {
    let mut mxcsr = 0u32;
    // SAFETY: stores MXCSR into the variable.
    unsafe { core::arch::asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr) };
    mxcsr & !(mxcsr >> 7)
}

/// Invalid, divide, overflow, underflow, precision: x87 and SSE have the same bits.
fn floating_point_code(vector: u8) -> Option<i32> {
    let code = match if vector == 16 { x87_causes() } else { simd_causes() } {
        bits if bits & 0x01 != 0 => linux::FPE_FLTINV,
        bits if bits & 0x04 != 0 => linux::FPE_FLTDIV,
        bits if bits & 0x08 != 0 => linux::FPE_FLTOVF,
        bits if bits & 0x12 != 0 => linux::FPE_FLTUND,
        bits if bits & 0x20 != 0 => linux::FPE_FLTRES,
        _ => return None,
    };
    Some(code as i32)
}

fn interrupt(vector: u8, from_user: bool) {
    match vector {
        apic::TIMER => {
            apic::end_of_interrupt();
            super::cpu::local().count(|local| &local.timers);
            time::tick(from_user);
            machine_check::tell();
        }
        apic::SERIAL => {
            apic::end_of_interrupt();
            while let Some(byte) = super::serial::read() {
                crate::fs::terminal_input(byte);
            }
        }
        apic::FLUSH => {
            apic::end_of_interrupt();
            super::cpu::local().count(|local| &local.flushes);
            mm::tlb::serve_requests();
        }
        apic::RESCHEDULE => {
            apic::end_of_interrupt();
            super::cpu::local().count(|local| &local.reschedules);
            task::reschedule_requested();
        }
        apic::SPURIOUS => {}
        _ => apic::end_of_interrupt(),
    }
}

fn in_kernel(frame: &mut Frame, vector: u8) {
    if vector >= 32 {
        return interrupt(vector, false);
    }
    let rip = frame.rip();
    let fixup = user::fixup(rip).or_else(|| fpu::fixup(rip)).or_else(|| msr::fixup(rip));
    let Some(fixup) = fixup else { bug("exception in the kernel", frame) };
    if vector == 14 && !user::is_look(rip) {
        let address = Cr2::read_raw();
        // What the program's own PKRU denies is denied to the copy too.
        if address < USER_END && frame.error_code() & cause::KEY == 0 {
            let thread = task::current();
            match thread.mm().fault(address, access(frame.error_code())) {
                Ok(()) => return,
                // A copy holds no lock, so it can wait for what another process gives back.
                Err(Fault::NoMemory)
                    if thread.pending_work() & task::work::KILL == 0
                        && task::exit::relieve_memory() =>
                {
                    return task::schedule();
                }
                Err(_) => {}
            }
        }
    } else if vector != 13 && vector != 14 {
        bug("exception in the kernel", frame);
    }
    frame.set_rip(fixup);
}

/// Reports a bug of the kernel and ends the machine.
fn bug(what: &str, frame: &Frame) -> ! {
    report(what, frame);
    println!("ringwall: CR2 {:#x}, CR3 {:#x}", Cr2::read_raw(), cr3());
    panic!("{what}");
}

fn cr3() -> u64 {
    let value;
    // SAFETY: reading CR3 changes nothing.
    unsafe { core::arch::asm!("mov {}, cr3", out(reg) value, options(nomem, nostack)) };
    value
}

/// Says what the interrupted code's registers were.
pub(super) fn report(what: &str, frame: &Frame) {
    println!("ringwall: {what}: vector {:?}, error code {:#x}", frame.vector(), frame.error_code());
    println!(
        "ringwall: RIP {:#x}:{:#x} RSP {:#x}:{:#x} RFLAGS {:#x}",
        frame.cs(),
        frame.rip(),
        frame.ss(),
        frame.rsp(),
        frame.rflags()
    );
    println!(
        "ringwall: RAX {:#x} RBX {:#x} RCX {:#x} RDX {:#x} RSI {:#x} RDI {:#x} RBP {:#x}",
        frame.rax(),
        frame.rbx(),
        frame.rcx(),
        frame.rdx(),
        frame.rsi(),
        frame.rdi(),
        frame.rbp()
    );
}

fn double_fault(frame: &Frame, report_data: &DoubleFault) -> ! {
    ipi::claim_the_end();
    report("double fault", frame);
    let DoubleFault { fault_address, cr3, gs_base, task_stack_top } = *report_data;
    println!(
        "ringwall: CR2 {fault_address:#x}, CR3 {cr3:#x}, GS base {gs_base:#x}, \
         task stack ends at {task_stack_top:#x}"
    );
    if !super::cpu::current_thread().is_null() {
        let thread = task::current();
        println!("ringwall: thread {} ({})", thread.tid(), thread.process.name());
        if let Some(stack) = thread.stack_bounds() {
            println!("ringwall: its task stack is {:#x}..{:#x}", stack.start, stack.end);
            let guard = stack.start.saturating_sub(task::stack::GUARD_BYTES)..stack.start;
            if guard.contains(&fault_address) || guard.contains(&frame.rsp()) {
                println!("ringwall: kernel stack overflow: the access hit that stack's guard");
            }
        }
    }
    crate::boot::place::tell_slide();
    println!("ringwall: the machine stops");
    super::cpu::power_off(false)
}
