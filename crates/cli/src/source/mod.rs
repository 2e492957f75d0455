//! What can be looked at, and how it becomes an [`Audit`].

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ringwall_audit::document::Audit;

use crate::options::{Request, Source};
use crate::saved;

/// Looks at what is asked for.
///
/// # Errors
///
/// When it cannot be opened, or is not what it should be.
pub fn look(request: &Request) -> Result<Audit> {
    match &request.source {
        Source::File(file) => read(file).with_context(|| format!("{}", file.display())),
        _ => bail!("only the JSON of an earlier audit can be read"),
    }
}

fn read(file: &Path) -> Result<Audit> {
    saved::read(File::open(file)?)
}
