//! How often the scenarios were looked at: each boot leaves a line with its number of looks (`tests/src/looks.rs`).

use std::fmt;
use std::fs;
use std::path::PathBuf;

use crate::workspace::made;

fn file() -> PathBuf {
    made().join("looks")
}

/// Removes what an earlier run has left.
pub fn remove() {
    let _ = fs::remove_file(file());
}

/// The looks since.
pub fn looks() -> Looks {
    Looks::parse(&fs::read_to_string(file()).unwrap_or_default())
}

/// Numbers of looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// Boots that there was something to look at in.
    pub boots: usize,
    looked_at: usize,
    /// Looks at all of them.
    pub made: u64,
}

impl Looks {
    fn parse(lines: &str) -> Looks {
        let looks: Vec<u64> = lines.lines().filter_map(|line| line.parse().ok()).collect();
        let looked_at = looks.iter().filter(|looks| **looks > 0).count();
        Looks { boots: looks.len(), looked_at, made: looks.iter().sum() }
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Looks { boots, looked_at, made } = self;
        write!(
            f,
            "{made} audits in ring 3, of {looked_at} of {boots} boots, each held against \
             kernel/visible.toml"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_summed_over_boots() {
        let expected =
            "12 audits in ring 3, of 2 of 3 boots, each held against kernel/visible.toml";
        assert_eq!(Looks::parse("5\n0\n7\n").to_string(), expected);
        assert_eq!(Looks::parse("").made, 0);
    }
}
