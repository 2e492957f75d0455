//! Port I/O of programs: which ports a thread may use (iopl, ioperm), and what the instruction is that
//! it used one with.
//!
//! The CPU finds an I/O permission bitmap behind the TSS, and reads it under the user root. There is none
//! here, so that nothing more than the TSS is visible to user mode: every IN and OUT of ring 3 is #GP, and
//! the kernel does those that are allowed.
//!
//! ```text
//!   [prefixes] [REX] E4 E5 imm8, EC ED    IN       6C 6D  INS       even: a byte; odd: a word or
//!                    E6 E7 imm8, EE EF    OUT      6E 6F  OUTS      doubleword, by the prefix 66
//! ```

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// How many ports there are.
pub const PORTS: u32 = 1 << 16;

const WORD_BITS: u32 = u64::BITS;

/// The ports that a thread may use.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// As iopl has set it: 3 stands for all ports.
    level: u8,
    /// A bit for each port that ioperm has allowed; nothing if none is.
    allowed: Vec<u64>,
}

impl Permissions {
    /// No port.
    pub const NONE: Permissions = Permissions { level: 0, allowed: Vec::new() };

    /// Whether neither call has set anything.
    pub fn is_none(&self) -> bool {
        self.level == 0 && self.allowed.is_empty()
    }

    /// What iopl has set.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Sets what iopl sets, 0 to 3.
    pub fn set_level(&mut self, level: u8) {
        self.level = level;
    }

    /// The same once more.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn copy(&self) -> Result<Permissions, TryReserveError> {
        let mut allowed = Vec::new();
        allowed.try_reserve_exact(self.allowed.len())?;
        allowed.extend_from_slice(&self.allowed);
        Ok(Permissions { level: self.level, allowed })
    }

    /// Allows or forbids `count` ports from `first` on, as ioperm does. They are ports.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn set(&mut self, first: u32, count: u32, allow: bool) -> Result<(), TryReserveError> {
        if self.allowed.is_empty() {
            if !allow {
                return Ok(());
            }
            let words = (PORTS / WORD_BITS) as usize;
            self.allowed.try_reserve_exact(words)?;
            self.allowed.resize(words, 0);
        }
        for port in first..first + count {
            let bit = 1 << (port % WORD_BITS);
            let word = &mut self.allowed[(port / WORD_BITS) as usize];
            *word = if allow { *word | bit } else { *word & !bit };
        }
        if !allow && self.allowed.iter().all(|word| *word == 0) {
            self.allowed = Vec::new();
        }
        Ok(())
    }

    /// Whether `size` ports from `port` on may be used at once. None lies beyond the last.
    pub fn allow(&self, port: u16, size: usize) -> bool {
        let ports = u32::from(port)..u32::from(port) + size as u32;
        let bit = |port: u32| {
            self.allowed.get((port / WORD_BITS) as usize).copied().unwrap_or(0)
                >> (port % WORD_BITS)
                & 1
        };
        ports.end <= PORTS && (self.level == 3 || ports.into_iter().all(|port| bit(port) == 1))
    }
}

/// Which way the data goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To the program.
    In,
    /// From the program.
    Out,
}

/// Where a string instruction reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// A segment of base 0.
    Flat,
    /// FS.
    Fs,
    /// GS.
    Gs,
}

/// The memory side of INS and OUTS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text {
    /// A REP prefix.
    pub repeat: bool,
    /// Bits of the address and of the count: 64, 32, or 16.
    pub address_bits: u32,
    /// Whose base is added to RSI (OUTS).
    pub segment: Segment,
}

/// One IN, OUT, INS or OUTS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// Which way.
    pub direction: Direction,
    /// Bytes at once: 1, 2 or 4.
    pub size: usize,
    /// The port in the instruction; none for DX.
    pub port: Option<u8>,
    /// For INS and OUTS.
    pub text: Option<Text>,
    /// Its length in bytes.
    pub length: usize,
}

/// The longest instruction there is.
pub const LONGEST: usize = 15;

/// Decodes `bytes`, up to [`LONGEST`]; `None` if it is none of these. `wide`: it is 64-bit code, else
/// 32-bit code.
pub fn decode(bytes: &[u8], wide: bool) -> Option<Instruction> {
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let mut at = 0;
    let mut next = || {
        at += 1;
        bytes.get(at - 1).copied()
    };
    let (mut segment, mut short, mut narrow, mut repeat) = (Segment::Flat, false, false, false);
    let mut byte = next()?;
    loop {
        match byte {
            // In 64-bit code these four do not undo an FS or GS before them.
            0x26 | 0x2e | 0x36 | 0x3e if wide => {}
            0x26 | 0x2e | 0x36 | 0x3e => segment = Segment::Flat,
            0x64 => segment = Segment::Fs,
            0x65 => segment = Segment::Gs,
            0x66 => short = true,
            0x67 => narrow = true,
            0xf2 | 0xf3 => repeat = true,
            _ => break,
        }
        byte = next()?;
    }
    if wide && byte & 0xf0 == 0x40 {
        // Not even W changes anything: data is 32 bits wide at most.
        byte = next()?;
    }
    let address_bits = match (wide, narrow) {
        (true, false) => 64,
        (true, true) | (false, false) => 32,
        (false, true) => 16,
    };
    let (direction, immediate, text) = match byte {
        0xe4 | 0xe5 => (Direction::In, true, false),
        0xe6 | 0xe7 => (Direction::Out, true, false),
        0xec | 0xed => (Direction::In, false, false),
        0xee | 0xef => (Direction::Out, false, false),
        0x6c | 0x6d => (Direction::In, false, true),
        0x6e | 0x6f => (Direction::Out, false, true),
        _ => return None,
    };
    let size = match (byte & 1, short) {
        (0, _) => 1,
        (_, true) => 2,
        _ => 4,
    };
    let port = if immediate { Some(next()?) } else { None };
    let text = text.then_some(Text { repeat, address_bits, segment });
    Some(Instruction { direction, size, port, text, length: at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_allowed_at_first() {
        let none = Permissions::NONE;
        assert!(none.is_none());
        assert!(!none.allow(0x80, 1));
    }

    #[test]
    fn single_ports() {
        let mut ports = Permissions::NONE;
        ports.set(0x80, 2, true).expect("memory");
        assert!(!ports.is_none());
        assert!(ports.allow(0x80, 1) && ports.allow(0x80, 2) && ports.allow(0x81, 1));
        assert!(!ports.allow(0x80, 4) && !ports.allow(0x7f, 2) && !ports.allow(0x82, 1));
        let copy = ports.copy().expect("memory");
        ports.set(0x80, 1, false).expect("memory");
        assert!(!ports.allow(0x80, 1) && ports.allow(0x81, 1) && copy.allow(0x80, 1));
        ports.set(0, PORTS, false).expect("memory");
        assert!(ports.is_none());
    }

    #[test]
    fn the_last_port_has_nothing_behind_it() {
        let mut ports = Permissions::NONE;
        ports.set(0, PORTS, true).expect("memory");
        assert!(ports.allow(0xffff, 1) && !ports.allow(0xffff, 2) && !ports.allow(0xfffd, 4));
        let mut all = Permissions::NONE;
        all.set_level(3);
        assert!(all.allow(0xfffc, 4) && !all.allow(0xfffd, 4));
        all.set_level(2);
        assert!(!all.allow(0x80, 1));
    }

    fn found(bytes: &[u8]) -> Option<(Direction, usize, Option<u8>, usize)> {
        decode(bytes, true).map(|it| (it.direction, it.size, it.port, it.length))
    }

    #[test]
    fn plain_forms() {
        assert_eq!(found(&[0xe6, 0x80]), Some((Direction::Out, 1, Some(0x80), 2)));
        assert_eq!(found(&[0xe5, 0x80]), Some((Direction::In, 4, Some(0x80), 2)));
        assert_eq!(found(&[0x66, 0xef]), Some((Direction::Out, 2, None, 2)));
        assert_eq!(found(&[0x48, 0xed]), Some((Direction::In, 4, None, 2)));
        assert_eq!(found(&[0xec]), Some((Direction::In, 1, None, 1)));
        // LOCK, HLT, nothing, half of one.
        for other in [&[0xf0, 0xec][..], &[0xf4], &[], &[0x66], &[0xe4]] {
            assert_eq!(found(other), None);
        }
        // As 32-bit code, 48h is an instruction of its own.
        assert_eq!(decode(&[0x48, 0xed], false), None);
        assert_eq!(decode(&[0x66; 15], true), None);
    }

    #[test]
    fn strings() {
        let text = |bytes: &[u8], wide| decode(bytes, wide).and_then(|it| it.text);
        let flat = Text { repeat: false, address_bits: 64, segment: Segment::Flat };
        assert_eq!(text(&[0x6e], true), Some(flat));
        assert_eq!(text(&[0xf3, 0x6c], true), Some(Text { repeat: true, ..flat }));
        assert_eq!(text(&[0x67, 0x6c], true), Some(Text { address_bits: 32, ..flat }));
        assert_eq!(text(&[0x67, 0x6c], false), Some(Text { address_bits: 16, ..flat }));
        assert_eq!(text(&[0x65, 0x2e, 0x6e], true), Some(Text { segment: Segment::Gs, ..flat }));
        assert_eq!(text(&[0xec], true), None);
    }
}
