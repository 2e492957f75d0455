//! The file of `--symbols`: a kernel's ELF file, of which only the symbol table is read, or text.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use object::ReadCache;
use ringwall_audit::Symbols;

/// Most of a file that comes into memory, in bytes. Linux's System.map has 10 MiB, the symbol table of its vmlinux 20.
const MOST: u64 = 64 << 20;

/// Reads symbols.
///
/// # Errors
///
/// When there is no such file, or there are no symbols in it.
pub fn read(path: &Path) -> Result<Symbols> {
    parse(path).with_context(|| format!("symbols {}", path.display()))
}

fn parse(path: &Path) -> Result<Symbols> {
    let mut file = File::open(path)?;
    ensure!(file.metadata()?.is_file(), "it is not a regular file");
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut head)?;
    if head == b"\x7fELF" {
        let cache = ReadCache::new(Limited { file, left: MOST });
        return Ok(Symbols::parse_elf(&cache)?);
    }
    let mut text = head;
    file.take(MOST + 1).read_to_end(&mut text)?;
    ensure!(text.len() as u64 <= MOST, "it is longer than {} MiB", MOST >> 20);
    Ok(Symbols::parse(&text)?)
}

/// A file of which only so much can be read, wherever.
#[derive(Debug)]
struct Limited {
    file: File,
    left: u64,
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::other("its symbol table is too large"));
        }
        let count = self.file.read(&mut buffer[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Seek for Limited {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
