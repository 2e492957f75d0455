//! Audits as JSON files: written for programs, read back to be compared.
//!
//! A file may come from anywhere. It is read up to a size that cannot fill the memory, and checked for what the rest of
//! the program takes for granted: indices that name something, regions that have a length and an end.

use std::io::{self, BufReader, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use ringwall_audit::compare::{Comparison, compare};
use ringwall_audit::document::{Audit, Region, SCHEMA};

/// Longest file that is read, in bytes.
const LONGEST: usize = 32 << 20;
/// Most commas in it. A list item takes at most 40 bytes of memory for each comma that it needs in JSON, and lists
/// grow by doubling: two files, with all their texts, stay below 256 MiB. It is enough for 60,000 regions.
const COMMAS: usize = 3 << 18;

/// Reads an audit from JSON.
///
/// # Errors
///
/// When it is no JSON, not of [`SCHEMA`], too long, or does not hang together.
pub fn read(source: impl Read) -> Result<Audit> {
    let bounded = Bounded { source, bytes: LONGEST, commas: COMMAS };
    let read = serde_json::from_reader::<_, Audit>(BufReader::new(bounded));
    let audit = read.map_err(|error| {
        let io = error.is_io();
        let error = anyhow::Error::new(error);
        if io { error } else { error.context("not the JSON that `ringwall audit --json` writes") }
    })?;
    check(&audit)?;
    Ok(audit)
}

/// A reader that ends with an error before what it has read can fill the memory.
struct Bounded<R> {
    source: R,
    bytes: usize,
    commas: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let commas = buffer[..count].iter().filter(|byte| **byte == b',').count();
        let left = (self.bytes.checked_sub(count), self.commas.checked_sub(commas));
        let (Some(bytes), Some(commas)) = left else {
            return Err(io::Error::other("it is longer than this program reads"));
        };
        (self.bytes, self.commas) = (bytes, commas);
        Ok(count)
    }
}

/// Checks what the type does not say.
fn check(audit: &Audit) -> Result<()> {
    ensure!(
        audit.schema == SCHEMA,
        "its schema is version {}, this program reads version {SCHEMA}",
        audit.schema
    );
    ensure!(!audit.cpus.is_empty(), "it lists no CPU");
    let views = audit.views.len();
    for cpu in &audit.cpus {
        let index = cpu.cpu.index;
        ensure!(cpu.view < views, "CPU {index} has view {}, but there are {views}", cpu.view);
    }
    for finding in &audit.findings {
        let astray = finding.places.iter().find(|place| place.view >= views);
        if let Some(place) = astray {
            bail!("a place of {:?} is in view {}, but there are {views}", finding.id, place.view);
        }
    }
    for view in &audit.views {
        for regions in [&view.visible, &view.user, &view.kernel] {
            check_regions(regions)?;
        }
    }
    Ok(())
}

fn check_regions(regions: &[Region]) -> Result<()> {
    let mut after = None;
    for region in regions {
        let address = region.address;
        ensure!(region.bytes > 0, "the region at {address:#x} is empty");
        let last = address.checked_add(region.bytes - 1);
        let last = last.with_context(|| format!("the region at {address:#x} has no end"))?;
        let known = [0x1000, 0x20_0000, 0x4000_0000].contains(&region.page_size);
        ensure!(known, "the region at {address:#x} has pages of {} bytes", region.page_size);
        ensure!(after < Some(address), "the region at {address:#x} is out of order");
        after = Some(last);
    }
    Ok(())
}

/// Two audits with what differs: the JSON of `--against`.
#[derive(Debug, serde::Serialize)]
pub struct Compared<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The differences.
    pub comparison: Comparison,
    /// The audit that was asked for.
    pub left: &'a Audit,
    /// The one that it is held against.
    pub right: &'a Audit,
}

impl<'a> Compared<'a> {
    /// Sets two audits side by side.
    pub fn new(left: &'a Audit, right: &'a Audit) -> Compared<'a> {
        Compared { schema: SCHEMA, comparison: compare(left, right), left, right }
    }
}

/// Writes an audit, or two, as JSON, with a line end.
///
/// # Errors
///
/// Those of the writer.
pub fn write<T: serde::Serialize>(value: &T, mut output: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut output, value)?;
    output.write_all(b"\n")
}

/// The same as text, for tests.
#[cfg(test)]
pub fn text<T: serde::Serialize>(value: &T) -> io::Result<String> {
    let mut text = Vec::new();
    write(value, &mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn refused(change: impl FnOnce(&mut Audit), words: &str) {
        let mut audit = sample::isolated();
        change(&mut audit);
        let text = text(&audit).expect("JSON");
        let error = format!("{:#}", read(text.as_bytes()).expect_err(words));
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut audit = sample::shared(20);
        audit.boots = Some(sample::boots());
        let text = text(&audit).expect("JSON");
        assert_eq!(read(text.as_bytes()).expect("the same"), audit);
    }

    #[test]
    fn what_does_not_hang_together_is_refused() {
        refused(|audit| audit.schema = 9, "schema is version 9");
        refused(|audit| audit.cpus[0].view = 7, "CPU 0 has view 7, but there are 2");
        refused(|audit| audit.cpus.clear(), "lists no CPU");
        refused(|audit| audit.views[0].visible[0].bytes = 0, "is empty");
        refused(|audit| audit.views[0].visible[0].bytes = u64::MAX, "has no end");
        refused(|audit| audit.views[0].visible.swap(0, 1), "out of order");
        refused(|audit| audit.views[0].kernel[0].page_size = 5, "pages of 5 bytes");
        let astray = |audit: &mut Audit| {
            audit.findings =
                vec![sample::finding("x", ringwall_audit::document::Severity::Note, 1)];
            audit.findings[0].places[0].view = 2;
        };
        refused(astray, "is in view 2");
    }

    #[test]
    fn what_is_no_audit_is_refused() {
        for text in ["", "{", "[]", "{\"schema\": 1}", "nonsense"] {
            assert!(read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_would_fill_the_memory_is_not_read_to_its_end() {
        let mut spaces = io::repeat(b' ');
        let mut zeros = b"{\"unknown\": [0".chain(Zeros);
        for endless in [&mut spaces as &mut dyn Read, &mut zeros] {
            let error = format!("{:#}", read(endless).expect_err("too long"));
            assert!(error.contains("longer than this program reads"), "{error}");
        }
    }

    /// `,0,0,0` without an end.
    struct Zeros;

    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let even = buffer.len() & !1;
            buffer[..even].copy_from_slice(&b",0".repeat(even / 2));
            Ok(even)
        }
    }
}
