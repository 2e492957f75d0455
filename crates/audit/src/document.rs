//! The result of a look, as data: what the terminal table, the JSON and the HTML page are all made from.
//!
//! ```text
//!   Audit
//!    |- cpus      registers of each CPU, how it was caught, which view it runs under
//!    |- views     one per root pair: what user mode sees, what the kernel sees
//!    |   '- regions   runs of neighbouring pages with the same rights and name
//!    |- findings  what is wrong, with the places
//!    '- boots     how visible addresses move with the kernel, if several boots were looked at
//! ```
//!
//! Serialised with serde this is the JSON that `docs/audit-schema.md` documents. A change of meaning or a field that
//! goes away makes a new [`SCHEMA`]; a new field does not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cpu::{Cpu, Paging};
use crate::hex;

/// The version of the JSON form.
pub const SCHEMA: u32 = 1;

/// All that is said of one guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// [`SCHEMA`] of the writer.
    pub schema: u32,
    /// Program and version that made this.
    pub tool: String,
    /// What was looked at, in words: `core dump.elf`, `QEMU at /tmp/qmp`.
    pub source: String,
    /// Every CPU that was looked at, in ascending order of index.
    pub cpus: Vec<CpuView>,
    /// Every CPU that was not looked at: it has no page tables, or not those of 64-bit mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<Unseen>,
    /// Every root pair that a CPU runs under.
    pub views: Vec<View>,
    /// What is wrong, worst first.
    pub findings: Vec<Finding>,
    /// What several boots give away of the kernel's random address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots: Option<Boots>,
}

/// One CPU and the view it runs under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CpuView {
    /// Its registers.
    pub cpu: Cpu,
    /// What they make of page tables.
    pub paging: Paging,
    /// How the user root was found.
    pub caught: Caught,
    /// Index into [`Audit::views`].
    pub view: usize,
}

/// A CPU that nothing can be said of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// QEMU's number of the CPU.
    pub index: u32,
    /// Why, in words.
    pub reason: String,
}

/// How it is known which root ring 3 runs under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caught {
    /// The CPU was stopped in ring 3: CR3 is what user mode runs under.
    Ring3,
    /// The CPU was in the kernel, on the kernel root of a pair: the user root is the other one.
    PairInKernel,
    /// The CPU was in the kernel and its root has no other half that can be found: that root is shown.
    RootInKernel,
}

/// What one root pair shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Physical address of the root that user mode runs under.
    #[serde(with = "hex")]
    pub user_root: u64,
    /// Physical address of the kernel's root, if it is another one; `None` without isolation.
    #[serde(with = "hex::option")]
    pub kernel_root: Option<u64>,
    /// Supervisor pages that the user root maps, ascending: what isolation is about. Pages of the kernel half that even
    /// user mode may access are here too, with `rights.user` set.
    pub visible: Vec<Region>,
    /// User pages of the user root's user half, ascending, for orientation.
    pub user: Vec<Region>,
    /// What the kernel root maps in its kernel half, ascending, coarse: for the picture, for pointers.
    /// Empty without isolation, when `visible` says it all.
    pub kernel: Vec<Region>,
    /// Physical address of a user root that belongs to `user_root`, though ring 3 runs without it: `user_root` is the
    /// kernel root of a pair then.
    #[serde(with = "hex::option", default, skip_serializing_if = "Option::is_none")]
    pub unused_user_root: Option<u64>,
    /// Isolation is switched off for the process whose roots these are: the CPU's IDT is not in the unused user root.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub switched_off: bool,
    /// Where `visible`'s pages that cannot be executed are not zero, ascending; at most [`View::FILLED`]. Not searched
    /// without isolation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filled: Vec<Filled>,
    /// The sums.
    pub totals: Totals,
    /// What is malformed in the tables of either root.
    pub anomalies: Vec<Anomaly>,
}

impl View {
    /// Most stretches that are listed.
    pub const FILLED: usize = 4096;
}

/// Bytes that are not zero. Neighbours less than [`Filled::GAP`] bytes apart are one stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// Virtual address of the first, under the user root.
    #[serde(with = "hex")]
    pub address: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl Filled {
    /// So many zero bytes end a stretch.
    pub const GAP: u64 = 8;
}

/// Sums over a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Bytes of supervisor memory that user mode's tables map; memory under several addresses counts once.
    pub visible_bytes: u64,
    /// Pages (of any size) of that, each address counted.
    pub visible_pages: u64,
    /// Those of them that may be written, in bytes.
    pub writable_bytes: u64,
    /// Those of them that may be executed, in bytes.
    pub executable_bytes: u64,
    /// Pointers to kernel-only memory in them.
    pub pointers: u64,
    /// Bytes of supervisor memory that the kernel root maps; memory under several addresses counts as often.
    pub kernel_bytes: u64,
    /// Page tables that were read.
    pub tables: u64,
}

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

/// Something in the tables that no kernel should write. Seen, never followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// What it is.
    pub kind: AnomalyKind,
    /// Level of the table that holds the entry: 5 or 4 for a root, 1 for the last; one more than the root's if CR3
    /// itself is meant.
    pub level: u8,
    /// Physical address of the entry.
    #[serde(with = "hex")]
    pub entry_at: u64,
    /// The entry.
    #[serde(with = "hex")]
    pub entry: u64,
    /// First virtual address that it translates.
    #[serde(with = "hex")]
    pub address: u64,
}

/// Kinds of [`Anomaly`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnomalyKind {
    /// The table named lies outside of memory.
    TableOutsideMemory,
    /// The page named lies outside of memory. Devices do that, in the kernel's own root.
    PageOutsideMemory,
    /// The entry names a table that it is reached through. (Recursive mappings do that on purpose.)
    Loop,
    /// A bit is set that the manuals reserve.
    ReservedBit,
    /// There is more than the audit is willing to list; what follows was not looked at.
    TooMuch,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Gives something away, or weakens a defence.
    Warning,
    /// User mode can reach what it must not.
    Serious,
    /// Isolation does not hold.
    Critical,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its lasting name, such as `kernel-mapped-whole`; a heading of `docs/findings.md`.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// One line for people, with numbers.
    pub title: String,
    /// What it means and what to do about it.
    pub explanation: String,
    /// The page of the documentation, with the heading: `docs/findings.md#kernel-mapped-whole`.
    pub reference: String,
    /// Where it was seen. At most [`Finding::PLACES`]; `count` says how many there are.
    pub places: Vec<Place>,
    /// How many places there are.
    pub count: u64,
}

impl Finding {
    /// Most places that are listed.
    pub const PLACES: usize = 256;
}

/// Where a finding was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Index into [`Audit::views`].
    pub view: usize,
    /// Virtual address.
    #[serde(with = "hex")]
    pub address: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// What stands there, if that is the point: a pointer.
    #[serde(with = "hex::option", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// What is special here, in a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What several boots of the same kernel give away: EntryBleed (CVE-2022-4543).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Boots {
    /// How many boots were compared.
    pub boots: usize,
    /// Where each random place was, boot by boot.
    pub bases: Vec<Base>,
    /// Everything visible, and what it moves with.
    pub tracks: Vec<Track>,
}

/// A place that the kernel chooses at random, and hides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Base {
    /// `kernel image`, `direct map`, `heap`.
    pub name: String,
    /// Its address in each boot; null where it was not found.
    pub addresses: Vec<Option<String>>,
    /// Bits of entropy seen: the logarithm of the number of different places, at most that of `boots`.
    pub bits_seen: f64,
    /// Bits of entropy that it seems to have: the logarithm of how many places there are, guessed from how far apart
    /// the seen ones are and from their common alignment. 0 if it was at one place only. With few boots this is
    /// good to one bit or two.
    #[serde(default)]
    pub bits_estimated: f64,
    /// Whether it moves at all.
    #[serde(default)]
    pub motion: BaseMotion,
}

/// Whether a base is chosen at random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseMotion {
    /// It was seen at different places.
    Random,
    /// It was at the same place in three boots or more.
    Fixed,
    /// It was at the same place in both boots, or was found in fewer than two: that may be chance.
    #[default]
    Undecided,
}

/// Something visible, followed through the boots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// What it is.
    pub name: String,
    /// Its address (or the value of a visible word) in each boot; null where it was not there.
    pub addresses: Vec<Option<String>>,
    /// The base that it moves with, if there is one.
    #[serde(default)]
    pub moves_with: Option<String>,
    /// How many bits of that base it gives away.
    #[serde(default)]
    pub bits: f64,
    /// What became of it from boot to boot.
    #[serde(default)]
    pub motion: Motion,
}

/// How something visible moves from boot to boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Motion {
    /// It is at the same place in all boots, and gives nothing away.
    Fixed,
    /// It keeps its distance from a base.
    WithBase,
    /// Some bits of its distance from a base stay the same: the low ones, or the high ones.
    PartlyWithBase,
    /// It moves, and not with any base.
    Independent,
    /// Too few boots to tell.
    #[default]
    Undecided,
}
