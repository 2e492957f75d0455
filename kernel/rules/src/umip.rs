//! The instructions that UMIP keeps from user mode (SDM vol. 3, 2.5, CR4.UMIP), as 64-bit code writes them:
//! which it is, where its result goes, and what the kernel says instead of the truth.
//!
//! The made-up values are Linux's, which Wine and DOSEMU know.
//!
//! ```text
//!   [prefixes] [REX] 0F 01 /0 SGDT  /1 SIDT  /4 SMSW      /0 and /1: memory only
//!                    0F 00 /0 SLDT  /1 STR
//! ```

/// What the instruction asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// SGDT.
    GlobalTable,
    /// SIDT.
    InterruptTable,
    /// SMSW.
    MachineStatus,
    /// SLDT.
    LocalTable,
    /// STR.
    Task,
}

/// Where a memory operand's segment base comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// Any segment but the two below: base 0.
    Flat,
    /// FS.
    Fs,
    /// GS.
    Gs,
}

/// Where the result goes. Registers are numbered as the CPU does: RAX, RCX, RDX, RBX, RSP, RBP, RSI,
/// RDI, R8 to R15.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// This register, so many bytes of it.
    Register(u8, usize),
    /// Memory at the sum of these.
    Memory {
        /// Whose base to add.
        segment: Segment,
        /// A register.
        base: Option<u8>,
        /// A register, shifted left.
        index: Option<(u8, u8)>,
        /// The address of the next instruction is added.
        relative: bool,
        /// Sign-extended.
        displacement: i32,
    },
}

/// One such instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What it asks for.
    pub question: Question,
    /// Where the answer goes.
    pub operand: Operand,
    /// Its length in bytes.
    pub length: usize,
}

/// The longest instruction there is.
pub const LONGEST: usize = 15;

/// Decodes `bytes`, up to [`LONGEST`]; `None` if it is none of these.
pub fn decode(bytes: &[u8]) -> Option<Instruction> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let mut at = 0;
    let mut next = || {
        at += 1;
        bytes.get(at - 1).copied()
    };
    let (mut segment, mut short) = (Segment::Flat, false);
    let mut byte = next()?;
    loop {
        match byte {
            0x26 | 0x2e | 0x36 | 0x3e => segment = Segment::Flat,
            0x64 => segment = Segment::Fs,
            0x65 => segment = Segment::Gs,
            0x66 => short = true,
            0xf2 | 0xf3 => {}
            _ => break,
        }
        byte = next()?;
    }
    let mut rex = 0;
    if byte & 0xf0 == 0x40 {
        rex = byte;
        byte = next()?;
    }
    if byte != 0x0f {
        return None;
    }
    let group = next()?;
    let form = next()?;
    let (mode, low) = (form >> 6, form & 7);
    let question = match (group, form >> 3 & 7) {
        (1, 0) if mode != 3 => Question::GlobalTable,
        (1, 1) if mode != 3 => Question::InterruptTable,
        (1, 4) => Question::MachineStatus,
        (0, 0) => Question::LocalTable,
        (0, 1) => Question::Task,
        _ => return None,
    };
    let high = |bit: u8| (rex >> bit & 1) << 3;
    if mode == 3 {
        let size = match (rex >> 3 & 1, short) {
            (1, _) => 8,
            (_, true) => 2,
            _ => 4,
        };
        return Some(Instruction {
            question,
            operand: Operand::Register(low | high(0), size),
            length: at,
        });
    }
    let (mut base, mut index) = (Some(low | high(0)), None);
    let mut wide = mode == 2;
    let mut relative = false;
    if low == 4 {
        let scaled = next()?;
        let number = scaled >> 3 & 7 | high(1);
        index = (number != 4).then_some((number, scaled >> 6));
        base = Some(scaled & 7 | high(0));
        if scaled & 7 == 5 && mode == 0 {
            (base, wide) = (None, true);
        }
    } else if low == 5 && mode == 0 {
        (base, wide, relative) = (None, true, true);
    }
    let displacement = if wide {
        i32::from_le_bytes([next()?, next()?, next()?, next()?])
    } else if mode == 1 {
        i32::from(next()?.cast_signed())
    } else {
        0
    };
    let operand = Operand::Memory { segment, base, index, relative, displacement };
    Some(Instruction { question, operand, length: at })
}

/// What a program is told, as it is stored in memory: a limit of 0 and a base, or one word.
/// `has_local_table`: the process has an LDT.
pub fn answer(question: Question, has_local_table: bool) -> ([u8; 10], usize) {
    const GLOBAL_TABLE: u64 = 0xffff_ffff_fffe_0000;
    const INTERRUPT_TABLE: u64 = 0xffff_ffff_ffff_0000;
    /// PE, MP, ET, NE, WP, AM and PG.
    const MACHINE_STATUS: u64 = 0x8005_0033;
    const LOCAL_TABLE: u64 = 0x50;
    const TASK: u64 = 0x40;
    let (value, offset) = match question {
        Question::GlobalTable => (GLOBAL_TABLE, 2),
        Question::InterruptTable => (INTERRUPT_TABLE, 2),
        Question::MachineStatus => (MACHINE_STATUS, 0),
        Question::LocalTable => (if has_local_table { LOCAL_TABLE } else { 0 }, 0),
        Question::Task => (TASK, 0),
    };
    let mut bytes = [0; 10];
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    (bytes, if offset == 0 { 2 } else { 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(base: Option<u8>, index: Option<(u8, u8)>, displacement: i32) -> Operand {
        Operand::Memory { segment: Segment::Flat, base, index, relative: false, displacement }
    }

    #[test]
    fn questions() {
        let question = |bytes: &[u8]| decode(bytes).map(|found| found.question);
        assert_eq!(question(&[0x0f, 0x01, 0x00]), Some(Question::GlobalTable));
        assert_eq!(question(&[0x0f, 0x01, 0x08]), Some(Question::InterruptTable));
        assert_eq!(question(&[0x0f, 0x01, 0x20]), Some(Question::MachineStatus));
        assert_eq!(question(&[0x0f, 0x00, 0x00]), Some(Question::LocalTable));
        assert_eq!(question(&[0x0f, 0x00, 0x08]), Some(Question::Task));
        // VMCALL, CLAC, LGDT, LLDT, an address of 32 bits, nothing.
        for other in [[0x0f, 0x01, 0xc1], [0x0f, 0x01, 0xca], [0x0f, 0x01, 0x10]] {
            assert_eq!(question(&other), None);
        }
        assert_eq!(question(&[0x0f, 0x00, 0x10]), None);
        assert_eq!(question(&[0x67, 0x0f, 0x01, 0x00]), None);
        assert_eq!(question(&[]), None);
    }

    #[test]
    fn registers() {
        let operand = |bytes: &[u8]| decode(bytes).map(|found| (found.operand, found.length));
        assert_eq!(operand(&[0x0f, 0x01, 0xe3]), Some((Operand::Register(3, 4), 3)));
        assert_eq!(operand(&[0x66, 0x0f, 0x01, 0xe3]), Some((Operand::Register(3, 2), 4)));
        assert_eq!(operand(&[0x49, 0x0f, 0x01, 0xe3]), Some((Operand::Register(11, 8), 4)));
    }

    #[test]
    fn memory_operands() {
        let operand = |bytes: &[u8]| decode(bytes).map(|found| (found.operand, found.length));
        assert_eq!(operand(&[0x0f, 0x01, 0x00]), Some((memory(Some(0), None, 0), 3)));
        assert_eq!(operand(&[0x41, 0x0f, 0x01, 0x40, 0xf0]), Some((memory(Some(8), None, -16), 5)));
        assert_eq!(
            operand(&[0x0f, 0x01, 0x84, 0x8c, 1, 0, 0, 0]),
            Some((memory(Some(4), Some((1, 2)), 1), 8)),
            "[rsp + rcx * 4 + 1]"
        );
        assert_eq!(
            operand(&[0x0f, 0x01, 0x04, 0x25, 0, 0x10, 0, 0]),
            Some((memory(None, None, 0x1000), 8)),
            "an absolute address"
        );
        assert_eq!(
            operand(&[0x42, 0x0f, 0x01, 0x04, 0x24]),
            Some((memory(Some(4), Some((12, 0)), 0), 5)),
            "R12 as index"
        );
        let relative = decode(&[0x64, 0x0f, 0x01, 0x05, 0xff, 0xff, 0xff, 0xff]);
        let expected = Operand::Memory {
            segment: Segment::Fs,
            base: None,
            index: None,
            relative: true,
            displacement: -1,
        };
        assert_eq!(relative.map(|found| (found.operand, found.length)), Some((expected, 8)));
    }

    #[test]
    fn every_prefix_of_an_instruction_is_none() {
        let whole = [0x65, 0x42, 0x0f, 0x01, 0x84, 0x8c, 1, 2, 3, 4];
        assert!(decode(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), None);
        }
    }

    #[test]
    fn answers() {
        assert_eq!(answer(Question::Task, false), ([0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0], 2));
        assert_eq!(answer(Question::LocalTable, false).0[0], 0);
        assert_eq!(answer(Question::LocalTable, true).0[0], 0x50);
        let (bytes, size) = answer(Question::GlobalTable, false);
        assert_eq!((&bytes[..4], size), (&[0, 0, 0, 0][..], 10));
    }
}
