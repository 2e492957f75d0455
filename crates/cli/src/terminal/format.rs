//! How wide, how colourful and how long the report may be, and the small pieces that all its parts are made of.
//!
//! What comes from a guest, a symbol file or somebody's JSON passes through [`plain`] before it reaches a terminal:
//! none of it can send escape sequences.

use std::borrow::Cow;

use console::{Style, Term};
use ringwall_audit::document::{Rights, Severity};

/// Columns of a report that goes to a file or a pipe.
const UNBOUNDED: usize = 120;
/// Below this many columns words are cut rather than wrapped.
const NARROWEST: usize = 40;
/// Prose wider than this is hard to read.
const PROSE: usize = 100;

/// The shape of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Columns.
    pub width: usize,
    /// Whether to write colours.
    pub colour: bool,
    /// Whether to list everything, however much it is.
    pub all: bool,
}

impl Format {
    /// What standard output can show. `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE` are heeded.
    pub fn of_stdout(all: bool) -> Format {
        let terminal = Term::stdout();
        let width = terminal.size_checked().map_or(UNBOUNDED, |(_, columns)| columns.into());
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = console::colors_enabled() && !refused;
        Format { width: width.max(NARROWEST), colour, all }
    }

    /// Text in a style, if there are colours.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.colour { style.force_styling(true).apply_to(text).to_string() } else { text.into() }
    }

    /// A heading of a part of the report.
    pub fn heading(&self, text: &str) -> String {
        format!("{}\n", self.paint(Style::new().bold(), &self.prose(text, "")))
    }

    /// Text broken into lines that start with `indent`; no line end after the last one.
    pub fn prose(&self, text: &str, indent: &str) -> String {
        let options = textwrap::Options::new(self.width.min(PROSE))
            .initial_indent(indent)
            .subsequent_indent(indent)
            .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
        textwrap::fill(text, options)
    }
}

/// A severity as a word, and its style.
pub fn severity(severity: Severity) -> (&'static str, Style) {
    match severity {
        Severity::Critical => ("critical", Style::new().red().bold()),
        Severity::Serious => ("serious", Style::new().red()),
        Severity::Warning => ("warning", Style::new().yellow()),
        Severity::Note => ("note", Style::new().cyan()),
    }
}

/// Rights and flags in a few characters: `r-x G`, with `U` for user, `G` for global, `k3` for a protection key.
pub fn rights(rights: &Rights) -> String {
    let mut text = rights.text();
    if rights.user || rights.global || rights.key != 0 {
        text.push(' ');
    }
    if rights.user {
        text.push('U');
    }
    if rights.global {
        text.push('G');
    }
    if rights.key != 0 {
        text.push_str(&format!("k{}", rights.key));
    }
    text
}

/// A number with a comma between each three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes: exact, and rounded to a unit when that says more.
pub fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let exact = format!("{} bytes", grouped(number));
    match UNITS.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, name)) if number.is_multiple_of(*unit) => {
            format!("{exact} ({} {name})", grouped(number / unit))
        }
        Some((unit, name)) => format!("{exact} ({:.1} {name})", number as f64 / *unit as f64),
        None => exact,
    }
}

/// A size of pages: `4 KiB`, `2 MiB`, `1 GiB`.
pub fn page_size(size: u64) -> String {
    match size {
        0x1000 => "4 KiB".into(),
        0x20_0000 => "2 MiB".into(),
        0x4000_0000 => "1 GiB".into(),
        other => format!("{other:#x}"),
    }
}

/// `count` and a word, in the plural where it must be.
pub fn counted(count: u64, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {one}s", grouped(count)) }
}

/// `0, 1 and 3`: a list in words.
pub fn list<T: ToString>(items: &[T]) -> String {
    let words: Vec<String> = items.iter().map(T::to_string).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Text without anything that a terminal would obey: control characters, and those that turn the direction of writing.
pub fn plain(text: &str) -> Cow<'_, str> {
    let harmful = |character: char| {
        character.is_control()
            || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .map(|character| if harmful(character) { '\u{fffd}' } else { character })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_easily() {
        assert_eq!((grouped(76), grouped(2_166_784)), ("76".into(), "2,166,784".into()));
        assert_eq!(bytes(512), "512 bytes");
        assert_eq!(bytes(16_384), "16,384 bytes (16 KiB)");
        assert_eq!(bytes(2_166_784), "2,166,784 bytes (2.1 MiB)");
        assert_eq!((counted(1, "page"), counted(0, "page")), ("1 page".into(), "0 pages".into()));
        assert_eq!((list(&[1]), list(&[0, 1, 3])), ("1".into(), "0, 1 and 3".into()));
    }

    #[test]
    fn rights_show_what_is_unusual() {
        let plain = Rights { executable: true, ..Rights::default() };
        assert_eq!(rights(&plain), "r-x");
        let odd = Rights { user: true, writable: true, executable: true, global: true, key: 3 };
        assert_eq!(rights(&odd), "rwx UGk3");
    }

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(plain("entry\u{1b}[2J\u{202e}text\n"), "entry\u{fffd}[2J\u{fffd}text\u{fffd}");
        assert!(matches!(plain("NMI stack of CPU 1"), Cow::Borrowed(_)));
    }

    #[test]
    fn prose_keeps_to_the_width() {
        let format = Format { width: 40, colour: false, all: false };
        let text = format.prose("a sentence that is longer than forty columns, clearly", "  ");
        assert!(text.lines().all(|line| line.len() <= 40 && line.starts_with("  ")), "{text}");
    }
}
