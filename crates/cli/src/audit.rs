//! `ringwall audit`, from the options to the exit status.
//!
//! ```text
//!   source ──► Audit ── expectations ──► findings ──► status
//!                 │                         │
//!   --against ──► Audit ── compare ──► report, JSON, page
//! ```

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ringwall_audit::Expectations;
use ringwall_audit::document::{Audit, Finding};

use crate::options::{AuditOptions, Request};
use crate::saved::{self, Compared};
use crate::source::{Looker, symbols};
use crate::terminal::{Format, comparison, note, report, seen};
use crate::{html, interrupt};

/// Looks, judges, writes. The status is 0 without findings that count, else 1.
///
/// # Errors
///
/// When something could not be looked at, read or written: status 2.
pub fn run(options: &AuditOptions, request: &Request) -> Result<ExitCode> {
    // Before the guest is started or stopped: a mistake in a file need not cost a boot.
    let expectations = options.expect.as_deref().map(expectations).transpose()?;
    let symbols = options.symbols.as_deref().map(symbols::read).transpose()?;
    let looker = Looker {
        symbols,
        kernel_cr3: request.kernel_cr3,
        limit: request.limit,
        gdb: request.gdb.clone(),
        interrupt: interrupt::Interrupt::new()?,
    };
    let mut audits = looker.look(request)?;
    let against = options.against.as_deref().map(|file| looker.by_content(file)).transpose()?;
    if let Some(expectations) = expectations {
        let mut told = BTreeSet::new();
        for accepted in audits.iter_mut().flat_map(|audit| expectations.apply(audit)) {
            let words = format!("accepted: {}: {}", accepted.finding.id, accepted.reason);
            if told.insert(words.clone()) {
                note(&words);
            }
        }
    }
    let audit = first(audits)?;
    if let Some(file) = &options.html {
        let page = html::page(&audit, against.as_ref());
        fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
        note(&format!("wrote {}", file.display()));
    }
    write(options, &audit, against.as_ref())?;
    if !audit.cpus.iter().any(|cpu| seen(&audit, cpu)) {
        note(
            "no CPU was seen in ring 3: let a program run in the guest that does not only wait (see --after, --limit, --gdb)",
        );
        return Ok(ExitCode::from(2));
    }
    let counts = |severity| options.fail_on.counts(severity);
    let found = audit.findings.iter().any(|finding| counts(finding.severity));
    Ok(if found { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn expectations(file: &Path) -> Result<Expectations> {
    let read = || -> Result<Expectations> { Ok(Expectations::parse(&fs::read_to_string(file)?)?) };
    read().with_context(|| format!("expectations {}", file.display()))
}

/// The first boot's audit, with what is worse in the others.
fn first(audits: Vec<Audit>) -> Result<Audit> {
    let mut audits = audits.into_iter();
    let mut first = audits.next().context("nothing was looked at")?;
    for (audit, boot) in audits.zip(2..) {
        for finding in audit.findings {
            let known =
                |other: &Finding| other.id == finding.id && other.severity >= finding.severity;
            if !first.findings.iter().any(known) {
                // Its places are in views that are not shown.
                let title = format!("in boot {boot}, not in the first: {}", finding.title);
                first.findings.push(Finding { title, places: Vec::new(), ..finding });
            }
        }
    }
    first.findings.sort_by_key(|finding| Reverse(finding.severity));
    Ok(first)
}

/// Writes to standard output. A reader that has seen enough is no error.
fn write(options: &AuditOptions, audit: &Audit, against: Option<&Audit>) -> Result<()> {
    let format = Format::of_stdout(options.all);
    let mut output = BufWriter::new(io::stdout().lock());
    let compared = against.map(|other| Compared::new(audit, other));
    let written = match (&compared, options.json) {
        (Some(compared), true) => saved::write(compared, &mut output),
        (None, true) => saved::write(audit, &mut output),
        (Some(compared), false) => {
            let text = comparison(audit, compared.right, &compared.comparison, &format);
            output.write_all(text.as_bytes())
        }
        (None, false) => output.write_all(report(audit, &format).as_bytes()),
    };
    match written.and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use ringwall_audit::document::Severity;

    use super::*;
    use crate::sample;

    #[test]
    fn what_is_worse_in_a_later_boot_is_told() {
        let mut audits = vec![sample::isolated(); 3];
        audits[0].findings = vec![sample::finding("a", Severity::Warning, 1)];
        audits[1].findings = vec![sample::finding("a", Severity::Note, 1)];
        audits[2].findings = vec![sample::finding("b", Severity::Critical, 3)];
        let findings = first(audits).expect("three").findings;
        let ids: Vec<&str> = findings.iter().map(|finding| &*finding.id).collect();
        assert_eq!(ids, ["b", "a"]);
        assert!(findings[0].title.starts_with("in boot 3, not in the first: "));
        assert_eq!((findings[0].count, findings[0].places.len()), (3, 0));
        assert!(first(Vec::new()).is_err());
    }
}
