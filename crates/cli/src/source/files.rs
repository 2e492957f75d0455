//! Sources that are files: cores, images, the JSON of an earlier audit.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ringwall_audit::document::Audit;
use ringwall_emulator::{Core, Raw};

use super::Looker;
use crate::saved;
use crate::terminal::note;

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A socket: of a monitor, it is to be hoped.
    Socket,
    /// Text that begins like an object of JSON.
    Json,
    /// Anything else: an ELF core, or what is told to be none when it is opened.
    Dump,
}

/// Tells a core, a saved audit and a socket apart.
///
/// # Errors
///
/// When there is no such file, or it cannot be any of them.
pub fn tell(file: &Path) -> Result<Content> {
    let kind = fs::metadata(file)?.file_type();
    if kind.is_socket() {
        return Ok(Content::Socket);
    }
    // A pipe would let the program wait for ever.
    ensure!(kind.is_file(), "it is neither a file nor a socket");
    let mut head = Vec::new();
    File::open(file)?.take(64).read_to_end(&mut head)?;
    ensure!(!head.is_empty(), "it is empty");
    let first = head.iter().find(|byte| !byte.is_ascii_whitespace());
    Ok(if first == Some(&b'{') { Content::Json } else { Content::Dump })
}

/// Reads an audit that was saved.
///
/// # Errors
///
/// As [`saved::read`].
pub fn json(file: &Path) -> Result<Audit> {
    let name = || file.display().to_string();
    let mut audit =
        File::open(file).map_err(Into::into).and_then(saved::read).with_context(name)?;
    audit.source = format!("{} ({})", audit.source, file.display());
    Ok(audit)
}

impl Looker {
    pub(super) fn core(&self, file: &Path) -> Result<Audit> {
        let name = || file.display().to_string();
        let core = Core::open(file).with_context(name)?;
        let registers = core.registers().with_context(name)?;
        if core.missing() > 0 {
            note(&format!(
                "{} was cut short: {} bytes of memory that it promises are not there",
                file.display(),
                core.missing()
            ));
        }
        self.at(format!("core {}", file.display()), &core, registers)
    }

    pub(super) fn raw(&self, file: &Path, cr3: u64, levels: u8) -> Result<Audit> {
        let image = Raw::open(file).with_context(|| file.display().to_string())?;
        if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            bail!("{}: it is empty", file.display());
        }
        let registers = [Raw::registers(cr3, levels)];
        self.at(format!("image {}", file.display()), &image, &registers)
    }
}
