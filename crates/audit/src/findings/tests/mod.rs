//! Each finding on a guest that shows it; the sound guest, and others that come close, do not.

mod isolation;
mod rights;
mod secrets;

use super::catalogue::ALL;
use crate::PhysicalMemory;
use crate::cpu::Cpu;
use crate::document::{Audit, Finding, Severity};
use crate::sound::*;
use crate::synthetic::{Guest, LARGE, NX, P, U, W};

const G: u64 = 1 << 8;

fn of<'a>(audit: &'a Audit, id: &str) -> Vec<&'a Finding> {
    audit.findings.iter().filter(|finding| finding.id == id).collect()
}

fn ids(audit: &Audit) -> Vec<&str> {
    audit.findings.iter().map(|finding| finding.id.as_str()).collect()
}

/// The only finding of a guest that one change made unsound.
#[track_caller]
fn only(change: impl FnOnce(&mut Guest, &mut Cpu)) -> Finding {
    let (mut guest, mut cpu) = (guest(), cpu());
    change(&mut guest, &mut cpu);
    let audit = audit(&guest, &[cpu]);
    assert_eq!(audit.findings.len(), 1, "{:?}", ids(&audit));
    audit.findings[0].clone()
}

/// Maps a page for both roots.
fn map_both(guest: &mut Guest, address: u64, physical: u64, flags: u64) {
    guest.map(USER, address, physical, flags);
    guest.map(KERNEL, address, physical, flags);
}

#[test]
fn a_sound_guest_has_no_finding() {
    let audit = audit(&guest(), &[cpu()]);
    assert_eq!(audit.findings, []);
    assert_eq!(audit.views[0].totals.visible_bytes, 0x4000);
}

#[test]
fn malformed_entries_are_told_and_loops_only_noted() {
    let found = only(|guest, _| guest.change(USER, 300, |_| 0x7_0000_0000 | P));
    assert_eq!((found.id.as_str(), found.severity), ("malformed-tables", Severity::Warning));
    assert!(found.places[0].note.starts_with("a table outside of memory"), "{found:?}");
    let mut guest = guest();
    guest.change(KERNEL, 300, |_| KERNEL | P | W);
    let audit = audit(&guest, &[cpu()]);
    assert!(
        of(&audit, "malformed-tables").iter().all(|found| found.severity == Severity::Note),
        "{:?}",
        audit.findings
    );
}

#[test]
fn a_user_root_that_names_itself_shows_its_tables_and_not_the_kernel() {
    let mut guest = guest();
    guest.change(USER, 300, |_| USER | P | W | NX);
    let audit = audit(&guest, &[cpu()]);
    assert_eq!(of(&audit, "page-tables-visible").len(), 1, "{:?}", ids(&audit));
    assert_eq!(of(&audit, "kernel-mapped-whole").len(), 0, "{:?}", ids(&audit));
}

#[test]
fn memory_between_repetitions_is_not_shown() {
    let mut guest = guest();
    // Espfix stacks begin below the root in physical memory, and reach far beyond it in virtual memory.
    for step in 0..6 {
        guest.map(USER, 0xffff_ff00_0000_0000 + step * 0x1_0000, 0x1000, P | NX);
    }
    assert_eq!(audit(&guest, &[cpu()]).findings, []);
}

#[test]
fn every_finding_is_explained_in_the_documentation() {
    let text = include_str!("../../../../../docs/findings.md");
    let headings: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("## ")).map(str::trim).collect();
    let mut ids: Vec<&str> = ALL.iter().map(|rule| rule.id).collect();
    for heading in &headings {
        assert!(ids.contains(heading), "no finding is called {heading:?}");
    }
    ids.retain(|id| !headings.contains(id));
    assert_eq!(ids, [""; 0], "findings without a heading");
    for rule in ALL {
        assert!(rule.explanation.ends_with('.') && !rule.explanation.contains("  "), "{}", rule.id);
    }
}
