//! What expectations compare with: rights, names, ranges of numbers. Each is one string in TOML.

use serde::{Deserialize, Deserializer, de::Error};

use crate::document::Rights;

/// `r-x`; `?` stands for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RightsPattern {
    writable: Option<bool>,
    executable: Option<bool>,
}

impl RightsPattern {
    fn parse(text: &str) -> Option<RightsPattern> {
        let [b'r', write, execute] = text.as_bytes() else { return None };
        let one = |letter: u8, set: u8| match letter {
            b'?' => Some(None),
            b'-' => Some(Some(false)),
            _ => (letter == set).then_some(Some(true)),
        };
        Some(RightsPattern { writable: one(*write, b'w')?, executable: one(*execute, b'x')? })
    }

    /// Whether stores and fetches are allowed as the pattern says.
    pub fn fits(&self, rights: &Rights) -> bool {
        self.writable.is_none_or(|writable| writable == rights.writable)
            && self.executable.is_none_or(|executable| executable == rights.executable)
    }
}

impl std::fmt::Display for RightsPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = |right: Option<bool>, set| match right {
            None => '?',
            Some(true) => set,
            Some(false) => '-',
        };
        write!(f, "r{}{}", one(self.writable, 'w'), one(self.executable, 'x'))
    }
}

impl<'de> Deserialize<'de> for RightsPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RightsPattern, D::Error> {
        let text = String::deserialize(deserializer)?;
        RightsPattern::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} are no rights: expected `r--`, `rw-`, `r-x` or `rwx`, with `?` for either"
            ))
        })
    }
}

/// A name; `*` stands for any letters, also none. Upper and lower case differ.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether the whole of `name` fits. Takes at most as many steps as the product of both lengths.
    pub fn fits(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut at, mut of) = (0, 0);
        // Where the last star stands, and how much of the name it has taken. An earlier star never has to take more.
        let mut star: Option<(usize, usize)> = None;
        while of < name.len() {
            if pattern.get(at) == Some(&b'*') {
                star = Some((at, of));
                at += 1;
            } else if pattern.get(at) == Some(&name[of]) {
                at += 1;
                of += 1;
            } else if let Some((stands, taken)) = star {
                star = Some((stands, taken + 1));
                at = stands + 1;
                of = taken + 1;
            } else {
                return false;
            }
        }
        pattern[at..].iter().all(|letter| *letter == b'*')
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// `0x1000..=0x1fff`: both ends are in it, because the last address has none after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first number.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Span {
    fn parse(text: &str) -> Option<Span> {
        let number = |text: &str| {
            let digits = text.trim().replace('_', "");
            match digits.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => digits.parse().ok(),
            }
        };
        let (first, last) = text.split_once("..=")?;
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some(Span { first, last })
    }

    /// Whether all of `first..=last` lies in it.
    pub fn holds(&self, first: u64, last: u64) -> bool {
        self.first <= first && last <= self.last
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}..={:#x}", self.first, self.last)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is no range: expected `FIRST..=LAST`, such as `0x1000..=0x1fff`"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_fit_letter_by_letter() {
        let rights = |writable, executable| Rights { writable, executable, ..Rights::default() };
        let pattern = |text| RightsPattern::parse(text).expect("rights");
        assert!(pattern("r--").fits(&rights(false, false)));
        assert!(!pattern("r--").fits(&rights(true, false)));
        assert!(!pattern("r--").fits(&rights(false, true)));
        assert!(pattern("r?x").fits(&rights(true, true)));
        assert!(!pattern("r?x").fits(&rights(true, false)));
        assert_eq!(pattern("rw?").to_string(), "rw?");
        for wrong in ["", "r-", "rx-", "-wx", "rwx-", "r w", "rwX"] {
            assert_eq!(RightsPattern::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_star_is_any_letters() {
        let fits = |pattern: &str, name| NamePattern(pattern.into()).fits(name);
        assert!(fits("IDT", "IDT"));
        assert!(!fits("IDT", "IDT of CPU 1"));
        assert!(fits("* of CPU *", "GDT, TSS of CPU 12"));
        assert!(!fits("* of CPU *", "GDT, TSS"));
        assert!(fits("*stack*", "entry stack"));
        assert!(fits("a*b*c", "aXbXbc"));
        assert!(!fits("a*b*c", "aXbXb"));
        assert!(fits("*", "") && fits("", "") && !fits("", "x"));
    }

    #[test]
    fn hostile_stars_end_soon() {
        let pattern = NamePattern("a*".repeat(1000) + "b");
        assert!(!pattern.fits(&"a".repeat(10_000)));
    }

    #[test]
    fn a_span_has_both_its_ends() {
        let span = Span::parse("0xffff_ffff_8000_0000..=0xffffffffffffffff").expect("a span");
        assert!(span.holds(u64::MAX, u64::MAX) && span.holds(span.first, span.last));
        assert!(!span.holds(span.first - 1, span.last));
        assert_eq!(Span::parse("8..=103"), Some(Span { first: 8, last: 103 }));
        for wrong in [
            "",
            "1..2",
            "2..=1",
            "1..=",
            "x..=y",
            "0x..=1",
            "-1..=1",
            "1..=0x1_0000_0000_0000_0000",
        ] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
    }
}
