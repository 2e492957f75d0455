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

mod boots;
mod finding;
mod region;

use serde::{Deserialize, Serialize};

use crate::cpu::{Cpu, Paging};
use crate::hex;

pub use boots::{Base, BaseMotion, Boots, Motion, Track};
pub use finding::{Anomaly, AnomalyKind, Finding, Place, Severity};
pub use region::{Kind, Name, Region, Rights};

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
