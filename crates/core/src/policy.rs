//! Whether to isolate: what the command line asks for, what the CPU is, and what follows.
//!
//! ```text
//!   command line ──► Policy { mode, source } ─┐
//!     ([`line`])                              ├─► Decision { isolate, reason } ──► Status
//!   CPUID, MSR ────► CpuFacts ──► Exposure ───┘                                    (for sysfs)
//!     ([`cpu`])
//! ```
//!
//! Invariants: whoever cannot tell isolates, that is a CPU that nothing speaks for is affected, and
//! an unknown `pti=` value turns nothing off; every command line, of whatever bytes, has a policy;
//! every [`Decision`] prints in one line whether isolation is on, and why.
//!
//! CPUs of one machine are taken to be alike: decide once, on the boot CPU.
//!
//! Intel SDM vol. 3, 2.1.4 and vol. 4, table 2-2 (IA32_ARCH_CAPABILITIES); Intel's guidance on
//! Rogue Data Cache Load (CVE-2017-5754); Linux's `Documentation/admin-guide/kernel-parameters.txt`.

pub mod cpu;
pub mod line;

pub use cpu::{CpuFacts, CpuidFacts, Exposure, Vendor, exposure};
pub use line::{Mode, Policy, PolicyWarning, Source, words};

use core::fmt;

/// Why isolation is on or off: what was asked for, and what the CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The mode that held.
    pub mode: Mode,
    /// Where it came from.
    pub source: Source,
    /// What the CPU is.
    pub exposure: Exposure,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.source, self.exposure)
    }
}

/// Whether to isolate, and why. Displayed, it says both: `isolation on: ...`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether there are two roots and a switch between them.
    pub isolate: bool,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    /// What the sysfs file `vulnerabilities/meltdown` says, as Linux has it: about a CPU that is not
    /// affected it says so, even with isolation forced on. [`Decision`] itself tells the two apart.
    #[must_use]
    pub const fn status(&self) -> Status {
        if !self.reason.exposure.affected() {
            Status::NotAffected
        } else if self.isolate {
            Status::Mitigated
        } else {
            Status::Vulnerable
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "isolation {}: {}", if self.isolate { "on" } else { "off" }, self.reason)
    }
}

/// The three answers that users know. Displayed, exactly Linux's words, without a newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `Mitigation: PTI`
    Mitigated,
    /// `Not affected`
    NotAffected,
    /// `Vulnerable`
    Vulnerable,
}

impl Status {
    /// The words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mitigated => "Mitigation: PTI",
            Self::NotAffected => "Not affected",
            Self::Vulnerable => "Vulnerable",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Policy<'_> {
    /// What follows for this CPU.
    #[must_use]
    pub fn decide(&self, cpu: &(impl CpuFacts + ?Sized)) -> Decision {
        let exposure = exposure(cpu);
        let isolate = match self.mode {
            Mode::Auto => exposure.affected(),
            Mode::On => true,
            Mode::Off => false,
        };
        Decision { isolate, reason: Reason { mode: self.mode, source: self.source, exposure } }
    }
}
