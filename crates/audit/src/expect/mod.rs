//! Expectations: what may be visible, as a TOML file that stands beside the kernel's source.
//!
//! ```toml
//! [limits]
//! bytes-per-cpu = 8192
//!
//! [[visible]]
//! kind = "idt"
//! rights = "r--"
//! pages = 1
//!
//! [[accept]]
//! finding = "other-cpus-visible"
//! reason = "two pages for each CPU, the same in every process"
//! ```
//!
//! `docs/expectations.md` tells every key. Whatever an audit shows and no `[[visible]]` fits is a finding, and so is
//! what a `[[visible]]` promises and the audit does not show. Findings that speak of nothing but declared pages go.
//!
//! - [`form`]: the TOML, with errors that name the line,
//! - [`pattern`]: rights, names, ranges,
//! - [`judge`]: which region is declared by what,
//! - [`apply`]: what that makes of the findings.
//!
//! The file may come from anybody: its length and its entries are bounded, and so is the time that they take.

mod apply;
mod form;
mod judge;
mod pattern;

use serde::Serialize;

use crate::document::Finding;

/// What may be visible.
#[derive(Clone, Debug)]
pub struct Expectations {
    limits: form::Limits,
    visible: Vec<form::Visible>,
    accept: Vec<form::Accept>,
}

/// A finding that the expectations accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// What was found.
    pub finding: Finding,
    /// Why that is all right.
    pub reason: String,
}

/// Why a text holds no expectations. Its author is at fault.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectError {
    /// Longer than anyone writes.
    #[error("the expectations are {bytes} bytes long; at most {limit} are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Not TOML, or not these keys and values. The words have the line and the column.
    #[error("{0}")]
    Toml(String),
    /// An entry that contradicts itself or says too little.
    #[error("line {line}: {fault}")]
    Entry {
        /// Line of the entry's heading, from 1.
        line: usize,
        /// What is wrong with it and what to do.
        fault: String,
    },
}

#[cfg(test)]
mod silence;
#[cfg(test)]
mod tests;
