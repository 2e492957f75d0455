//! The report for people: a sentence with the verdict, the CPUs, what is visible, what is wrong with it.
//!
//! ```text
//!   dump.elf: isolated on all 4 CPUs; ...        verdict
//!   CPUs          one line each                  cpus
//!   What user mode sees of the kernel ...        regions <- fold
//!   Findings      worst first                    findings
//!   What 4 boots give away ...                   boots
//! ```
//!
//! Of two audits, what differs: [`comparison`].
//!
//! It is made from an [`Audit`] alone, which may come from a hostile guest or file: nothing in it is taken for true
//! enough to panic about, and nothing of it reaches a terminal unchecked.

mod boots;
mod comparison;
mod cpus;
mod findings;
mod fold;
mod format;
mod regions;
mod table;

use ringwall_audit::document::{Audit, CpuView, Finding, Severity};

pub use comparison::comparison;
pub use cpus::seen;
pub use format::{Format, plain};

use format::{bytes, counted, severity};

/// Says something to the person at the terminal: on standard error, out of the way of data.
pub fn note(text: &str) {
    eprintln!("ringwall: {}", plain(text));
}

/// The report.
pub fn report(audit: &Audit, format: &Format) -> String {
    let parts = [
        format!("{}\n", format.prose(&plain(&verdict(audit)), "")),
        cpus::section(audit, format),
        regions::section(audit, format),
        findings::section(audit, format),
        boots::section(audit, format),
    ];
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("\n")
}

/// Findings that say that there is no isolation.
const NOT_ISOLATED: [&str; 2] = ["kernel-mapped-whole", "kernel-root-in-ring-3"];

/// The answer in a sentence or two.
pub fn verdict(audit: &Audit) -> String {
    let undecided = audit.findings.iter().any(|finding| finding.id == "movement-undecided");
    let boots = if undecided { " Too few boots to say what moves with the kernel." } else { "" };
    format!("{}: {} {}{boots}", audit.source, isolation(audit), wrong(audit))
}

/// Whether user mode is kept apart, and how much it sees.
fn isolation(audit: &Audit) -> String {
    let seen: Vec<&CpuView> = audit.cpus.iter().filter(|cpu| cpus::seen(audit, cpu)).collect();
    if seen.is_empty() {
        return "not known: no CPU was seen in ring 3, or on a root that belongs to it.".into();
    }
    let view = |cpu: &&&CpuView| &audit.views[cpu.view];
    let open: Vec<&&CpuView> = seen.iter().filter(|cpu| view(cpu).kernel_root.is_none()).collect();
    if !open.is_empty() {
        let most = open.iter().map(|cpu| view(cpu).totals.visible_bytes).max().unwrap_or(0);
        let (on, most) = (on(audit, &open), bytes(most));
        let whole = |finding: &Finding| NOT_ISOLATED.contains(&&*finding.id);
        if open.iter().all(|cpu| view(cpu).switched_off) {
            return format!(
                "isolation is switched off for the process{on}: its root maps {most} of supervisor memory. A user root is \
                 there and not used."
            );
        }
        return if audit.findings.iter().any(whole) {
            format!(
                "not isolated{on}: user mode runs on a root that maps {most} of supervisor memory."
            )
        } else {
            format!(
                "user mode's page tables show {most} of the kernel{on}; the kernel's own root was not found beside \
                 them (--kernel-cr3), so whether that is isolation is not known."
            )
        };
    }
    let sums = seen.iter().map(|cpu| view(&cpu).totals.visible_bytes);
    let most = sums.clone().max().unwrap_or(0);
    let at_most = if sums.clone().all(|sum| sum == most) { "" } else { "at most " };
    let word = match worst(audit) {
        Some(Severity::Critical) => "isolation is broken",
        _ => "isolated",
    };
    format!(
        "{word}{}: user mode's page tables show {at_most}{} of the kernel.",
        on(audit, &seen.iter().collect::<Vec<_>>()),
        bytes(most)
    )
}

/// ` on CPUs 0 and 2`; nothing if there is one CPU only.
fn on(audit: &Audit, cpus: &[&&CpuView]) -> String {
    let indices: Vec<u32> = cpus.iter().map(|cpu| cpu.cpu.index).collect();
    match (audit.cpus.len() + audit.unseen.len(), indices.len()) {
        (1, _) => String::new(),
        (all, these) if all == these => format!(" on {}", cpus::every(all)),
        _ => format!(" on {}", cpus::named(&indices)),
    }
}

fn worst(audit: &Audit) -> Option<Severity> {
    audit.findings.iter().map(|finding| finding.severity).max()
}

/// How much is wrong, in a sentence of its own.
fn wrong(audit: &Audit) -> String {
    match worst(audit) {
        None => "No findings.".into(),
        Some(worst) => {
            let count = counted(audit.findings.len() as u64, "finding");
            let word = severity(worst).0;
            if audit.findings.len() == 1 {
                format!("{count}: {word}.")
            } else {
                format!("{count}, the worst {word}.")
            }
        }
    }
}

#[cfg(test)]
mod tests;
