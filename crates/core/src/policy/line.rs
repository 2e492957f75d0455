//! What a kernel command line says about isolation.
//!
//! | word | means |
//! |---|---|
//! | `pti=on`, `pti=off`, `pti=auto` | that mode |
//! | `nopti` | `pti=off` |
//! | `mitigations=off` | off, unless one of the above is there |
//!
//! As in Linux: the last of several wins, `nopti` and `pti=` taken together, and so for
//! `mitigations=`; a value of `pti=` that is not known changes nothing but is reported; double quotes
//! may hold spaces, and go away around a value; `--` ends what is the kernel's, the rest is for
//! `init`.
//!
//! Versions of Linux differ in two cases. `nopti` beside `pti=`: the last wins here as in newer ones,
//! `pti=` always won in older ones. `pti=auto` beside `mitigations=off`: automatic here as in older
//! ones (6.1), off in newer ones; whoever types `pti=auto` wants it. The attack vectors that newer
//! ones know in `mitigations=` are not read.
//!
//! Invariant: every sequence of bytes has a policy, and none makes this code panic, loop or allocate.

use core::fmt;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Isolate a CPU that needs it.
    #[default]
    Auto,
    /// Isolate every CPU.
    On,
    /// Isolate none.
    Off,
}

/// Where the mode came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Source {
    /// Nothing on the command line said anything.
    #[default]
    Default,
    /// `pti=` with this mode.
    Pti(Mode),
    /// `nopti`.
    NoPti,
    /// `mitigations=off`.
    Mitigations,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "automatic, the default",
            Self::Pti(Mode::Auto) => "automatic, pti=auto on the command line",
            Self::Pti(Mode::On) => "forced on by pti=on on the command line",
            Self::Pti(Mode::Off) => "turned off by pti=off on the command line",
            Self::NoPti => "turned off by nopti on the command line",
            Self::Mitigations => "turned off by mitigations=off on the command line",
        })
    }
}

/// An unknown value of `pti=`. To be shown to the user; the policy holds without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyWarning<'a> {
    /// The value as it stands on the command line, any bytes, without the quotes around it. Display
    /// escapes and shortens it.
    pub value: &'a [u8],
    /// What holds instead.
    pub mode: Mode,
}

impl fmt::Display for PolicyWarning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 32;
        let shown = &self.value[..self.value.len().min(SHOWN)];
        let rest = if shown.len() < self.value.len() { "..." } else { "" };
        let mode = match self.mode {
            Mode::Auto => "auto",
            Mode::On => "on",
            Mode::Off => "off",
        };
        let shown = shown.escape_ascii();
        write!(f, "unknown value pti={shown}{rest}: expected auto, on or off; going on with {mode}")
    }
}

/// What a command line asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy<'a> {
    /// The mode that holds.
    pub mode: Mode,
    /// Where it came from.
    pub source: Source,
    /// The last unknown value of `pti=`, if there is any. Report it.
    pub warning: Option<PolicyWarning<'a>>,
}

impl<'a> Policy<'a> {
    /// The policy of a kernel command line: a `str`, or bytes of any kind, without a NUL at the end.
    #[must_use]
    pub fn from_command_line<L: AsRef<[u8]> + ?Sized>(line: &'a L) -> Self {
        let (mut asked, mut mitigations_off, mut unknown) = (None, false, None);
        for word in words(line.as_ref()) {
            match split(word) {
                (b"nopti", _) => asked = Some((Mode::Off, Source::NoPti)),
                (b"pti", Some(b"auto")) => asked = Some((Mode::Auto, Source::Pti(Mode::Auto))),
                (b"pti", Some(b"on")) => asked = Some((Mode::On, Source::Pti(Mode::On))),
                (b"pti", Some(b"off")) => asked = Some((Mode::Off, Source::Pti(Mode::Off))),
                (b"pti", value) => unknown = Some(value.unwrap_or_default()),
                (b"mitigations", Some(b"off")) => mitigations_off = true,
                (b"mitigations", Some(b"auto" | b"auto,nosmt")) => mitigations_off = false,
                _ => {}
            }
        }
        let by_mitigations = mitigations_off.then_some((Mode::Off, Source::Mitigations));
        let (mode, source) = asked.or(by_mitigations).unwrap_or_default();
        Self { mode, source, warning: unknown.map(|value| PolicyWarning { value, mode }) }
    }
}

/// White space to Linux, if not to [`u8::is_ascii_whitespace`].
const VERTICAL_TAB: u8 = 0x0b;

/// The kernel's own words of a command line: split at white space outside quotes, up to `--`. What follows that is for
/// process 1.
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |&byte| {
        quoted ^= byte == b'"';
        !quoted && (byte.is_ascii_whitespace() || byte == VERTICAL_TAB)
    })
    .filter(|word| !word.is_empty())
    .take_while(|word| *word != b"--")
}

/// Name and value of a word. A quote may stand before the whole word or before the value.
pub(crate) fn split(word: &[u8]) -> (&[u8], Option<&[u8]>) {
    let word = unquoted(word);
    match word.iter().position(|&byte| byte == b'=') {
        Some(at) => (&word[..at], Some(unquoted(&word[at + 1..]))),
        None => (word, None),
    }
}

fn unquoted(text: &[u8]) -> &[u8] {
    let Some(text) = text.strip_prefix(b"\"") else { return text };
    text.strip_suffix(b"\"").unwrap_or(text)
}
