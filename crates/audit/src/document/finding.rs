//! What is wrong: with the tables themselves, and with what they show.

use serde::{Deserialize, Serialize};

use crate::hex;

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
    /// Index into [`super::Audit::views`].
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
