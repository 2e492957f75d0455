//! The registers that say where a CPU is and what it can see, from HMP's `info registers`.
//!
//! QEMU prints 32-bit names (`EIP=`) until the CPU has entered long mode and 64-bit names
//! (`RIP=`) after that; both are read.

use crate::Error;

/// One CPU's state, as far as an observer of page tables needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Current privilege level: 3 is user mode.
    pub cpl: u8,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Control register 2: the last page fault's address.
    pub cr2: u64,
    /// Control register 3: the root of the page tables.
    pub cr3: u64,
    /// Control register 4: features (bit 12 is five-level paging).
    pub cr4: u64,
    /// Base of the global descriptor table.
    pub gdt: u64,
    /// Base of the interrupt descriptor table.
    pub idt: u64,
    /// Base of the task state segment.
    pub tss: u64,
}

impl Registers {
    /// Reads the text that HMP's `info registers` prints.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] names the first register that is not there.
    pub fn parse(text: &str) -> Result<Registers, Error> {
        let field = |names: &[&str], word: usize| {
            names.iter().find_map(|name| value(text, name, word)).ok_or_else(|| Error::Unreadable {
                command: "info registers".into(),
                missing: names.join(" or "),
                answer: text.into(),
            })
        };
        Ok(Registers {
            cpl: field(&["CPL="], 0)? as u8,
            rip: field(&["RIP=", "EIP="], 0)?,
            rsp: field(&["RSP=", "ESP="], 0)?,
            cr2: field(&["CR2="], 0)?,
            cr3: field(&["CR3="], 0)?,
            cr4: field(&["CR4="], 0)?,
            gdt: field(&["GDT="], 0)?,
            idt: field(&["IDT="], 0)?,
            // Selector, base, limit, flags.
            tss: field(&["TR ="], 1)?,
        })
    }

    /// Number of levels of page tables that CR3 is the root of: 5 with CR4.LA57, else 4.
    pub fn levels(&self) -> u8 {
        const LA57: u64 = 1 << 12;
        if self.cr4 & LA57 != 0 { 5 } else { 4 }
    }
}

/// The hexadecimal word number `word` after `name`.
fn value(text: &str, name: &str, word: usize) -> Option<u64> {
    let start = text.find(name)? + name.len();
    u64::from_str_radix(text[start..].split_whitespace().nth(word)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG_MODE: &str = "\
CPU#0
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000060fb1
RSI=0000000000000000 RDI=0000000000000000 RBP=0000000000000000 RSP=00007ffd11112220
RIP=0000000000401234 RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0
TR =0040 ffffffff90003000 00004087 00008900 DPL=0 TSS64-avl
GDT=     ffffffff90002000 0000007f
IDT=     ffffffff90001000 00000fff
CR0=80050033 CR2=00007f0000001000 CR3=0000000001a03000 CR4=003006f0
";

    #[test]
    fn long_mode_is_read() {
        let registers = Registers::parse(LONG_MODE).expect("a full listing");
        assert_eq!(registers.cpl, 3);
        assert_eq!(registers.rip, 0x40_1234);
        assert_eq!(registers.cr3, 0x1a0_3000);
        assert_eq!(registers.idt, 0xffff_ffff_9000_1000);
        assert_eq!(registers.tss, 0xffff_ffff_9000_3000);
        assert_eq!(registers.levels(), 4);
    }

    #[test]
    fn real_mode_names_are_read() {
        let text = LONG_MODE.replace("RIP=", "EIP=").replace("RSP=", "ESP=");
        assert_eq!(Registers::parse(&text).expect("a full listing").rip, 0x40_1234);
    }

    #[test]
    fn a_missing_register_is_named() {
        let error = Registers::parse(&LONG_MODE.replace("CR3=", "XYZ=")).expect_err("no CR3");
        assert!(error.to_string().contains("has no CR3="));
    }
}
