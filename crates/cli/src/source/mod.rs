//! What can be looked at, and how it becomes an [`Audit`].
//!
//! ```text
//!   --core, a file ──► Core ────┐
//!   --raw ───────────► Raw ─────┼─► memory, CPUs ──► look() ──► Audit
//!   --qmp, a socket ─► Attached ┤
//!   --run ───────────► Run ─────┘
//!   a file ──────────► JSON ──────────────────────────────────► Audit
//! ```
//!
//! An error names what could not be looked at, why, and what to do.

pub mod cpu;
mod files;
mod guests;
pub mod symbols;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ringwall_audit::document::Audit;
use ringwall_audit::{PhysicalMemory, Subject, Symbols};
use ringwall_emulator::{Memory, Registers};

use crate::interrupt::Interrupt;
use crate::options::{Request, Source};
use crate::progress::Progress;
use crate::terminal::note;

/// What every look needs, whatever it looks at.
#[derive(Debug)]
pub struct Looker {
    /// The kernel's CR3, if the user says it.
    pub kernel_cr3: Option<u64>,
    /// Names for what is seen.
    pub symbols: Option<Symbols>,
    /// How long to wait for ring 3.
    pub limit: Duration,
    /// The gdb stub to catch ring 3 with, if one may be used; empty for one that QEMU is to open.
    pub gdb: Option<String>,
    /// Who puts guests back.
    pub interrupt: Interrupt,
}

impl Looker {
    /// Looks at what is asked for: one audit for each boot.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, is not what it should be, or has no page tables.
    pub fn look(&self, request: &Request) -> Result<Vec<Audit>> {
        let audit = match &request.source {
            Source::File(file) => self.by_content(file),
            Source::Core(file) => self.core(file),
            Source::Raw { file, cr3, levels } => self.raw(file, *cr3, *levels),
            Source::Attached(qmp) => self.attached(qmp),
            Source::Run { arguments, after, boots } => {
                return self.run(arguments, after.as_deref(), *boots);
            }
        };
        Ok(vec![audit?])
    }

    /// Looks at a file or a socket, whatever it is.
    ///
    /// # Errors
    ///
    /// As [`Looker::look`].
    pub fn by_content(&self, file: &Path) -> Result<Audit> {
        match files::tell(file).with_context(|| file.display().to_string())? {
            files::Content::Socket => self.attached(file),
            files::Content::Json => files::json(file),
            files::Content::Dump => self.core(file),
        }
    }

    /// The look itself.
    fn at(&self, source: String, memory: &dyn Memory, registers: &[Registers]) -> Result<Audit> {
        let progress = Progress::new();
        let subject = Subject {
            memory: &Adapter(memory),
            cpus: &registers.iter().map(cpu::cpu).collect::<Vec<_>>(),
            source: source.clone(),
            kernel_cr3: self.kernel_cr3,
            symbols: self.symbols.as_ref(),
            progress: &|done, total| progress.update(done, total),
        };
        let audit = ringwall_audit::look(&subject).with_context(|| source.clone())?;
        let seconds = progress.elapsed().as_secs_f64();
        drop(progress);
        let tables =
            audit.views.iter().fold(0_u64, |sum, view| sum.saturating_add(view.totals.tables));
        note(&format!("looked at {source} in {seconds:.2} s, {tables} page tables"));
        Ok(audit)
    }
}

/// Memory of an emulator as memory of the audit.
struct Adapter<'a>(&'a dyn Memory);

impl PhysicalMemory for Adapter<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.0.read(address, buffer)
    }

    fn holds(&self, address: u64, bytes: u64) -> bool {
        self.0.holds(address, bytes)
    }
}
