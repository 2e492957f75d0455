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
//! It is made from an [`Audit`] alone, which may come from a hostile guest or file: nothing in it is taken for true
//! enough to panic about, and nothing of it reaches a terminal unchecked.

mod boots;
mod cpus;
mod findings;
mod fold;
mod format;
mod regions;
mod table;

use ringwall_audit::document::{Audit, Severity, View};

pub use format::{Format, plain};

use format::{bytes, counted, severity};

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

/// The answer in one sentence.
pub fn verdict(audit: &Audit) -> String {
    let source = &audit.source;
    let bytes_of = |view: &View| view.totals.visible_bytes;
    let most = audit.views.iter().map(bytes_of).max().unwrap_or(0);
    let open: Vec<u32> = audit
        .cpus
        .iter()
        .filter(|cpu| audit.views[cpu.view].kernel_root.is_none())
        .map(|cpu| cpu.cpu.index)
        .collect();
    if !open.is_empty() {
        let whose = if open.len() == audit.cpus.len() {
            "".into()
        } else {
            format!(" on {}", cpus::named(&open))
        };
        return format!(
            "{source}: not isolated{whose}: user mode and the kernel share one root, which maps {} of supervisor \
             memory.{}",
            bytes(most),
            wrong(audit)
        );
    }
    let on = match audit.cpus.len() {
        0 | 1 => String::new(),
        count => format!(" on {}", cpus::every(count)),
    };
    let at_most =
        if audit.views.iter().all(|view| bytes_of(view) == most) { "" } else { "at most " };
    let isolated =
        if worst(audit) == Some(Severity::Critical) { "isolation is broken" } else { "isolated" };
    format!(
        "{source}: {isolated}{on}: user mode's page tables show {at_most}{} of the kernel.{}",
        bytes(most),
        wrong(audit)
    )
}

fn worst(audit: &Audit) -> Option<Severity> {
    audit.findings.iter().map(|finding| finding.severity).max()
}

/// How much is wrong, in a sentence of its own.
fn wrong(audit: &Audit) -> String {
    match worst(audit) {
        None => " No findings.".into(),
        Some(worst) => {
            let count = counted(audit.findings.len() as u64, "finding");
            let word = severity(worst).0;
            if audit.findings.len() == 1 {
                format!(" {count}: {word}.")
            } else {
                format!(" {count}, the worst {word}.")
            }
        }
    }
}

#[cfg(test)]
mod tests;
