//! `ringwall audit`, from the options to the exit status.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ringwall_audit::document::Audit;

use crate::options::{AuditOptions, Request};
use crate::terminal::{Format, report};
use crate::{saved, source};

/// Looks, judges, writes. The status is 0 without findings that count, else 1.
///
/// # Errors
///
/// When something could not be looked at, read or written: status 2.
pub fn run(options: &AuditOptions, request: &Request) -> Result<ExitCode> {
    let audit = source::look(request)?;
    write(&audit, options)?;
    let counts = |severity| options.fail_on.counts(severity);
    let found = audit.findings.iter().any(|finding| counts(finding.severity));
    Ok(if found { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn write(audit: &Audit, options: &AuditOptions) -> Result<()> {
    let text = if options.json {
        saved::text(audit)?
    } else {
        report(audit, &Format::of_stdout(options.all))
    };
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).context("standard output")
}
