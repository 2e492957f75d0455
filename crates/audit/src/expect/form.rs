//! The TOML form of expectations, and what is wrong with one.
//!
//! The toml crate tells unknown keys, missing ones and wrong types with line and column. What it cannot know is
//! checked here.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::pattern::{NamePattern, RightsPattern, Span};
use super::{ExpectError, Expectations};
use crate::document::{Kind, Severity};

/// The longest text that is read, in bytes.
const LENGTH: usize = 256 << 10;
/// Most entries of each list.
const ENTRIES: usize = 1024;

/// Findings that come from the expectations themselves. To accept these would be to expect nothing.
const OWN: [&str; 3] = ["not-declared", "missing-declared", "limit-exceeded"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    visible: Vec<Spanned<Visible>>,
    #[serde(default)]
    accept: Vec<Spanned<Accept>>,
}

/// The most that all visible memory together may come to. What is `None` has no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Bytes that one view shows.
    pub bytes: Option<u64>,
    /// Bytes that belong to no CPU and no process.
    pub bytes_shared: Option<u64>,
    /// Bytes of each CPU.
    pub bytes_per_cpu: Option<u64>,
    /// Bytes of each process.
    pub bytes_per_process: Option<u64>,
    /// Pointers to kernel-only memory that one view shows.
    pub pointers: Option<u64>,
}

/// Something that may be visible.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Visible {
    /// What kind of thing; any if `None`.
    pub kind: Option<Kind>,
    /// How it is named; anyhow if `None`.
    pub name: Option<NamePattern>,
    /// Where it lies; anywhere if `None`.
    pub address: Option<Span>,
    /// Its rights.
    pub rights: RightsPattern,
    /// User mode may access it, too.
    #[serde(default)]
    pub user: bool,
    /// Its translations may be global.
    #[serde(default)]
    pub global: bool,
    /// Most pages of it, in units of 4 KiB, memory under several addresses counted once.
    pub pages: u64,
    /// For what each there may be so many.
    #[serde(default)]
    pub per: Per,
    /// It may be missing.
    #[serde(default)]
    pub optional: bool,
    /// What may stand in it.
    #[serde(default)]
    pub contents: Contents,
    /// What may stand in a CPU's page while that CPU is not in ring 3; as ever if `None`.
    pub contents_in_ring_0: Option<Contents>,
}

/// For what each a declared number of pages holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Once, the same for all CPUs and processes.
    #[default]
    Machine,
    /// For each CPU.
    Cpu,
    /// For each process: each user root.
    Process,
}

/// What may stand in a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Contents {
    /// Anything.
    #[default]
    Any,
    /// Zero, but for these offsets in each 4 KiB page.
    Zero {
        /// Where something else may stand.
        but: Vec<Span>,
    },
}

/// A finding that is no surprise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Its identifier.
    pub finding: String,
    /// Why it is all right.
    pub reason: String,
    /// In at most so many places.
    pub most: Option<u64>,
    /// As bad as this at worst: one identifier may stand for harmless and for grave things.
    pub severity: Option<Severity>,
}

impl<'de> Deserialize<'de> for Contents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Contents, D::Error> {
        struct WordOrSpans;
        impl<'de> Visitor<'de> for WordOrSpans {
            type Value = Contents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`\"any\"`, `\"zero\"`, or a list of ranges of offsets that need not be zero",
                )
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Contents, E> {
                match word {
                    "any" => Ok(Contents::Any),
                    "zero" => Ok(Contents::Zero { but: Vec::new() }),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut spans: A) -> Result<Contents, A::Error> {
                let mut but = Vec::new();
                while let Some(span) = spans.next_element()? {
                    but.push(span);
                }
                Ok(Contents::Zero { but })
            }
        }
        deserializer.deserialize_any(WordOrSpans)
    }
}

impl Expectations {
    /// Reads expectations.
    ///
    /// # Errors
    ///
    /// See [`ExpectError`].
    pub fn parse(text: &str) -> Result<Expectations, ExpectError> {
        if text.len() > LENGTH {
            return Err(ExpectError::TooLong { bytes: text.len(), limit: LENGTH });
        }
        let file: File = toml::from_str(text)
            .map_err(|error| ExpectError::Toml(error.to_string().trim_end().into()))?;
        let File { limits, visible, accept } = file;
        Ok(Expectations {
            limits,
            visible: checked(text, visible, Visible::fault)?,
            accept: checked(text, accept, Accept::fault)?,
        })
    }
}

/// The entries without their places, if nothing is wrong with any of them.
fn checked<T>(
    text: &str,
    entries: Vec<Spanned<T>>,
    fault: impl Fn(&T) -> Option<String>,
) -> Result<Vec<T>, ExpectError> {
    let mut sound = Vec::new();
    for entry in entries {
        let fault = match sound.len() {
            ENTRIES => Some(format!("more than {ENTRIES} entries")),
            _ => fault(entry.get_ref()),
        };
        if let Some(fault) = fault {
            let before = text.as_bytes().iter().take(entry.span().start);
            let line = 1 + before.filter(|byte| **byte == b'\n').count();
            return Err(ExpectError::Entry { line, fault });
        }
        sound.push(entry.into_inner());
    }
    Ok(sound)
}

impl Visible {
    fn fault(&self) -> Option<String> {
        if self.kind.is_none() && self.name.is_none() && self.address.is_none() {
            return Some(
                "this [[visible]] fits anything: give it a `kind`, a `name` or an `address`".into(),
            );
        }
        if self.pages == 0 {
            return Some(
                "this [[visible]] has 0 pages: leave it out, then nothing of it may be visible"
                    .into(),
            );
        }
        let all = [Some(&self.contents), self.contents_in_ring_0.as_ref()];
        for contents in all.into_iter().flatten() {
            if let Contents::Zero { but } = contents
                && but.iter().any(|span| span.last >= 4096)
            {
                return Some(
                    "the offsets in `contents` are those in a page of 4 KiB: 0..=4095".into(),
                );
            }
        }
        if self.contents_in_ring_0.is_some() && self.per != Per::Cpu {
            return Some("`contents-in-ring-0` is for what there is `per = \"cpu\"`".into());
        }
        None
    }
}

impl Accept {
    fn fault(&self) -> Option<String> {
        if OWN.contains(&&*self.finding) {
            return Some(format!(
                "`{}` cannot be accepted: declare what may be visible in a [[visible]]",
                self.finding
            ));
        }
        if self.reason.trim().is_empty() {
            return Some(
                "this [[accept]] has an empty reason: say why the finding is all right".into(),
            );
        }
        None
    }
}
