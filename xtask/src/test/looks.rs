//! How often the scenarios were looked at: each boot leaves a line with its number of looks (`tests/src/looks.rs`).

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

/// A line about the looks since, if there were any boots to look at.
pub fn summary() -> Option<String> {
    sentence(&fs::read_to_string(file()).ok()?)
}

fn sentence(lines: &str) -> Option<String> {
    let looks: Vec<u64> = lines.lines().filter_map(|line| line.parse().ok()).collect();
    let boots = looks.iter().filter(|looks| **looks > 0).count();
    let (all, sum): (usize, u64) = (looks.len(), looks.iter().sum());
    (all > 0).then(|| {
        format!(
            "{sum} audits in ring 3, of {boots} of {all} boots, each held against kernel/visible.toml"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_summed_over_boots() {
        let expected =
            "12 audits in ring 3, of 2 of 3 boots, each held against kernel/visible.toml";
        assert_eq!(sentence("5\n0\n7\n").as_deref(), Some(expected));
        assert_eq!(sentence(""), None);
    }
}
