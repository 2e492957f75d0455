//! Bytes by their offset: of a file, read when they are wanted, or in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::DumpError;

/// A file that is read at offsets, or its contents.
#[derive(Debug)]
pub(super) enum Source {
    File(File, u64),
    Bytes(Vec<u8>),
}

impl Source {
    /// Opens a regular file. Others could let the program wait for ever, or have no length.
    pub fn open(path: &Path) -> Result<Source, DumpError> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(DumpError::NotAFile);
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Source::File(file, length))
    }

    pub fn length(&self) -> u64 {
        match self {
            Source::File(_, length) => *length,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `buffer` from `offset`; false if not all of it is there.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Source::File(file, _) => file.read_exact_at(buffer, offset),
            Source::Bytes(bytes) => {
                let part = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
                let part = part.and_then(|part| part.get(..buffer.len()));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}
