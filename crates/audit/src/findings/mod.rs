//! What is wrong: rules over what was seen.
//!
//! - [`catalogue`] has every finding's name, severity and explanation,
//! - [`isolation`] judges the two roots,
//! - [`rights`] what may be written, executed, reached by user mode, and what is global,
//! - [`secrets`] what visible memory gives away by its contents or its address.
//!
//! Without expectations from outside, what the CPU itself needs under user mode's tables is declared: IDT, GDT, TSS,
//! LDT, entry text, the stacks that the TSS names, espfix. A view that maps the kernel whole has that one finding
//! instead of one for each thing that is mapped; so has that of a process whose isolation is switched off.

pub mod catalogue;
mod isolation;
mod rights;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::contents::Contents;
use crate::document::{CpuView, Finding, Kind, Place, Region, View};
use crate::names::Names;
use crate::tables::Tables;
use crate::tell::Halves;

pub use isolation::{Differences, WHOLE, differences};

/// One view, with all that was found out about it.
pub struct Seen<'a> {
    /// Index into `Audit::views`.
    pub index: usize,
    /// The view, its regions named.
    pub view: &'a View,
    /// What named them.
    pub names: &'a Names<'a>,
    /// What stands in them.
    pub contents: &'a Contents,
    /// What the user halves of both roots have in common, and not.
    pub halves: &'a Halves,
    /// Memory as the kernel's root shows it, if there is one.
    pub kernel: Option<&'a Tables<'a>>,
}

/// Everything that is wrong in one view.
pub fn find(cpus: &[CpuView], seen: &Seen) -> Vec<Finding> {
    let runs: Vec<&CpuView> = cpus.iter().filter(|cpu| cpu.view == seen.index).collect();
    let mut found = isolation::switched_off(seen, &runs);
    found.extend(isolation::ring_3_on_kernel_root(seen, &runs));
    let whole = isolation::whole(seen, cpus, &runs);
    let isolated = whole.is_empty() && !seen.view.switched_off;
    found.extend(whole);
    found.extend(isolation::user_halves(seen, &runs));
    found.extend(isolation::malformed(seen));
    found.extend(rights::always(seen));
    if isolated {
        found.extend(isolation::tables(seen));
        found.extend(rights::isolated(seen, &runs));
        found.extend(secrets::find(seen));
    }
    found
}

/// Puts the findings of all views together, worst first. The same finding in several views is one, as bad as the worst
/// of them.
pub fn merge(found: Vec<Finding>) -> Vec<Finding> {
    let mut merged: Vec<Finding> = Vec::new();
    for finding in found {
        let same = |other: &&mut Finding| other.id == finding.id && other.title == finding.title;
        match merged.iter_mut().find(same) {
            Some(first) => {
                first.severity = first.severity.max(finding.severity);
                first.count += finding.count;
                let room = Finding::PLACES.saturating_sub(first.places.len());
                first.places.extend(finding.places.into_iter().take(room));
            }
            None => merged.push(finding),
        }
    }
    merged.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    merged
}

/// The place of a region.
fn place(seen: &Seen, region: &Region) -> Place {
    let note = region.name.as_ref().map_or_else(|| "no name".into(), |name| name.text.clone());
    Place { view: seen.index, address: region.address, bytes: region.bytes, value: None, note }
}

/// The region of an ascending list that holds an address.
fn region(regions: &[Region], address: u64) -> Option<&Region> {
    let after = regions.partition_point(|region| region.address <= address);
    let last = regions.get(after.checked_sub(1)?)?;
    last.contains(address).then_some(last)
}

fn kind(region: &Region) -> Option<Kind> {
    region.name.as_ref().map(|name| name.kind)
}

/// Bytes of all of them; memory under several addresses counts once.
fn total(regions: &[&Region]) -> u64 {
    let mut seen = HashSet::new();
    let distinct = regions.iter().filter(|region| region.repeats.is_none());
    let distinct = distinct.filter(|region| seen.insert(region.physical));
    distinct.map(|region| region.bytes).fold(0, u64::saturating_add)
}

/// `1 page`, `3 pages`.
fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// A number of bytes in the unit that suits it.
fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = (u128::from(bytes) * 10 / u128::from(unit)) as u64;
            return if tenths.is_multiple_of(10) {
                format!("{} {name}", tenths / 10)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            };
        }
    }
    count(bytes, "byte")
}
