//! What several boots of the same kernel say together.

use serde::{Deserialize, Serialize};

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
