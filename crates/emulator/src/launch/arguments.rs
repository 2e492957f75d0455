//! The command line of a QEMU that is started for a look: what the user gave, completed.
//!
//! What the user says about a subject stands; what nothing is said about gets a default that makes a small, quiet,
//! unprivileged guest. QEMU takes options with one dash or two.

use std::ffi::{OsStr, OsString};

/// What nothing was said about.
const DEFAULT_MEMORY: u64 = 1 << 30;

/// Options whose value may look like an option.
const FREE_TEXT: [&str; 5] = ["append", "kernel", "initrd", "name", "uuid"];

/// A command line to be completed.
#[derive(Debug)]
pub(super) struct Arguments {
    /// Names of the options, with their values if those follow.
    options: Vec<(String, String)>,
}

impl Arguments {
    /// Takes a command line apart.
    pub fn parse(given: &[OsString]) -> Arguments {
        let texts: Vec<_> = given.iter().map(|text| text.to_string_lossy()).collect();
        let mut options = Vec::new();
        let mut rest = texts.iter();
        while let Some(text) = rest.next() {
            let Some(name) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else {
                continue;
            };
            let value = rest.as_slice().first().map(ToString::to_string).unwrap_or_default();
            if FREE_TEXT.contains(&name) {
                rest.next();
            }
            options.push((name.to_owned(), value));
        }
        Arguments { options }
    }

    /// Whether any of these options is there.
    pub fn any(&self, names: &[&str]) -> bool {
        self.options.iter().any(|(name, _)| names.contains(&name.as_str()))
    }

    /// Whether any of these options has a value with `part` in it.
    fn says(&self, names: &[&str], part: &str) -> bool {
        let mut named = self.options.iter().filter(|(name, _)| names.contains(&name.as_str()));
        named.any(|(_, value)| value.contains(part))
    }

    /// The arguments to add.
    pub fn defaults(&self) -> Vec<&'static OsStr> {
        let machine = ["machine", "M"];
        let displays = ["display", "nographic", "vnc", "spice", "curses"];
        let groups: [(bool, &[&str]); 8] = [
            (
                self.any(&["accel", "enable-kvm"]) || self.says(&machine, "accel="),
                &["-accel", "tcg"],
            ),
            (self.any(&["cpu"]), &["-cpu", "max"]),
            (self.any(&["m"]), &["-m", "1G"]),
            (self.any(&displays), &["-display", "none"]),
            (self.any(&["no-reboot", "action"]), &["-no-reboot"]),
            (self.any(&["nic", "net", "netdev"]), &["-nic", "none"]),
            (self.any(&["serial", "nographic"]), &["-serial", "stdio"]),
            (self.any(&["monitor", "nographic"]), &["-monitor", "none"]),
        ];
        let wanted = groups.into_iter().filter(|(given, _)| !given);
        wanted.flat_map(|(_, group)| group).map(OsStr::new).collect()
    }

    /// The size of RAM that can be given to QEMU as one file of ours, in bytes; `None` if the user arranges memory
    /// otherwise, or in a way that is not understood here.
    pub fn memory(&self) -> Option<u64> {
        let arranged = self.any(&["numa", "mem-path", "readconfig", "preconfig"])
            || self.says(&["object"], "memory-backend")
            || self.says(&["machine", "M"], "memory-backend");
        if arranged {
            return None;
        }
        match self.options.iter().rev().find(|(name, _)| name == "m") {
            None => Some(DEFAULT_MEMORY),
            Some((_, value)) => size(value),
        }
    }
}

/// The value of `-m`: `512`, `2G`, `size=2G,slots=2,maxmem=4G`. Plain numbers are MiB.
fn size(value: &str) -> Option<u64> {
    let first = value.split(',').next()?;
    let text = first.strip_prefix("size=").unwrap_or(first);
    let (digits, shift) = match text.as_bytes().last()? {
        b'0'..=b'9' => (text, 20),
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        b't' | b'T' => (&text[..text.len() - 1], 40),
        _ => return None,
    };
    let size = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    // QEMU rounds up to pages of its own, and the file has to be as long as what it makes of it.
    (size > 0 && size % (1 << 20) == 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    fn defaults(line: &str) -> String {
        let defaults = arguments(line).defaults();
        defaults.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nothing_said_is_everything_by_default() {
        assert_eq!(
            defaults("-kernel k -initrd i"),
            "-accel tcg -cpu max -m 1G -display none -no-reboot -nic none -serial stdio -monitor none"
        );
    }

    #[test]
    fn what_is_said_stands() {
        let line = "-M q35,accel=kvm -cpu host --m 2G -nographic -net none -no-reboot";
        assert_eq!(defaults(line), "");
        assert_eq!(defaults(&line.replace(",accel=kvm", "")), "-accel tcg");
    }

    #[test]
    fn a_kernels_own_words_are_not_options() {
        let words = ["-kernel", "k", "-append", "-m"].map(OsString::from);
        assert!(!Arguments::parse(&words).any(&["m"]));
        assert!(arguments("-append x -m 2G").any(&["m"]));
    }

    #[test]
    fn sizes_are_qemus() {
        let memory = |line| arguments(line).memory();
        assert_eq!(memory("-kernel k"), Some(1 << 30));
        assert_eq!(memory("-m 512"), Some(512 << 20));
        assert_eq!(memory("-m 512 -m 3G"), Some(3 << 30));
        assert_eq!(memory("-m size=2048M,slots=2,maxmem=4G"), Some(2 << 30));
        assert_eq!(memory("-m 1T"), Some(1 << 40));
        for odd in ["-m 1.5G", "-m ", "-m G", "-m 0", "-m slots=2", "-m 1025K", "-m 99999999T"] {
            assert_eq!(memory(odd), None, "{odd}");
        }
        assert_eq!(memory("-m 1G -object memory-backend-ram,id=a,size=1G"), None);
        assert_eq!(memory("-m 1G -machine pc,memory-backend=a"), None);
        assert_eq!(memory("-m 1G -numa node"), None);
    }
}
