//! What the entry code does beyond isolation: each measure with its place, its switch and its reason.
//!
//! ```text
//!   command line ──► ringwall.NAME=auto|on|off|force ─┐
//!                                                     ├─► Hardening ──► the entry text's bytes
//!   CPUID, MSR ────► CpuFacts ────────────────────────┘            └──► a line each, for the console
//! ```
//!
//! A measure that is off leaves nothing behind in the SYSCALL path: not an instruction.
//!
//! Invariants: nothing that the CPU lacks is on, but by `force`, which is for tests; every command line has
//! an answer; a value that is not known changes nothing and is reported.
//!
//! Intel's guidance on Spectre (CVE-2017-5715), Microarchitectural Data Sampling (CVE-2018-12130), SWAPGS
//! (CVE-2019-1125), Return Stack Buffer Underflow (CVE-2022-28693); SDM vol. 4, table 2-2, MSRs 48H and 10AH.

use crate::policy::cpu::{CpuFacts, Vendor};
use crate::policy::line::{split, words};
use core::fmt;

/// One thing that the entry code does, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Measure {
    /// CLAC, so that ring 0 does not run with the program's AC.
    ClearAc,
    /// LFENCE behind each conditional SWAPGS.
    FenceSwapgs,
    /// Zeros over the words of user-visible stacks that the entry code used.
    Scrub,
    /// Zeros in the general registers before a handler runs.
    ClearRegisters,
    /// VERW before ring 3.
    ClearBuffers,
    /// IA32_SPEC_CTRL.IBRS set in ring 0, clear in ring 3.
    Ibrs,
    /// The return stack buffer filled on the way in.
    FillRsb,
    /// Ways in from ring 3 counted.
    CountEntries,
}

impl Measure {
    /// All, in the order of the report.
    pub const ALL: [Measure; 8] = [
        Self::ClearAc,
        Self::FenceSwapgs,
        Self::Scrub,
        Self::ClearRegisters,
        Self::ClearBuffers,
        Self::Ibrs,
        Self::FillRsb,
        Self::CountEntries,
    ];

    /// What follows `ringwall.` on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClearAc => "clac",
            Self::FenceSwapgs => "lfence",
            Self::Scrub => "scrub",
            Self::ClearRegisters => "registers",
            Self::ClearBuffers => "verw",
            Self::Ibrs => "ibrs",
            Self::FillRsb => "rsb",
            Self::CountEntries => "count",
        }
    }

    /// What it does, and where.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::ClearAc => "CLAC on every entry; AC masked on SYSCALL in any case",
            Self::FenceSwapgs => "LFENCE behind conditional SWAPGS",
            Self::Scrub => "scratch word, entry and landing stacks zeroed after use",
            Self::ClearRegisters => "general registers zeroed before the handler",
            Self::ClearBuffers => "VERW before ring 3",
            Self::Ibrs => "IBRS written on the way in and out",
            Self::FillRsb => "return stack buffer filled on the way in",
            Self::CountEntries => "ways in counted: SYSCALL, traps and interrupts from ring 3",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Whether this CPU can do it, whether it needs it, and what says so.
    fn automatic(self, cpu: &(impl CpuFacts + ?Sized)) -> Automatic {
        let capabilities = cpu.arch_capabilities().unwrap_or(0);
        let intel = matches!(cpu.vendor(), Vendor::Intel);
        match self {
            Self::ClearAc if cpu.smap() => Automatic::on("the CPU has SMAP"),
            Self::ClearAc => Automatic::impossible("the CPU has no SMAP"),
            Self::FenceSwapgs => Automatic::on("always (CVE-2019-1125)"),
            Self::Scrub => Automatic::on("always"),
            Self::ClearRegisters => Automatic::off("on request: 14 instructions a call"),
            Self::ClearBuffers if !cpu.md_clear() => Automatic::off("the CPU does not ask for it"),
            Self::ClearBuffers if needs_verw(capabilities) => {
                Automatic::on("the CPU asks for it (CVE-2018-12130)")
            }
            Self::ClearBuffers => Automatic::off("the CPU says that it is not affected"),
            Self::Ibrs if !cpu.spec_ctrl() => Automatic::impossible("the CPU has no IBRS"),
            Self::Ibrs if capabilities & IBRS_ALL != 0 => {
                Automatic::off("the CPU has the enhanced one: set once, for good")
            }
            Self::Ibrs if intel => Automatic::on("the CPU has IBRS, not the enhanced one"),
            Self::Ibrs => Automatic::off("Intel's alone want it"),
            Self::FillRsb if cpu.smep() => Automatic::off("SMEP keeps ring 0 out of user code"),
            Self::FillRsb => Automatic::on("the CPU has no SMEP"),
            Self::CountEntries => Automatic::off("on request: no protection, but instructions"),
        }
    }
}

/// IA32_ARCH_CAPABILITIES.IBRS_ALL: IBRS may be set once and for all.
pub const IBRS_ALL: u64 = 1 << 1;
/// IA32_ARCH_CAPABILITIES.MDS_NO.
const MDS_NO: u64 = 1 << 5;
/// IA32_ARCH_CAPABILITIES.TAA_NO.
const TAA_NO: u64 = 1 << 8;

/// IA32_ARCH_CAPABILITIES.FB_CLEAR: stale MMIO data wants it.
const FB_CLEAR: u64 = 1 << 17;
/// IA32_ARCH_CAPABILITIES.RFDS_CLEAR: stale register files want it.
const RFDS_CLEAR: u64 = 1 << 28;

/// Any one of four leaks. A CPU without TSX that says MDS_NO mostly says TAA_NO too.
fn needs_verw(capabilities: u64) -> bool {
    let without = MDS_NO | TAA_NO;
    capabilities & without != without || capabilities & (FB_CLEAR | RFDS_CLEAR) != 0
}

struct Automatic {
    possible: bool,
    on: bool,
    reason: &'static str,
}

impl Automatic {
    const fn on(reason: &'static str) -> Self {
        Self { possible: true, on: true, reason }
    }
    const fn off(reason: &'static str) -> Self {
        Self { possible: true, on: false, reason }
    }
    const fn impossible(reason: &'static str) -> Self {
        Self { possible: false, on: false, reason }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Auto,
    On,
    Off,
    Force,
}

/// Which measures are on, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardening {
    on: u8,
    enhanced_ibrs: bool,
    reasons: [&'static str; Measure::ALL.len()],
}

impl Hardening {
    /// None of them: what a kernel under test may want.
    pub const NONE: Hardening =
        Hardening { on: 0, enhanced_ibrs: false, reasons: ["none asked for"; Measure::ALL.len()] };

    /// What follows from a command line for this CPU.
    #[must_use]
    pub fn decide<L: AsRef<[u8]> + ?Sized>(line: &L, cpu: &(impl CpuFacts + ?Sized)) -> Self {
        let mut decided = Self::NONE;
        for measure in Measure::ALL {
            let automatic = measure.automatic(cpu);
            let (on, reason) = match asked(line.as_ref(), measure) {
                Asked::Auto => (automatic.on, automatic.reason),
                Asked::On if automatic.possible => (true, "the command line says so"),
                Asked::On => (false, automatic.reason),
                Asked::Off => (false, "the command line says so"),
                Asked::Force => (true, "the command line forces it"),
            };
            decided.reasons[measure as usize] = reason;
            decided.on |= if on { measure.bit() } else { 0 };
        }
        let enhanced = cpu.spec_ctrl() && cpu.arch_capabilities().unwrap_or(0) & IBRS_ALL != 0;
        decided.enhanced_ibrs = enhanced && asked(line.as_ref(), Measure::Ibrs) != Asked::Off;
        decided
    }

    /// Whether IA32_SPEC_CTRL.IBRS is to be set once on each CPU, and to stay.
    #[must_use]
    pub const fn enhanced_ibrs(&self) -> bool {
        self.enhanced_ibrs && !self.is_on(Measure::Ibrs)
    }

    /// Whether `measure` is on.
    #[must_use]
    pub const fn is_on(&self, measure: Measure) -> bool {
        self.on & measure.bit() != 0
    }

    /// Why `measure` is on or off.
    #[must_use]
    pub const fn reason(&self, measure: Measure) -> &'static str {
        self.reasons[measure as usize]
    }

    /// The report: a line for each measure.
    pub fn lines(&self) -> impl Iterator<Item = Line> + '_ {
        let line =
            |measure| Line { measure, on: self.is_on(measure), reason: self.reason(measure) };
        Measure::ALL.into_iter().map(line)
    }
}

/// A line of the report. Displayed: `verw      off  VERW before ring 3: the CPU does not ask for it`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Of this measure.
    pub measure: Measure,
    /// Whether it is on.
    pub on: bool,
    /// Why.
    pub reason: &'static str,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.on { "on" } else { "off" };
        let Line { measure, reason, .. } = self;
        write!(f, "{:<9} {state:<3}  {}: {reason}", measure.name(), measure.what())
    }
}

/// The last `ringwall.NAME=` of a command line whose value is known.
fn asked(line: &[u8], wanted: Measure) -> Asked {
    let known = words(line).filter_map(|word| match value(word)? {
        (measure, Some(asked)) if measure == wanted => Some(asked),
        _ => None,
    });
    known.last().unwrap_or(Asked::Auto)
}

/// The words of a command line that name a measure and no value that is known. To be shown to the user.
pub fn unknown_values(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    words(line).filter(|word| matches!(value(word), Some((_, None))))
}

fn value(word: &[u8]) -> Option<(Measure, Option<Asked>)> {
    let (name, value) = split(word);
    let name = name.strip_prefix(b"ringwall.")?;
    let measure = Measure::ALL.into_iter().find(|measure| measure.name().as_bytes() == name)?;
    let asked = match value {
        Some(b"auto") => Some(Asked::Auto),
        Some(b"on") => Some(Asked::On),
        Some(b"off") => Some(Asked::Off),
        Some(b"force") => Some(Asked::Force),
        _ => None,
    };
    Some((measure, asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CpuidFacts;
    use std::string::ToString;
    use std::vec::Vec;

    const INTEL: [u32; 4] = [
        7,
        u32::from_le_bytes(*b"Genu"),
        u32::from_le_bytes(*b"ntel"),
        u32::from_le_bytes(*b"ineI"),
    ];

    fn cpu(ebx: u32, edx: u32) -> CpuidFacts {
        CpuidFacts::from_leaves(INTEL, [0x506e3, 0, 0, 0], [0, ebx, 0, edx])
    }

    fn on(line: &str, cpu: &CpuidFacts) -> Vec<&'static str> {
        let hardening = Hardening::decide(line, cpu);
        Measure::ALL.iter().filter(|&&it| hardening.is_on(it)).map(|it| it.name()).collect()
    }

    #[test]
    fn a_cpu_with_nothing_gets_what_needs_nothing() {
        assert_eq!(on("", &cpu(0, 0)), ["lfence", "scrub", "rsb"]);
    }

    #[test]
    fn a_skylake_gets_verw_and_ibrs() {
        let skylake = cpu(1 << 7 | 1 << 20, 1 << 10 | 1 << 26);
        assert_eq!(on("", &skylake), ["clac", "lfence", "scrub", "verw", "ibrs"]);
    }

    #[test]
    fn arch_capabilities_take_verw_and_ibrs_off() {
        let newer = cpu(1 << 7, 1 << 10 | 1 << 26 | 1 << 29);
        let newer = newer.with_arch_capabilities(IBRS_ALL | MDS_NO | TAA_NO);
        assert_eq!(on("", &newer), ["lfence", "scrub"]);
        assert!(Hardening::decide("", &newer).enhanced_ibrs());
        assert!(!Hardening::decide("ringwall.ibrs=off", &newer).enhanced_ibrs());
    }

    #[test]
    fn what_the_cpu_lacks_is_not_on_unless_forced() {
        assert_eq!(on("ringwall.ibrs=on ringwall.clac=on", &cpu(0, 0)), ["lfence", "scrub", "rsb"]);
        assert!(on("ringwall.ibrs=force", &cpu(0, 0)).contains(&"ibrs"));
    }

    #[test]
    fn the_last_known_value_wins() {
        let line = "ringwall.lfence=off ringwall.registers=on ringwall.lfence=maybe";
        assert_eq!(on(line, &cpu(1 << 7, 0)), ["scrub", "registers"]);
        let unknown: Vec<_> = unknown_values(line.as_bytes()).collect();
        assert_eq!(unknown, [b"ringwall.lfence=maybe"]);
    }

    #[test]
    fn every_measure_has_its_line() {
        let hardening = Hardening::decide("", &cpu(0, 0));
        let lines: Vec<_> = hardening.lines().map(|line| line.to_string()).collect();
        assert_eq!(lines.len(), Measure::ALL.len());
        assert_eq!(lines[4], "verw      off  VERW before ring 3: the CPU does not ask for it");
    }
}
