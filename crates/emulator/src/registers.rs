//! The registers that say where a CPU is and what it can see, from HMP's `info registers`.
//!
//! QEMU prints 32-bit names (`EIP=`) until the CPU has entered long mode and 64-bit names
//! (`RIP=`) after that; both are read. The listing of each CPU begins with `CPU#` and its number. It has looked like
//! this since QEMU 4; what a version leaves out, EFER for one, is `None` and no error.

use crate::Error;

/// A descriptor-table register, or a system segment's base and limit (Intel SDM vol. 3, 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Virtual address of the first byte.
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u32,
}

/// One CPU's state, as far as an observer of page tables needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The emulator's number of the CPU, from 0.
    pub index: u32,
    /// Current privilege level: 3 is user mode.
    pub cpl: u8,
    /// Whether the CPU waits in HLT; false where the source does not say.
    pub halted: bool,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Control register 0: WP is bit 16, PG bit 31.
    pub cr0: u64,
    /// Control register 2: the last page fault's address.
    pub cr2: u64,
    /// Control register 3: the root of the page tables.
    pub cr3: u64,
    /// Control register 4: features (bit 12 is five-level paging).
    pub cr4: u64,
    /// IA32_EFER, if the source knows it.
    pub efer: Option<u64>,
    /// Base of GS, if the source knows it.
    pub gs_base: Option<u64>,
    /// IA32_KERNEL_GS_BASE, if the source knows it.
    pub kernel_gs_base: Option<u64>,
    /// IA32_LSTAR: where SYSCALL goes, if the source knows it.
    pub lstar: Option<u64>,
    /// The global descriptor table.
    pub gdt: Table,
    /// The interrupt descriptor table.
    pub idt: Table,
    /// The task state segment.
    pub tss: Table,
    /// The local descriptor table; base and limit 0 without one.
    pub ldt: Table,
}

impl Registers {
    /// More CPUs than QEMU's machines take.
    const MOST_CPUS: usize = 4096;

    /// Reads the text that HMP's `info registers` prints of one CPU.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] names the first register that is not there.
    pub fn parse(text: &str) -> Result<Registers, Error> {
        let field = |names: &[&str], word: usize| {
            let found = names.iter().find_map(|name| value(text, name, word));
            found.ok_or_else(|| Error::unreadable("info registers", &names.join(" or "), text))
        };
        // Base and limit follow the selector where there is one.
        let table = |name: &str, word: usize| -> Result<Table, Error> {
            let limit = field(&[name], word + 1)?;
            Ok(Table { base: field(&[name], word)?, limit: limit as u32 })
        };
        Ok(Registers {
            index: number(text).unwrap_or(0),
            cpl: (field(&["CPL="], 0)? & 3) as u8,
            halted: value(text, "HLT=", 0) == Some(1),
            rip: field(&["RIP=", "EIP="], 0)?,
            rsp: field(&["RSP=", "ESP="], 0)?,
            cr0: field(&["CR0="], 0)?,
            cr2: field(&["CR2="], 0)?,
            cr3: field(&["CR3="], 0)?,
            cr4: field(&["CR4="], 0)?,
            efer: value(text, "EFER=", 0),
            gs_base: value(text, "GS =", 1),
            kernel_gs_base: None,
            lstar: None,
            gdt: table("GDT=", 0)?,
            idt: table("IDT=", 0)?,
            tss: table("TR =", 1)?,
            ldt: table("LDT=", 1)?,
        })
    }

    /// Reads what HMP's `info registers -a` prints: every CPU, in ascending order.
    ///
    /// # Errors
    ///
    /// As [`Registers::parse`]; also if there is no CPU, or more than any machine has.
    pub fn parse_all(text: &str) -> Result<Vec<Registers>, Error> {
        let starts: Vec<usize> = text
            .match_indices(HEAD)
            .map(|(at, _)| at)
            .filter(|at| *at == 0 || text.as_bytes()[at - 1] == b'\n')
            .take(Registers::MOST_CPUS + 1)
            .collect();
        if starts.is_empty() || starts.len() > Registers::MOST_CPUS {
            return Err(Error::unreadable("info registers -a", "list of CPUs", text));
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let mut cpus = starts
            .iter()
            .zip(ends)
            .map(|(start, end)| Registers::parse(&text[*start..end]))
            .collect::<Result<Vec<_>, _>>()?;
        cpus.sort_by_key(|cpu| cpu.index);
        cpus.dedup_by_key(|cpu| cpu.index);
        Ok(cpus)
    }

    /// Number of levels of page tables that CR3 is the root of: 5 with CR4.LA57, else 4.
    pub fn levels(&self) -> u8 {
        const LA57: u64 = 1 << 12;
        if self.cr4 & LA57 != 0 { 5 } else { 4 }
    }

    /// Whether the CPU runs user mode's code.
    pub fn in_ring_3(&self) -> bool {
        self.cpl == 3
    }
}

/// What stands before the listing of each CPU.
const HEAD: &str = "CPU#";

/// The CPU's number, which follows the head.
fn number(text: &str) -> Option<u32> {
    let rest = &text[text.find(HEAD)? + HEAD.len()..];
    let end = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The hexadecimal word number `word` after `name`, in the same line.
fn value(text: &str, name: &str, word: usize) -> Option<u64> {
    let start = text.find(name)? + name.len();
    let line = text[start..].lines().next()?;
    u64::from_str_radix(line.split_whitespace().nth(word)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU 7.2, Linux in user mode on the second CPU of two.
    const LONG_MODE: &str = "\
CPU#1
RAX=0000000000000000 RBX=0000000000000000 RCX=0000000000000000 RDX=0000000000060fb1
RSI=0000000000000000 RDI=0000000000000000 RBP=0000000000000000 RSP=00007ffd11112220
RIP=0000000000401234 RFL=00000246 [---Z-P-] CPL=3 II=0 A20=1 SMM=0 HLT=0
GS =0000 ff3369bcbea80000 00000000 00000000
LDT=0050 fffffe0000102000 0000000f 00008200 DPL=0 LDT
TR =0040 ffffffff90003000 00004087 00008900 DPL=0 TSS64-avl
GDT=     ffffffff90002000 0000007f
IDT=     ffffffff90001000 00000fff
CR0=80050033 CR2=00007f0000001000 CR3=0000000001a03000 CR4=003006f0
DR6=00000000ffff0ff0 DR7=0000000000000400
CCS=0000000000000044 CCD=0000000000000000 CCO=EFLAGS
EFER=0000000000000d01
";

    #[test]
    fn long_mode_is_read() {
        let registers = Registers::parse(LONG_MODE).expect("a full listing");
        assert_eq!((registers.index, registers.cpl, registers.halted), (1, 3, false));
        assert_eq!(registers.rip, 0x40_1234);
        assert_eq!(registers.cr0, 0x8005_0033);
        assert_eq!(registers.cr3, 0x1a0_3000);
        assert_eq!(registers.efer, Some(0xd01));
        assert_eq!(registers.gs_base, Some(0xff33_69bc_bea8_0000));
        assert_eq!(registers.gdt, Table { base: 0xffff_ffff_9000_2000, limit: 0x7f });
        assert_eq!(registers.idt, Table { base: 0xffff_ffff_9000_1000, limit: 0xfff });
        assert_eq!(registers.tss, Table { base: 0xffff_ffff_9000_3000, limit: 0x4087 });
        assert_eq!(registers.ldt, Table { base: 0xffff_fe00_0010_2000, limit: 0xf });
        assert_eq!(registers.levels(), 4);
    }

    #[test]
    fn real_mode_names_are_read() {
        let text = LONG_MODE.replace("RIP=", "EIP=").replace("RSP=", "ESP=");
        let text = text.replace("GS =0000 ff3369bcbea80000", "GS =0000 00000000");
        let registers = Registers::parse(&text).expect("a full listing");
        assert_eq!((registers.rip, registers.gs_base), (0x40_1234, Some(0)));
    }

    #[test]
    fn a_missing_register_is_named() {
        let error = Registers::parse(&LONG_MODE.replace("CR3=", "XYZ=")).expect_err("no CR3");
        assert!(error.to_string().contains("has no CR3="));
        // The next line's words are not the missing word.
        let cut =
            LONG_MODE.replace("GDT=     ffffffff90002000 0000007f", "GDT=     ffffffff90002000");
        assert!(Registers::parse(&cut).is_err());
    }

    #[test]
    fn what_a_version_leaves_out_is_unknown() {
        let text = LONG_MODE.replace("EFER=", "XYZ=");
        assert_eq!(Registers::parse(&text).expect("enough").efer, None);
    }

    #[test]
    fn every_cpu_is_read() {
        let halted = LONG_MODE.replace("CPU#1", "CPU#0").replace("HLT=0", "HLT=1");
        let cpus = Registers::parse_all(&format!("\n{LONG_MODE}\n{halted}")).expect("two listings");
        assert_eq!(cpus.iter().map(|cpu| cpu.index).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(cpus.iter().map(|cpu| cpu.halted).collect::<Vec<_>>(), [true, false]);
        assert!(Registers::parse_all("").is_err());
        assert!(Registers::parse_all(&"CPU#0\n".repeat(5000)).is_err());
    }
}
