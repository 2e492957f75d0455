//! SGDT, SIDT, SMSW, SLDT and STR of programs, which UMIP makes #GP: like Linux, the kernel does them in the
//! CPU's place, with made-up values. Only for 64-bit code.

use crate::mm::layout::USER_END;
use crate::signal::fault;
use crate::task::{self, scheduler};
use crate::user;
use linux_raw_sys::general as linux;
use ringwall::Frame;
use ringwall_rules::umip::{self, Instruction, LONGEST, Operand, Segment};

/// Does the instruction that faulted, if it is one of these; whether it was.
pub fn emulate(frame: &mut Frame) -> bool {
    if frame.cs() != ringwall::USER_CODE_SELECTOR || frame.rip() >= USER_END {
        return false;
    }
    let mut bytes = [0; LONGEST];
    let fetched = user::read_some(frame.rip(), &mut bytes);
    let Some(instruction) = umip::decode(&bytes[..fetched]) else { return false };
    let (answer, size) = umip::answer(instruction.question, has_local_table());
    match instruction.operand {
        Operand::Register(number, size) => {
            let mut value = register(frame, number).to_le_bytes();
            value[..size].copy_from_slice(&answer[..size]);
            set_register(frame, number, u64::from_le_bytes(value));
        }
        Operand::Memory { .. } => {
            let address = address(frame, &instruction);
            if user::write_bytes(address, &answer[..size]).is_err() {
                const WRITE_BY_USER: u64 = 6;
                let code = linux::SEGV_MAPERR as i32;
                fault(frame, linux::SIGSEGV, code, address, 14, WRITE_BY_USER, Some(address));
                return true;
            }
        }
    }
    frame.set_rip(frame.rip().wrapping_add(instruction.length as u64));
    true
}

fn has_local_table() -> bool {
    task::current().mm().roots().ldt_entries() != 0
}

fn address(frame: &Frame, instruction: &Instruction) -> u64 {
    let Operand::Memory { segment, base, index, relative, displacement } = instruction.operand
    else {
        return 0;
    };
    let mut address = i64::from(displacement).cast_unsigned();
    let mut add = |value: u64| address = address.wrapping_add(value);
    match segment {
        Segment::Flat => {}
        Segment::Fs => add(scheduler::user_bases().0),
        Segment::Gs => add(scheduler::user_bases().1),
    }
    if let Some(number) = base {
        add(register(frame, number));
    }
    if let Some((number, shift)) = index {
        add(register(frame, number) << shift);
    }
    if relative {
        add(frame.rip().wrapping_add(instruction.length as u64));
    }
    address
}

type Access = (fn(&Frame) -> u64, fn(&mut Frame, u64));

/// The registers by the CPU's numbers.
const REGISTERS: [Access; 16] = [
    (Frame::rax, Frame::set_rax),
    (Frame::rcx, Frame::set_rcx),
    (Frame::rdx, Frame::set_rdx),
    (Frame::rbx, Frame::set_rbx),
    (Frame::rsp, Frame::set_rsp),
    (Frame::rbp, Frame::set_rbp),
    (Frame::rsi, Frame::set_rsi),
    (Frame::rdi, Frame::set_rdi),
    (Frame::r8, Frame::set_r8),
    (Frame::r9, Frame::set_r9),
    (Frame::r10, Frame::set_r10),
    (Frame::r11, Frame::set_r11),
    (Frame::r12, Frame::set_r12),
    (Frame::r13, Frame::set_r13),
    (Frame::r14, Frame::set_r14),
    (Frame::r15, Frame::set_r15),
];

fn register(frame: &Frame, number: u8) -> u64 {
    (REGISTERS[usize::from(number & 15)].0)(frame)
}

fn set_register(frame: &mut Frame, number: u8, value: u64) {
    (REGISTERS[usize::from(number & 15)].1)(frame, value);
}
