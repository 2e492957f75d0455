//! `ringwall audit`, from the options to the exit status.
//!
//! ```text
//!   source ──► Audit ── expectations ──► findings ──► status
//!                 │                         │
//!   --against ──► Audit ── compare ──► report, JSON, page
//! ```

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ringwall_audit::Expectations;
use ringwall_audit::document::Audit;

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
    let mut audit = looker.look(request)?;
    let against = options.against.as_deref().map(|file| looker.by_content(file)).transpose()?;
    if let Some(expectations) = expectations {
        for accepted in expectations.apply(&mut audit) {
            note(&format!("accepted: {}: {}", accepted.finding.id, accepted.reason));
        }
    }
    if let Some(file) = &options.html {
        let page = html::page(&audit, against.as_ref());
        fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
        note(&format!("wrote {}", file.display()));
    }
    write(&text(options, &audit, against.as_ref())?)?;
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

fn text(options: &AuditOptions, audit: &Audit, against: Option<&Audit>) -> Result<String> {
    let text = match (against.map(|other| Compared::new(audit, other)), options.json) {
        (Some(compared), true) => saved::text(&compared)?,
        (Some(compared), false) => {
            let format = Format::of_stdout(options.all);
            comparison(audit, compared.right, &compared.comparison, &format)
        }
        (None, true) => saved::text(audit)?,
        (None, false) => report(audit, &Format::of_stdout(options.all)),
    };
    Ok(text)
}

/// Writes to standard output. A reader that has seen enough is no error.
fn write(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}
