//! The view from outside: what user mode could read of the kernel at this moment.
//!
//! The guest is stopped while its CPU runs in ring 3; its page tables are read from its physical
//! memory. The guest has no part in this and cannot tell that it happened.

use std::time::Duration;

use anyhow::{Context, Result};
use ringwall_audit::{Landmarks, Leaf, Report, audit};
use ringwall_emulator::{Guest, Registers};

use crate::run::table::{Table, grouped};

/// How long to try to catch the CPU in user mode.
const CATCH_LIMIT: Duration = Duration::from_secs(20);

/// Most rows of the table of pages. A kernel without isolation has far more.
const ROWS: usize = 16;

/// What was seen, for the tour's verdict.
pub struct View {
    /// The audit's result.
    pub report: Report,
    registers: Registers,
    landmarks: Landmarks,
}

/// Stops the guest in ring 3, looks, and lets it go on.
///
/// # Errors
///
/// When the guest never runs in ring 3, or its page tables cannot be read.
pub fn look(guest: &mut Guest) -> Result<View> {
    let registers = guest
        .stop_in_user_mode(CATCH_LIMIT)?
        .context("the CPU was never seen in user mode: is a program running?")?;
    let memory = &guest.memory;
    let read = |address: u64, buffer: &mut [u8]| memory.read(address, buffer);
    let report = audit(&read, registers.cr3, registers.levels())?;
    let tables = (registers.idt.base, registers.gdt.base, registers.tss.base);
    let landmarks = Landmarks::new(&read, &report.pages, tables);
    guest.monitor.resume()?;
    Ok(View { report, registers, landmarks })
}

impl View {
    /// Prints the pages, the total and the pointers.
    pub fn print(&self) {
        let registers = &self.registers;
        let root = if self.report.isolated { "user root" } else { "only root: not isolated" };
        println!(
            "  stopped in ring {} at {:#x}; CR3 {:#x} ({root})\n",
            registers.cpl, registers.rip, registers.cr3
        );
        let mut table =
            Table::new(&[("address", false), ("bytes", true), ("rights", false), ("what", false)]);
        let pages = self.report.distinct();
        let rows = rows(&pages, |page| self.landmarks.describe(page));
        for (address, size, rights, name) in rows.iter().take(ROWS) {
            table.row([format!("{address:#x}"), grouped(*size), rights.clone(), name.clone()]);
        }
        if rows.len() > ROWS {
            let rest = rows[ROWS..].iter().map(|row| row.1).sum();
            table.row([format!("{} more", rows.len() - ROWS), grouped(rest), "".into(), "".into()]);
        }
        table.row(["total".into(), grouped(self.report.total()), "".into(), "".into()]);
        print!("{}", table.render());
        if pages.len() < self.report.pages.len() {
            let more = (self.report.pages.len() - pages.len()) as u64;
            println!("  and {} further addresses of the same memory", grouped(more));
        }
        if !self.report.isolated {
            return;
        }
        println!(
            "\n  pointers to kernel-only memory in these bytes: {}",
            grouped(self.report.pointers.len() as u64)
        );
        for pointer in self.report.pointers.iter().take(4) {
            println!("    {:#x} holds {:#x}", pointer.at, pointer.value);
        }
        println!(
            "  user pages that the kernel root would execute: {}",
            grouped(self.report.executable.len() as u64)
        );
    }

    /// What breaks the promise, in words; empty if all is well.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        if !self.report.isolated {
            findings.push("user mode runs under the kernel's own root".into());
        }
        if !self.report.pointers.is_empty() {
            findings.push(format!("{} kernel pointers are visible", self.report.pointers.len()));
        }
        if !self.report.executable.is_empty() {
            findings.push("the kernel root maps executable user pages".into());
        }
        findings
    }
}

/// Neighbours with the same rights and name become one row: address, bytes, rights, name.
fn rows(pages: &[Leaf], describe: impl Fn(&Leaf) -> String) -> Vec<(u64, u64, String, String)> {
    let mut rows: Vec<(u64, u64, String, String)> = Vec::new();
    for page in pages {
        let (rights, name) = (page.rights(), describe(page));
        match rows.last_mut() {
            Some(last)
                if last.0 + last.1 == page.address && (&last.2, &last.3) == (&rights, &name) =>
            {
                last.1 += page.size;
            }
            _ => rows.push((page.address, page.size, rights, name)),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_that_look_the_same_are_one_row() {
        let page = |address, writable| Leaf {
            address,
            physical: 0,
            size: 0x1000,
            writable,
            user: false,
            executable: false,
        };
        let pages = [page(0x1000, false), page(0x2000, false), page(0x3000, true)];
        let rows = rows(&pages, |page| if page.writable { "stacks" } else { "data" }.into());
        assert_eq!(rows[0], (0x1000, 0x2000, "r--".into(), "data".into()));
        assert_eq!(rows[1], (0x3000, 0x1000, "rw-".into(), "stacks".into()));
    }
}
