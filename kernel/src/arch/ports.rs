//! IN, OUT, INS and OUTS of programs that iopl or ioperm lets use ports.
//!
//! Every one of them is #GP, since the TSS has no I/O permission bitmap: see [`ringwall_rules::ports`]. The kernel
//! does it in the CPU's place, INS and OUTS one element at a time. A program that steps itself sees such
//! an instruction and the next one as a single step. As on Linux, iopl(3) makes CLI and STI do nothing.

use crate::mm::layout::USER_END;
use crate::signal::fault;
use crate::{task, task::scheduler, user};
use linux_raw_sys::general as linux;
use ringwall::{Frame, USER_CODE_32_SELECTOR, USER_CODE_SELECTOR};
use ringwall_rules::ports::{Direction, Instruction, LONGEST, Segment, Text, decode};
use x86_64::instructions::port::Port;

const CLI: u8 = 0xfa;
const STI: u8 = 0xfb;

const DIRECTION_FLAG: u64 = 1 << 10;

/// Does the instruction that faulted, if it is one that the thread may use ports with; whether it was.
pub fn emulate(frame: &mut Frame) -> bool {
    let thread = task::current();
    let level = {
        let ports = thread.ports.lock();
        if ports.is_none() {
            return false;
        }
        ports.level()
    };
    let selector = frame.cs();
    let wide = selector == USER_CODE_SELECTOR;
    // Code of an LDT segment may have any base: there is no saying what faulted.
    if !(wide || selector == USER_CODE_32_SELECTOR) || frame.rip() >= USER_END {
        return false;
    }
    let mut bytes = [0; LONGEST];
    let fetched = user::read_some(frame.rip(), &mut bytes);
    if level == 3 && fetched > 0 && matches!(bytes[0], CLI | STI) {
        frame.set_rip(frame.rip().wrapping_add(1));
        return true;
    }
    let Some(instruction) = decode(&bytes[..fetched], wide) else { return false };
    let port = instruction.port.map_or(frame.rdx() as u16, u16::from);
    if !thread.ports.lock().allow(port, instruction.size) {
        return false;
    }
    let done = match instruction.text {
        None => plain(frame, &instruction, port),
        Some(text) => string(frame, &instruction, port, text),
    };
    if done {
        frame.set_rip(frame.rip().wrapping_add(instruction.length as u64));
    }
    true
}

fn plain(frame: &mut Frame, instruction: &Instruction, port: u16) -> bool {
    let rax = frame.rax();
    match instruction.direction {
        Direction::Out => output(port, instruction.size, rax as u32),
        Direction::In => {
            let value = u64::from(input(port, instruction.size));
            frame.set_rax(match instruction.size {
                1 => rax & !0xff | value,
                2 => rax & !0xffff | value,
                _ => value,
            });
        }
    }
    true
}

/// One element of INS or OUTS; whether it was the last. A fault on the memory side is sent.
fn string(frame: &mut Frame, instruction: &Instruction, port: u16, text: Text) -> bool {
    let mask = u64::MAX >> (u64::BITS - text.address_bits);
    if text.repeat && frame.rcx() & mask == 0 {
        return true;
    }
    let size = instruction.size;
    let mut element = [0; 4];
    let (index, failed) = match instruction.direction {
        Direction::In => {
            let at = frame.rdi() & mask;
            // What the device gives is gone if it cannot be stored: look first.
            let mut old = [0; 4];
            let mut failed = user::read_bytes(at, &mut old[..size])
                .and_then(|()| user::write_bytes(at, &old[..size]))
                .is_err();
            if !failed {
                element = input(port, size).to_le_bytes();
                failed = user::write_bytes(at, &element[..size]).is_err();
            }
            (at, failed.then_some(at))
        }
        Direction::Out => {
            let base = match text.segment {
                Segment::Flat => 0,
                Segment::Fs => scheduler::user_bases().0,
                Segment::Gs => scheduler::user_bases().1,
            };
            let index = frame.rsi() & mask;
            let at = base.wrapping_add(index);
            let failed = user::read_bytes(at, &mut element[..size]).is_err();
            if !failed {
                output(port, size, u32::from_le_bytes(element));
            }
            (index, failed.then_some(at))
        }
    };
    if let Some(address) = failed {
        const BY_USER: u64 = 4;
        let code = linux::SEGV_MAPERR as i32;
        fault(frame, linux::SIGSEGV, code, address, 14, BY_USER, Some(address));
        return false;
    }
    let step = size as u64;
    let next = if frame.rflags() & DIRECTION_FLAG != 0 {
        index.wrapping_sub(step)
    } else {
        index.wrapping_add(step)
    };
    // A 32-bit result clears the upper half of a register; a 16-bit one leaves the rest alone.
    let merge = |old: u64, new: u64| match text.address_bits {
        16 => old & !mask | new & mask,
        _ => new & mask,
    };
    match instruction.direction {
        Direction::In => frame.set_rdi(merge(frame.rdi(), next)),
        Direction::Out => frame.set_rsi(merge(frame.rsi(), next)),
    }
    if !text.repeat {
        return true;
    }
    let left = merge(frame.rcx(), frame.rcx().wrapping_sub(1));
    frame.set_rcx(left);
    left & mask == 0
}

fn input(port: u16, size: usize) -> u32 {
    // SAFETY: this and the two below: a program that has these ports may do to the machine whatever it
    // wants with them; root gave it that right. A read changes no memory.
    unsafe {
        match size {
            1 => Port::<u8>::new(port).read().into(),
            2 => Port::<u16>::new(port).read().into(),
            _ => Port::<u32>::new(port).read(),
        }
    }
}

fn output(port: u16, size: usize, value: u32) {
    // SAFETY: as in `input`.
    unsafe {
        match size {
            1 => Port::<u8>::new(port).write(value as u8),
            2 => Port::<u16>::new(port).write(value as u16),
            _ => Port::<u32>::new(port).write(value),
        }
    }
}
