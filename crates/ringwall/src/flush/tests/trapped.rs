//! A CPU for tests, made of the host's: the code under test runs as it is, and each privileged instruction that it gets to
//! faults in ring 3, is written down with its operands, and is passed over.
//!
//! ```text
//!   block        GS base       + ALIAS          + DATA        then
//!   ├─ (GDT) ────┼─ stack page ┼─ user view's ──┼─ KernelData ┼─ entry text ─┼─ task stack ─┤
//! ```
//!
//! The user view's stack page is put in place of the other one while CR3 holds a user root, as paging would.
//!
//! Invariant: nothing but what [`Instruction`] lists is emulated; any other fault ends the test binary.

use crate::entry::layout::{ALIAS, DATA, ENTRY_STACK_TOP, KernelData};
use crate::entry::{Features as TextFeatures, Text};
use crate::frame::Frame;
use core::arch::asm;
use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
use ringwall_core::hardening::Hardening;
use ringwall_core::root::{NO_FLUSH, is_user};
use ringwall_core::tlb::{CpuTlb, Features};
use std::boxed::Box;
use std::cell::Cell;
use std::ptr;
use std::vec::Vec;
use x86_64::VirtAddr;

const PAGE: usize = 4096;
const STACK: usize = PAGE;
const TEXT: usize = STACK + DATA + PAGE;
/// The task stack is the last page.
const BYTES: usize = TEXT + 2 * PAGE;
const SIGNAL_STACK: usize = 1 << 16;
const ARCH_SET_GS: u64 = 0x1001;

/// What was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    WriteCr3(u64),
    WriteCr4(u64),
    Invlpg(u64),
    Invpcid { kind: u64, pcid: u64, address: u64 },
    Swapgs,
    Sysretq,
    Iretq,
}

pub struct Trapped {
    block: *mut u8,
    pub cr3: u64,
    pub cr4: u64,
    log: Vec<Instruction>,
    signal_stack: Box<[u8; SIGNAL_STACK]>,
}

std::thread_local! {
    static RUNNING: Cell<*mut Trapped> = const { Cell::new(ptr::null_mut()) };
}

impl Trapped {
    /// CPU `index`.
    pub fn new(index: usize, features: Features) -> Trapped {
        let access = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, wherever there is room.
        let block = unsafe { libc::mmap(ptr::null_mut(), BYTES, access, kind, -1, 0) };
        assert_ne!(block, libc::MAP_FAILED, "memory");
        let cpu = Trapped {
            block: block.cast(),
            cr3: 0,
            cr4: 0,
            log: Vec::new(),
            signal_stack: Box::new([0; SIGNAL_STACK]),
        };
        let data = cpu.data();
        // SAFETY: inside the block, aligned to a page, nobody else's; zeros are fine for all other fields.
        let tlb = unsafe { &raw mut (*data).tlb };
        // SAFETY: as above.
        unsafe { tlb.write(CpuTlb::new(index, features)) };
        // SAFETY: as above.
        unsafe { (*data).tlb_address = tlb as u64 };
        let top = cpu.at(STACK + ALIAS + ENTRY_STACK_TOP);
        // SAFETY: as above.
        unsafe { (*data).entry_stack_alias = top as u64 };
        cpu
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.block.wrapping_add(offset)
    }

    /// End of the task stack.
    pub fn task_stack(&self) -> VirtAddr {
        VirtAddr::from_ptr(self.at(BYTES))
    }

    fn data(&self) -> *mut KernelData {
        self.at(STACK + DATA).cast()
    }

    /// The CR3 value to leave with.
    pub fn exit_cr3(&self) -> u64 {
        // SAFETY: inside the block; only `run` writes it.
        unsafe { (*self.data()).exit_cr3 }
    }

    /// What `code` executes.
    pub fn run(&mut self, code: impl FnOnce()) -> Vec<Instruction> {
        self.catch_faults();
        set_gs_base(self.at(STACK) as u64);
        RUNNING.set(self);
        code();
        RUNNING.set(ptr::null_mut());
        set_gs_base(0);
        core::mem::take(&mut self.log)
    }

    /// What the way out of `text` executes for a frame that is `by_sysret` or by IRETQ.
    pub fn exit(&mut self, text: &Text, by_sysret: bool) -> Vec<Instruction> {
        self.write_text(text);
        let exit = self.at(TEXT + usize::from(text.points().exit_to_user)) as u64;
        let start = if by_sysret { self.sysret_tail(text) } else { exit };
        self.run(|| leave_by(start, by_sysret))
    }

    /// What a way in executes until it calls its handler: SYSCALL's, or an interrupt's.
    pub fn enter(&mut self, text: &Text, by_syscall: bool) -> Vec<Instruction> {
        const INTERRUPT: u8 = 0x20;
        self.write_text(text);
        let data = self.data();
        let offset = if by_syscall { text.points().syscall_entry } else { text.gate(INTERRUPT) };
        let start = self.at(TEXT + usize::from(offset)) as u64;
        let handler = match by_syscall {
            // SAFETY: a word of the block.
            true => unsafe { &raw mut (*data).syscall_handler },
            // SAFETY: as above.
            false => unsafe { &raw mut (*data).trap_handler },
        };
        // What the CPU pushes; CS says ring 3.
        let frame = self.at(STACK + ENTRY_STACK_TOP).cast::<[u64; 5]>().wrapping_sub(1);
        // SAFETY: words of the stack page that is in place.
        unsafe { frame.write([0, 3, 0, 0, 3]) };
        self.run(|| come_by(start, frame as u64, handler))
    }

    fn write_text(&mut self, text: &Text) {
        let page = self.at(TEXT).cast::<[u8; PAGE]>();
        // SAFETY: inside the block, nobody else's.
        let page = unsafe { &mut *page };
        text.write_kernel_view(page, TextFeatures::new(&Hardening::NONE, true, false));
    }

    /// Where SYSRETQ's way out has its decisions behind it: what pops a frame that came by SYSCALL.
    fn sysret_tail(&self, text: &Text) -> u64 {
        let handler = core::mem::offset_of!(KernelData, syscall_handler) + DATA;
        let entry = self.at(TEXT + usize::from(text.points().syscall_entry));
        // SAFETY: inside the text's page, whose rest is padding.
        let bytes = unsafe { core::slice::from_raw_parts(entry, 512) };
        let mut decoder = Decoder::with_ip(64, bytes, entry as u64, DecoderOptions::NONE);
        let call = decoder.iter().find(|instruction| {
            instruction.mnemonic() == Mnemonic::Call
                && instruction.memory_displacement64() == handler as u64
        });
        call.expect("the entry calls the handler").next_ip()
    }

    fn catch_faults(&mut self) {
        let stack = libc::stack_t {
            ss_sp: self.signal_stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: SIGNAL_STACK,
        };
        // SAFETY: the memory lives as long as this CPU, and so as long as anything here faults.
        assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);
        // SAFETY: zeros are a valid sigaction.
        let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGILL] {
            // SAFETY: the handler touches what `RUNNING` names, and gives up if that is nothing.
            assert_eq!(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) }, 0);
        }
    }

    fn write_cr3(&mut self, cr3: u64) {
        let (stack, alias) = (self.at(STACK), self.at(STACK + ALIAS));
        if is_user(cr3) != is_user(self.cr3) {
            // SAFETY: two pages of the block.
            unsafe { ptr::swap_nonoverlapping(stack, alias, PAGE) };
        }
        self.cr3 = cr3 & !NO_FLUSH;
        self.log.push(Instruction::WriteCr3(cr3));
    }

    /// Passes over the instruction that faulted.
    fn emulate(&mut self, registers: &mut [i64; 23]) -> Option<()> {
        let rip = registers[libc::REG_RIP as usize] as u64;
        // SAFETY: code, and padding or other code behind it.
        let bytes = unsafe { core::slice::from_raw_parts(rip as *const u8, 15) };
        let instruction = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE).decode();
        let get = |register| Some(registers[place(register)?] as u64);
        let address = |operand| {
            // No segment that is used here has a base.
            let value = |register: Register, _, _| {
                if register.is_segment_register() { Some(0) } else { get(register) }
            };
            instruction.virtual_address(operand, 0, value)
        };
        let mut next = instruction.next_ip();
        let mut result = None;
        match (instruction.mnemonic(), instruction.op0_register(), instruction.op1_register()) {
            (Mnemonic::Mov, Register::CR3, from) => self.write_cr3(get(from)?),
            (Mnemonic::Mov, to, Register::CR3) => result = Some((to, self.cr3)),
            (Mnemonic::Mov, Register::CR4, from) => {
                self.cr4 = get(from)?;
                self.log.push(Instruction::WriteCr4(self.cr4));
            }
            (Mnemonic::Mov, to, Register::CR4) => {
                result = Some((to, self.cr4));
            }
            (Mnemonic::Invlpg, ..) if instruction.op0_kind() == OpKind::Memory => {
                self.log.push(Instruction::Invlpg(address(0)?));
            }
            (Mnemonic::Invpcid, kind, _) => {
                let descriptor = address(1)? as *const [u64; 2];
                // SAFETY: the operand of the instruction.
                let [pcid, address] = unsafe { descriptor.read_unaligned() };
                self.log.push(Instruction::Invpcid { kind: get(kind)?, pcid, address });
            }
            (Mnemonic::Swapgs, ..) => self.log.push(Instruction::Swapgs),
            (Mnemonic::Sysretq, ..) => {
                next = get(Register::RCX)?;
                self.log.push(Instruction::Sysretq);
            }
            (Mnemonic::Iretq, ..) => {
                let frame = get(Register::RSP)? as *const [u64; 5];
                // SAFETY: the frame that the instruction was to pop.
                let [rip, _, _, rsp, _] = unsafe { frame.read() };
                next = rip;
                result = Some((Register::RSP, rsp));
                self.log.push(Instruction::Iretq);
            }
            _ => return None,
        }
        if let Some((to, value)) = result {
            registers[place(to)?] = value as i64;
        }
        registers[libc::REG_RIP as usize] = next as i64;
        Some(())
    }
}

/// Runs a way out with a frame that leads back here.
fn leave_by(start: u64, by_sysret: bool) {
    let mut frame = Frame::new_user(0, 0);
    if by_sysret {
        frame.vector = crate::frame::ENTERED_BY_SYSCALL;
        frame.r11 = frame.rflags;
    } else {
        // No selector of this process: IRETQ faults.
        frame.cs = 0xfff0 | 3;
    }
    let (to_rip, to_rsp) = (&raw mut frame.rip, &raw mut frame.rsp);
    let to_rcx = &raw mut frame.rcx;
    // SAFETY: what the code leaves at is the label, with the stack pointer as it is here; it changes general registers,
    // and memory of the frame and of the CPU.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "lea rax, [rip + 2f]",
            "mov [rsi], rax",
            "mov [rcx], rax",
            "mov [rdx], rsp",
            "mov rsp, rdi",
            "jmp r8",
            "2:",
            "pop rbp",
            "pop rbx",
            inout("rdi") &raw mut frame => _,
            inout("rsi") to_rip => _,
            inout("rdx") to_rsp => _,
            inout("rcx") to_rcx => _,
            inout("r8") start => _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
}

/// Runs a way in whose handler is here.
fn come_by(start: u64, frame: u64, handler: *mut u64) {
    // SAFETY: a way in leaves all registers but RSP, RDI, RCX and R11 alone, and calls its handler, which is the label;
    // it changes memory of the CPU.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "mov r12, rsp",
            "lea rax, [rip + 2f]",
            "mov [rdx], rax",
            "mov rsp, rsi",
            "jmp rdi",
            "2:",
            "mov rsp, r12",
            "pop rbp",
            "pop rbx",
            inout("rdi") start => _,
            inout("rsi") frame => _,
            inout("rdx") handler => _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
            clobber_abi("sysv64"),
        );
    }
}

fn place(register: Register) -> Option<usize> {
    let place = match register {
        Register::RAX => libc::REG_RAX,
        Register::RBX => libc::REG_RBX,
        Register::RCX => libc::REG_RCX,
        Register::RDX => libc::REG_RDX,
        Register::RSI => libc::REG_RSI,
        Register::RDI => libc::REG_RDI,
        Register::RBP => libc::REG_RBP,
        Register::RSP => libc::REG_RSP,
        Register::R8 => libc::REG_R8,
        Register::R9 => libc::REG_R9,
        Register::R10 => libc::REG_R10,
        Register::R11 => libc::REG_R11,
        Register::R12 => libc::REG_R12,
        Register::R13 => libc::REG_R13,
        Register::R14 => libc::REG_R14,
        Register::R15 => libc::REG_R15,
        _ => return None,
    };
    Some(place as usize)
}

extern "C" fn on_fault(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes the interrupted context.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    // SAFETY: null, or the CPU that `run` runs on this thread, which waits in there.
    let running = unsafe { RUNNING.get().as_mut() };
    let known = running.and_then(|cpu| cpu.emulate(&mut context.uc_mcontext.gregs));
    if known.is_none() {
        // SAFETY: it faults again, for good.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn set_gs_base(base: u64) {
    // SAFETY: nothing else of this process uses GS.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
    assert_eq!(result, 0);
}
