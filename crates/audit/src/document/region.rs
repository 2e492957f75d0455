//! Runs of pages: their rights, their names, and what kinds of thing those names stand for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hex;

/// Rights that all levels of the tables together leave, and the leaf's other flags.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Rights {
    /// User mode may use it.
    pub user: bool,
    /// Stores are allowed.
    pub writable: bool,
    /// Fetches are allowed.
    pub executable: bool,
    /// The leaf's G bit: with CR4.PGE its translation outlives a CR3 write.
    pub global: bool,
    /// Protection key, 0 to 15.
    pub key: u8,
}

impl Rights {
    /// In the form `rwx`, `-` for each that is not there. What is present can be read.
    pub fn text(&self) -> String {
        let write = if self.writable { 'w' } else { '-' };
        let execute = if self.executable { 'x' } else { '-' };
        format!("r{write}{execute}")
    }
}

/// A run of neighbouring pages of the same size with the same rights and the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// First virtual address, canonical.
    #[serde(with = "hex")]
    pub address: u64,
    /// Length in bytes, holes included for `repeats`.
    pub bytes: u64,
    /// Physical address of the first page. If `contiguous`, the others follow it.
    #[serde(with = "hex")]
    pub physical: u64,
    /// Whether physical addresses ascend with virtual ones.
    pub contiguous: bool,
    /// 4 KiB, 2 MiB or 1 GiB, in bytes.
    pub page_size: u64,
    /// Pages, each address counted.
    pub pages: u64,
    /// Rights of all of them.
    pub rights: Rights,
    /// Set if all this memory is shown at lower addresses already, by the same tables: the first of those. Linux
    /// shows each espfix stack under 65,536 addresses. The run may then have holes, and pages of several kinds:
    /// `page_size` is the smallest, `rights` what any of them grants. At the same distance from `address` stands what
    /// stands at that distance from `repeats`, until it begins again.
    #[serde(with = "hex::option", default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// What it is, if that could be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
}

impl Region {
    /// Last address. Not the end: the end of the last page is no 64-bit number.
    pub fn last(&self) -> u64 {
        // Wrapping: an audit that was read from a file may say anything.
        self.address.wrapping_add(self.bytes.wrapping_sub(1))
    }

    /// Whether the run holds this virtual address.
    pub fn contains(&self, address: u64) -> bool {
        address >= self.address && address - self.address < self.bytes
    }
}

/// What a region is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// What kind of thing, for colours, expectations and counting.
    pub kind: Kind,
    /// In words, for people: `IDT`, `NMI stack of CPU 1`, `entry_SYSCALL_64`.
    pub text: String,
    /// The CPU that it belongs to, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// The symbol that says so, if a symbol does, with its offset: `cpu_entry_area+0x1000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
}

/// Kinds of memory that user mode's tables may show, or that the kernel's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Holds the IDT.
    Idt,
    /// Holds a GDT.
    Gdt,
    /// Holds a TSS.
    Tss,
    /// Holds a GDT and a TSS.
    GdtAndTss,
    /// Holds an LDT.
    Ldt,
    /// The stack that the CPU loads from RSP0.
    EntryStack,
    /// A stack of the TSS's interrupt stack table.
    InterruptStack,
    /// The same memory under many addresses with equal low bits, for returns to 16-bit stacks.
    Espfix,
    /// Executable, and a target of SYSCALL or of the IDT.
    EntryText,
    /// Executable, for another reason or none known.
    Text,
    /// Linux's legacy page at 0xffffffffff600000.
    Vsyscall,
    /// Per-CPU data that GS points to.
    PerCpu,
    /// A task's kernel stack.
    TaskStack,
    /// The kernel image.
    Image,
    /// A linear map of physical memory.
    DirectMap,
    /// Anything else.
    Data,
}

/// The word that JSON and expectations have for it.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
