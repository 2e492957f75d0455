//! One CPU's registers, as far as they say what its page tables mean and where its tables are.
//!
//! Sources differ in what they know: an ELF core of QEMU has no MSRs, its monitor prints no LSTAR. What a
//! source does not know is `None` and never a guess.

use serde::{Deserialize, Serialize};

use crate::hex;

/// A descriptor-table register, or a system segment's base and limit (Intel SDM vol. 3, 2.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Virtual address of the first byte.
    #[serde(with = "hex")]
    pub base: u64,
    /// Offset of the last byte.
    pub limit: u32,
}

/// The state of one CPU at the moment of the look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// QEMU's number of the CPU, from 0.
    pub index: u32,
    /// Current privilege level: 3 is user mode.
    pub cpl: u8,
    /// Instruction pointer.
    #[serde(with = "hex")]
    pub rip: u64,
    /// Stack pointer.
    #[serde(with = "hex")]
    pub rsp: u64,
    /// Control register 0: WP is bit 16, PG bit 31.
    #[serde(with = "hex")]
    pub cr0: u64,
    /// Control register 3: root, and with CR4.PCIDE the PCID in bits 0 to 11.
    #[serde(with = "hex")]
    pub cr3: u64,
    /// Control register 4.
    #[serde(with = "hex")]
    pub cr4: u64,
    /// IA32_EFER, if the source knows it.
    #[serde(with = "hex::option", default)]
    pub efer: Option<u64>,
    /// Base of GS, if the source knows it.
    #[serde(with = "hex::option", default)]
    pub gs_base: Option<u64>,
    /// IA32_KERNEL_GS_BASE, if the source knows it.
    #[serde(with = "hex::option", default)]
    pub kernel_gs_base: Option<u64>,
    /// IA32_LSTAR: where SYSCALL goes, if the source knows it or has seen a SYSCALL land.
    #[serde(with = "hex::option", default)]
    pub lstar: Option<u64>,
    /// The interrupt descriptor table.
    pub idt: Table,
    /// The global descriptor table.
    pub gdt: Table,
    /// The task state segment.
    pub tss: Table,
    /// The local descriptor table; base and limit 0 without one.
    pub ldt: Table,
}

/// CR4's bits that matter here (Intel SDM vol. 3, 2.5).
mod cr4 {
    pub const PGE: u64 = 1 << 7;
    pub const LA57: u64 = 1 << 12;
    pub const PCIDE: u64 = 1 << 17;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
    pub const PKS: u64 = 1 << 24;
}

/// IA32_EFER.NXE: bit 63 of an entry forbids fetches.
const NXE: u64 = 1 << 11;
/// CR0.WP: supervisor stores respect read-only pages.
const WP: u64 = 1 << 16;

/// What a CPU's control registers make of page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paging {
    /// 4, or 5 with CR4.LA57.
    pub levels: u8,
    /// Bit 63 of an entry forbids fetches. Without EFER it is taken for set, as in any kernel that isolates itself.
    pub no_execute: bool,
    /// CR0.WP.
    pub write_protect: bool,
    /// CR4.PGE: global entries outlive a CR3 write.
    pub global: bool,
    /// CR4.PCIDE: bits 0 to 11 of CR3 are an address-space identifier.
    pub pcid: bool,
    /// CR4.SMEP: ring 0 does not fetch from user pages.
    pub smep: bool,
    /// CR4.SMAP: ring 0 does not read or write user pages without EFLAGS.AC.
    pub smap: bool,
    /// CR4.PKE: user pages have protection keys.
    pub user_keys: bool,
    /// CR4.PKS: supervisor pages have protection keys.
    pub supervisor_keys: bool,
}

impl Cpu {
    /// What the control registers make of the page tables.
    pub fn paging(&self) -> Paging {
        let set = |bit| self.cr4 & bit != 0;
        Paging {
            levels: if set(cr4::LA57) { 5 } else { 4 },
            no_execute: self.efer.is_none_or(|efer| efer & NXE != 0),
            write_protect: self.cr0 & WP != 0,
            global: set(cr4::PGE),
            pcid: set(cr4::PCIDE),
            smep: set(cr4::SMEP),
            smap: set(cr4::SMAP),
            user_keys: set(cr4::PKE),
            supervisor_keys: set(cr4::PKS),
        }
    }

    /// Physical address of the root in CR3, without the PCID and cache bits.
    pub fn root(&self) -> u64 {
        self.cr3 & crate::entry::ADDRESS
    }

    /// Whether the CPU was stopped in user mode.
    pub fn in_ring_3(&self) -> bool {
        self.cpl == 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_registers_are_read_by_the_manuals_bits() {
        let cpu = Cpu { cr0: 0x8005_0033, cr3: 0x1234_5803, cr4: 0x0032_1020, ..Cpu::default() };
        let paging = cpu.paging();
        assert_eq!((paging.levels, cpu.root()), (5, 0x1234_5000));
        assert!(
            paging.no_execute && paging.write_protect && paging.pcid && paging.smep && paging.smap
        );
        assert!(!paging.global && !paging.user_keys && !paging.supervisor_keys);
    }
}
