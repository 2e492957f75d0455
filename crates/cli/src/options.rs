//! The command line: what may be typed, and what it asks for.
//!
//! [`Arguments`] is what clap reads; [`AuditOptions::request`] turns it into a [`Request`], in which every combination
//! makes sense. What makes none is refused here, with words that say what to type instead.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ringwall_audit::document::Severity;

/// Looks at x86-64 guests from outside.
#[derive(Debug, Parser)]
#[command(name = "ringwall", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says what user mode can see of a guest's kernel.
    ///
    /// Looks at a guest that is stopped, at a core of one, or starts one with --run; walks the page tables that
    /// ring 3 runs under on each CPU; lists every supervisor page that they map, what it is, and what is wrong with it.
    ///
    /// Exit status: 0 clean, 1 findings of at least --fail-on, 2 could not look.
    Audit(AuditOptions),
}

/// The options of `ringwall audit`.
#[derive(Debug, Default, Args)]
#[command(after_help = EXAMPLES)]
pub struct AuditOptions {
    /// An ELF core, the JSON of an earlier audit, or a QMP socket: told apart by what is in it
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,

    /// A running guest of QEMU, by its monitor's socket (or HOST:PORT): -qmp unix:SOCKET,server=on,wait=off
    #[arg(long, value_name = "SOCKET", help_heading = "Sources")]
    pub qmp: Option<PathBuf>,

    /// An ELF core: QEMU's dump-guest-memory, without -p
    #[arg(long, value_name = "FILE", help_heading = "Sources")]
    pub core: Option<PathBuf>,

    /// An image of physical memory from address 0, without registers; needs --cr3
    #[arg(long, value_name = "FILE", help_heading = "Sources", requires = "cr3")]
    pub raw: Option<PathBuf>,

    /// With --raw: the CR3 that ring 3 runs under
    #[arg(long, value_name = "CR3", value_parser = number, help_heading = "Sources", requires = "raw")]
    pub cr3: Option<u64>,

    /// With --raw: levels of page tables, 4 or 5
    #[arg(long, value_name = "4|5", value_parser = clap::value_parser!(u8).range(4..=5),
        help_heading = "Sources", requires = "raw")]
    pub levels: Option<u8>,

    /// The CR3 of the kernel's own root, for kernels whose two roots do not lie side by side
    #[arg(long, value_name = "CR3", value_parser = number, help_heading = "Sources")]
    pub kernel_cr3: Option<u64>,

    /// Starts QEMU with the arguments after `--`, waits until ring 3 runs, looks, ends it
    #[arg(long, help_heading = "Sources")]
    pub run: bool,

    /// With --run: arguments of qemu-system-x86_64; what they leave open is -accel tcg -cpu max -m 1G, no network,
    /// no display
    #[arg(last = true, value_name = "QEMU ARGS", help_heading = "Sources")]
    pub qemu: Vec<OsString>,

    /// With --run: look when the guest has written this to its first serial port
    #[arg(long, value_name = "TEXT", help_heading = "When to look")]
    pub after: Option<String>,

    /// How long to wait for --after and for ring 3, together, in seconds [default: 120, with --qmp 20]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400),
        help_heading = "When to look")]
    pub limit: Option<u32>,

    /// With --qmp: if ring 3 is never seen, wait for it with the guest's gdb stub; without SOCKET (or HOST:PORT), QEMU
    /// opens one for as long as it takes
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true, default_missing_value = "",
        help_heading = "When to look")]
    pub gdb: Option<String>,

    /// With --run: boot this often, and say what of the kernel's random address user mode can tell
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64),
        help_heading = "When to look")]
    pub boots: Option<u32>,

    /// Names from a kernel's ELF file (vmlinux), its System.map, or a copy of /proc/kallsyms
    #[arg(long, value_name = "FILE", help_heading = "What to make of it")]
    pub symbols: Option<PathBuf>,

    /// What may be visible, as TOML; anything else is a finding
    #[arg(long, value_name = "FILE", help_heading = "What to make of it")]
    pub expect: Option<PathBuf>,

    /// Compare with this core, saved JSON or QMP socket, differences first
    #[arg(long, value_name = "SOURCE", help_heading = "What to make of it")]
    pub against: Option<PathBuf>,

    /// The severity from which a finding makes the exit status 1
    #[arg(
        long,
        value_name = "SEVERITY",
        value_enum,
        default_value_t,
        help_heading = "What to make of it"
    )]
    pub fail_on: FailOn,

    /// Write JSON to standard output, in place of the report
    #[arg(long, help_heading = "Output")]
    pub json: bool,

    /// Write a page for the browser, with pictures, to FILE
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub html: Option<PathBuf>,

    /// List every region and every place, however many there are
    #[arg(long, help_heading = "Output")]
    pub all: bool,
}

const EXAMPLES: &str = "\
Examples:
  ringwall audit --run -- -kernel vmlinuz -initrd initrd.img -append \"console=ttyS0 pti=on\"
  ringwall audit --run --boots 4 --after login: --html report.html -- -kernel vmlinuz -initrd initrd.img
  ringwall audit --qmp /tmp/qmp --symbols System.map
  ringwall audit before.elf --against after.elf --json
  ringwall audit core.elf --expect allowed.toml

docs/audit.md tells the rest.";

/// From which severity on a finding counts for the exit status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Any finding.
    Note,
    /// All but notes.
    #[default]
    Warning,
    /// Serious and critical ones.
    Serious,
    /// Critical ones.
    Critical,
    /// None: the status says only whether the look succeeded.
    Never,
}

impl FailOn {
    /// Whether a finding this bad makes the exit status 1.
    pub fn counts(self, severity: Severity) -> bool {
        match self {
            FailOn::Note => true,
            FailOn::Warning => severity >= Severity::Warning,
            FailOn::Serious => severity >= Severity::Serious,
            FailOn::Critical => severity >= Severity::Critical,
            FailOn::Never => false,
        }
    }
}

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file or socket; what it is stands in it.
    File(PathBuf),
    /// A running guest, by its monitor's socket.
    Attached(PathBuf),
    /// An ELF core.
    Core(PathBuf),
    /// Physical memory without registers.
    Raw {
        /// The image.
        file: PathBuf,
        /// The CR3 that ring 3 runs under.
        cr3: u64,
        /// 4 or 5.
        levels: u8,
    },
    /// A guest to be started.
    Run {
        /// QEMU's arguments.
        arguments: Vec<OsString>,
        /// Text on the console to wait for.
        after: Option<String>,
        /// How often to boot; at least 1.
        boots: u32,
    },
}

/// A look that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What to look at.
    pub source: Source,
    /// The kernel's CR3, if the user says it.
    pub kernel_cr3: Option<u64>,
    /// How long to wait for ring 3.
    pub limit: Duration,
    /// The gdb stub to catch ring 3 with, if one may be used; empty for one that QEMU is to open.
    pub gdb: Option<String>,
}

/// How long a guest that is started may take to boot.
const BOOT_LIMIT: u32 = 120;
/// How long a guest that runs may stay out of ring 3.
const ATTACHED_LIMIT: u32 = 20;

impl AuditOptions {
    /// What is asked for.
    ///
    /// # Errors
    ///
    /// In words for the user, when options contradict each other or something is missing.
    pub fn request(&self) -> Result<Request, String> {
        let source = self.source()?;
        let running = matches!(source, Source::Run { .. });
        self.refuse_without_run(running)?;
        let attached = matches!(source, Source::Attached(_) | Source::File(_));
        if self.limit.is_some() && !running && !attached {
            return Err("--limit is for guests that run: --run, --qmp".into());
        }
        if self.gdb.is_some() && !attached {
            return Err(
                "--gdb is for --qmp; a guest of --run is caught with its stub anyway".into()
            );
        }
        let limit = self.limit.unwrap_or(if running { BOOT_LIMIT } else { ATTACHED_LIMIT });
        let limit = Duration::from_secs(u64::from(limit));
        Ok(Request { source, kernel_cr3: self.kernel_cr3, limit, gdb: self.gdb.clone() })
    }

    fn source(&self) -> Result<Source, String> {
        let mut sources = Vec::new();
        if let Some(file) = &self.source {
            sources.push(("SOURCE", Source::File(file.clone())));
        }
        if let Some(qmp) = &self.qmp {
            sources.push(("--qmp", Source::Attached(qmp.clone())));
        }
        if let Some(file) = &self.core {
            sources.push(("--core", Source::Core(file.clone())));
        }
        if let Some(file) = &self.raw {
            let cr3 = self.cr3.ok_or("--raw needs --cr3: an image has no registers")?;
            let levels = self.levels.unwrap_or(4);
            sources.push(("--raw", Source::Raw { file: file.clone(), cr3, levels }));
        }
        if self.run {
            let arguments = self.qemu.clone();
            let boots = self.boots.unwrap_or(1);
            sources.push(("--run", Source::Run { arguments, after: self.after.clone(), boots }));
        }
        if sources.len() > 1 {
            let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "one guest at a time, but {} are given; --against takes the second one",
                names.join(" and ")
            ));
        }
        let source = sources.pop().map(|(_, source)| source);
        source.ok_or_else(|| {
            "nothing to look at: give a core, a saved JSON or a QMP socket, or --run -- QEMU ARGS".into()
        })
    }

    fn refuse_without_run(&self, running: bool) -> Result<(), String> {
        if running {
            if self.qemu.is_empty() {
                return Err("--run needs QEMU's arguments after `--`: --run -- -kernel FILE".into());
            }
            return Ok(());
        }
        let given = [
            ("--after", self.after.is_some()),
            ("--boots", self.boots.is_some()),
            ("arguments after `--`", !self.qemu.is_empty()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(format!("{name}: only with --run, which starts the guest")),
            None => Ok(()),
        }
    }
}

/// Reads a number as engineers write them: `0x1a03000`, `27275264`.
fn number(text: &str) -> Result<u64, String> {
    let read = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(&digits.replace('_', ""), 16),
        None => text.parse(),
    };
    read.map_err(|_| "expected a number: 0x and hexadecimal digits, or decimal digits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, String> {
        let words = ["ringwall", "audit"].into_iter().chain(line.split_whitespace());
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Audit(options) = arguments.command;
        options.request()
    }

    fn refused(line: &str, words: &str) {
        let error = parse(line).expect_err(line);
        assert!(error.contains(words), "{line}: {error}");
    }

    #[test]
    fn clap_accepts_the_definition() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn each_source_is_understood() {
        let source = |line| parse(line).expect(line).source;
        assert_eq!(source("a.elf"), Source::File("a.elf".into()));
        assert_eq!(source("--core a.elf --against b"), Source::Core("a.elf".into()));
        let raw = Source::Raw { file: "m".into(), cr3: 0x1a0_3000, levels: 5 };
        assert_eq!(source("--raw m --cr3 0x1a03000 --levels 5"), raw);
        assert_eq!(source("--qmp s"), Source::Attached("s".into()));
        let gdb = |line| parse(line).expect(line).gdb;
        assert_eq!(gdb("--qmp s"), None);
        assert_eq!(gdb("--qmp s --gdb").as_deref(), Some(""));
        assert_eq!(gdb("--gdb=g s").as_deref(), Some("g"));
        let arguments = vec!["-kernel".into(), "k".into()];
        let run = Source::Run { arguments, after: Some("READY".into()), boots: 3 };
        assert_eq!(source("--run --boots 3 --after READY -- -kernel k"), run);
    }

    #[test]
    fn the_limit_depends_on_what_has_to_happen() {
        assert_eq!(parse("--run -- -kernel k").expect("fine").limit.as_secs(), 120);
        assert_eq!(parse("--qmp s").expect("fine").limit.as_secs(), 20);
        assert_eq!(parse("--qmp s --limit 3").expect("fine").limit.as_secs(), 3);
    }

    #[test]
    fn nonsense_is_refused_with_words() {
        refused("", "nothing to look at");
        refused("a.elf --core b.elf", "one guest at a time, but SOURCE and --core");
        refused("--run", "needs QEMU's arguments");
        refused("a.elf --boots 2", "--boots: only with --run");
        refused("a.elf --after READY", "--after: only with --run");
        refused("a.elf -- -kernel k", "only with --run");
        refused("--core a --limit 4", "--limit is for guests that run");
        refused("--raw m", "--cr3");
        refused("--core a --cr3 0x1000", "--raw");
        refused("--core a --gdb", "--gdb is for --qmp");
        refused("--raw m --cr3 zero", "expected a number");
        refused("--raw m --cr3 0x1000 --levels 3", "4..=5");
        refused("--run --boots 0 -- -kernel k", "1..=64");
    }

    #[test]
    fn notes_alone_are_clean_unless_asked() {
        assert!(!FailOn::default().counts(Severity::Note));
        assert!(FailOn::default().counts(Severity::Warning));
        assert!(FailOn::Note.counts(Severity::Note));
        assert!(!FailOn::Never.counts(Severity::Critical));
    }
}
