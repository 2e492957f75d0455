//! The view from outside: what user mode could read of the kernel at this moment.
//!
//! The guest is stopped while its CPU runs in ring 3; its page tables are read from its physical
//! memory. The guest has no part in this and cannot tell that it happened. `ringwall audit` does the same with any
//! guest; this is what the tour shows of it.

use std::time::Duration;

use anyhow::{Context, Result};
use console::style;
use ringwall_audit::cpu::Cpu;
use ringwall_audit::document::{Audit, Caught, Finding, Region, Severity, View as RootPair};
use ringwall_audit::{Expectations, Subject, look as look_at};
use ringwall_cli::cpu;
use ringwall_emulator::Guest;

use crate::run::table::{Table, grouped};

/// How long to try to catch the CPU in user mode.
const CATCH_LIMIT: Duration = Duration::from_secs(20);

/// Most rows of the table of pages. A kernel without isolation has far more.
const ROWS: usize = 16;

/// What the reference kernel may show.
const EXPECTATIONS: &str = include_str!("../../../kernel/visible.toml");

/// What was seen, for the tour's verdict.
pub struct View {
    audit: Audit,
    /// From this severity on a finding breaks the promise.
    least: Severity,
}

/// Stops the guest in ring 3, looks, and lets it go on. If it runs the reference kernel, everything that its
/// expectations do not allow breaks the promise; of other kernels only what is serious.
///
/// # Errors
///
/// When the guest never runs in ring 3, or its page tables cannot be read.
pub fn look(guest: &mut Guest, is_reference_kernel: bool) -> Result<View> {
    guest
        .stop_in_user_mode(CATCH_LIMIT)?
        .context("the CPU was never seen in user mode: is a program running?")?;
    let cpus: Vec<Cpu> = guest.monitor.all_registers()?.iter().map(cpu).collect();
    let memory = &guest.memory;
    let subject = Subject {
        memory: &|address: u64, buffer: &mut [u8]| memory.read(address, buffer),
        cpus: &cpus,
        source: "the tour".into(),
        symbols: None,
        kernel_cr3: None,
        progress: &|_, _| {},
    };
    let mut audit = look_at(&subject)?;
    guest.monitor.resume()?;
    if is_reference_kernel {
        Expectations::parse(EXPECTATIONS)?.apply(&mut audit);
    }
    let least = if is_reference_kernel { Severity::Note } else { Severity::Serious };
    Ok(View { audit, least })
}

impl View {
    /// Prints the pages, the total, the pointers and what is wrong.
    pub fn print(&self) {
        let caught = self.audit.cpus.iter().filter(|cpu| cpu.caught == Caught::Ring3);
        for seen in caught {
            let Some(pair) = self.audit.views.get(seen.view) else { continue };
            let registers = &seen.cpu;
            let isolated = pair.kernel_root.is_some();
            let root = if isolated { "user root" } else { "only root: not isolated" };
            println!(
                "  stopped in ring {} at {:#x}; CR3 {:#x} ({root})\n",
                registers.cpl, registers.rip, registers.cr3
            );
            print_pages(pair);
            if isolated {
                println!(
                    "\n  pointers to kernel-only memory in these bytes: {}",
                    grouped(pair.totals.pointers)
                );
            }
        }
        println!("  findings of the audit: {}", self.audit.findings.len());
        for finding in &self.audit.findings {
            let id = style(&finding.id);
            let id = if self.is_broken_by(finding) { id.red() } else { id.dim() };
            println!("    {id}: {}", finding.title);
        }
    }

    /// What breaks the promise, in words; empty if all is well.
    pub fn findings(&self) -> Vec<String> {
        let broken = self.audit.findings.iter().filter(|finding| self.is_broken_by(finding));
        broken.map(|finding| finding.title.clone()).collect()
    }

    fn is_broken_by(&self, finding: &Finding) -> bool {
        finding.severity >= self.least
    }
}

/// The supervisor pages that one root pair shows.
fn print_pages(pair: &RootPair) {
    let mut table =
        Table::new(&[("address", false), ("bytes", true), ("rights", false), ("what", false)]);
    let (shown, again): (Vec<&Region>, Vec<&Region>) =
        pair.visible.iter().partition(|region| region.repeats.is_none());
    for region in shown.iter().take(ROWS) {
        let name = region.name.as_ref().map_or("", |name| &name.text);
        let (address, bytes) = (format!("{:#x}", region.address), grouped(region.bytes));
        table.row([address, bytes, region.rights.text(), name.into()]);
    }
    if shown.len() > ROWS {
        let rest = shown[ROWS..].iter().map(|region| region.bytes).sum();
        table.row([format!("{} more", shown.len() - ROWS), grouped(rest), "".into(), "".into()]);
    }
    table.row(["total".into(), grouped(pair.totals.visible_bytes), "".into(), "".into()]);
    print!("{}", table.render());
    let more: u64 = again.iter().map(|region| region.pages).sum();
    if more > 0 {
        println!("  and {} further addresses of the same memory", grouped(more));
    }
}
