//! Rules about what visible memory gives away: by what stands in it, by whose it is, by where it is.

use std::collections::BTreeMap;

use super::catalogue::*;
use super::{Seen, count, kind, place, region, size, total};
use crate::document::{Finding, Kind, Place, Region, Severity};

/// What one view gives away.
pub fn find(seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(pointers(seen));
    found.extend(task_stacks(seen));
    found.extend(remains(seen));
    found.extend(other_cpus(seen));
    found.extend(moves_with_kernel(seen));
    if seen.contents.cut_short {
        let title = "not all visible memory was searched for pointers";
        found.push(NOT_SEARCHED.finding(title, Vec::new()));
    }
    found
}

fn pointers(seen: &Seen) -> Option<Finding> {
    let contents = seen.contents;
    if contents.pointer_count == 0 {
        return None;
    }
    let mut into: BTreeMap<String, u64> = BTreeMap::new();
    let mut places = Vec::new();
    for pointer in &contents.pointers {
        let (kind, note) = target(seen, pointer.value);
        *into.entry(kind).or_default() += 1;
        let at = region(&seen.view.visible, pointer.at);
        let (page, offset) =
            at.map_or((pointer.at, 0), |region| (region.address, pointer.at - region.address));
        let of = at.and_then(|region| region.name.as_ref());
        let of = of.map_or_else(|| format!("page {page:#x}"), |name| name.text.clone());
        let note = format!("offset {offset:#x} of {of} points into {note}");
        places.push(Place {
            view: seen.index,
            address: pointer.at,
            bytes: 8,
            value: Some(pointer.value),
            note,
        });
    }
    let list: Vec<String> = into.iter().map(|(kind, number)| format!("{number} {kind}")).collect();
    let title = format!(
        "{} to kernel-only memory in visible memory: {}",
        count(contents.pointer_count, "pointer"),
        list.join(", ")
    );
    let mut finding = KERNEL_POINTER.finding(title, places);
    finding.count = contents.pointer_count;
    Some(finding)
}

/// What a pointer points into: in a word, and in full.
fn target(seen: &Seen, value: u64) -> (String, String) {
    let inside = region(&seen.view.kernel, value);
    // Just past a region is its end: the top of a stack.
    let region = inside.or_else(|| region(&seen.view.kernel, value.wrapping_sub(1)));
    let end = if inside.is_none() && region.is_some() { "the end of " } else { "" };
    let kind = match region.and_then(kind) {
        Some(Kind::DirectMap) => "into the direct map",
        Some(Kind::Image) => "into the kernel image",
        Some(Kind::TaskStack) => "into task stacks",
        Some(Kind::PerCpu) => "into per-CPU data",
        Some(Kind::Text) => "into kernel text",
        _ => "into other kernel memory",
    };
    let name = region.and_then(|region| region.name.as_ref());
    let name = name.map_or("kernel memory without a name", |name| name.text.as_str());
    let symbol = seen.names.symbol(value).map(|symbol| format!(" ({symbol})")).unwrap_or_default();
    (kind.into(), format!("{end}{name}{symbol}"))
}

fn task_stacks(seen: &Seen) -> Option<Finding> {
    let stacks: Vec<&Region> =
        seen.view.visible.iter().filter(|region| kind(region) == Some(Kind::TaskStack)).collect();
    let title = format!("{} of task stacks is visible", size(total(&stacks)));
    let places = stacks.iter().map(|region| place(seen, region));
    (!stacks.is_empty()).then(|| TASK_STACK_VISIBLE.finding(title, places))
}

fn remains(seen: &Seen) -> Vec<Finding> {
    let stack = |kind: Option<Kind>| {
        matches!(kind, Some(Kind::EntryStack | Kind::InterruptStack | Kind::Espfix))
    };
    let (stacks, data): (Vec<_>, Vec<_>) =
        seen.contents.remains.iter().partition(|remains| stack(remains.kind));
    let mut found = Vec::new();
    for (list, what, severity) in
        [(data, "data pages", Severity::Warning), (stacks, "stacks", Severity::Note)]
    {
        if list.is_empty() {
            continue;
        }
        let places = list.iter().flat_map(|remains| {
            let name = region(&seen.view.visible, remains.region);
            let name = name.and_then(|region| region.name.as_ref());
            let name = name.map_or("a page without a name", |name| name.text.as_str());
            remains.stretches.iter().map(move |(address, bytes)| Place {
                view: seen.index,
                address: *address,
                bytes: *bytes,
                value: None,
                note: format!("offset {:#x} of {name}", address - remains.region),
            })
        });
        let bytes: u64 = list.iter().map(|remains| remains.bytes).sum();
        let regions = count(list.len() as u64, "region");
        let verb = if bytes == 1 { "is" } else { "are" };
        let title = format!("{} on {what} {verb} not zero, in {regions}", count(bytes, "byte"));
        let mut finding = CONTENTS_NOT_DECLARED.finding(title, places);
        finding.severity = severity;
        found.push(finding);
    }
    found
}

/// Pages that belong to more than one CPU.
fn other_cpus(seen: &Seen) -> Option<Finding> {
    let mut cpus: BTreeMap<u32, u64> = BTreeMap::new();
    let mut places = Vec::new();
    for region in &seen.view.visible {
        let Some(cpu) = region.name.as_ref().and_then(|name| name.cpu) else { continue };
        if region.repeats.is_none() && kind(region) != Some(Kind::Espfix) {
            *cpus.entry(cpu).or_default() += region.bytes;
            places.push(place(seen, region));
        }
    }
    if cpus.len() < 2 {
        return None;
    }
    let bytes = cpus.values().max().copied().unwrap_or_default();
    let title =
        format!("the areas of {} CPUs are visible to each, {} each", cpus.len(), size(bytes));
    Some(OTHER_CPUS_VISIBLE.finding(title, places))
}

/// Visible memory at the addresses of the kernel image or of the direct map.
fn moves_with_kernel(seen: &Seen) -> Vec<Finding> {
    let Some(_) = seen.view.kernel_root else { return Vec::new() };
    let visible = || seen.view.visible.iter().filter(|region| !region.rights.user);
    let image: Vec<&Region> = visible().filter(|region| seen.names.is_in_image(region)).collect();
    let direct: Vec<&Region> =
        visible().filter(|region| seen.names.is_in_direct_map(region)).collect();
    let mut found = Vec::new();
    for (regions, what) in [(image, "the kernel image"), (direct, "the direct map")] {
        let Some(first) = regions.first() else { continue };
        let title = format!(
            "{} of visible memory is at its address in {what}, from {:#x}",
            size(total(&regions)),
            first.address
        );
        let places = regions.iter().map(|region| place(seen, region));
        found.push(MOVES_WITH_KERNEL.finding(title, places));
    }
    found
}
