//! Rules about the roots themselves: is there isolation at all, and do the two agree?

use super::catalogue::*;
use super::{Seen, count, kind, place, size, total};
use std::collections::HashSet;

use crate::document::{
    Anomaly, AnomalyKind, Caught, CpuView, Finding, Kind, Place, Region, Severity,
};
use crate::walk::Run;

/// An isolated kernel shows far less than this, but for the areas of many CPUs; one that is mapped whole, more.
pub const WHOLE: u64 = 16 << 20;
/// What the area of one CPU may add to that.
const OF_CPU: u64 = 1 << 20;
/// So much of the direct map is no page that is shown on purpose.
const DIRECT_MAP: u64 = 2 << 20;

/// Processes whose ring 3 is on the kernel's root on purpose.
pub fn switched_off(seen: &Seen, cpus: &[&CpuView]) -> Vec<Finding> {
    let (true, Some(unused)) = (seen.view.switched_off, seen.view.unused_user_root) else {
        return Vec::new();
    };
    let names: Vec<String> = cpus.iter().map(|cpu| cpu.cpu.index.to_string()).collect();
    let place = Place {
        view: seen.index,
        address: cpus.first().map_or(0, |cpu| cpu.cpu.idt.base),
        bytes: 1,
        value: Some(seen.view.user_root),
        note: format!(
            "the process on CPU {}: its user root, at physical {unused:#x}, is not used and lacks this IDT",
            names.join(" and CPU ")
        ),
    };
    vec![PROCESS_OPEN.finding("isolation is switched off for a process", vec![place])]
}

/// CPUs in ring 3 on the kernel's root of a pair.
pub fn ring_3_on_kernel_root(seen: &Seen, cpus: &[&CpuView]) -> Vec<Finding> {
    if seen.view.unused_user_root.is_none() || seen.view.switched_off {
        return Vec::new();
    }
    let wrong = cpus.iter().filter(|cpu| cpu.caught == Caught::Ring3);
    let place = |cpu: &&CpuView| Place {
        view: seen.index,
        address: cpu.cpu.rip,
        bytes: 1,
        value: Some(cpu.cpu.cr3),
        note: format!("CPU {} at CPL 3 with the kernel's root in CR3", cpu.cpu.index),
    };
    let places: Vec<Place> = wrong.map(place).collect();
    if places.is_empty() {
        return Vec::new();
    }
    let cpus = count(places.len() as u64, "CPU");
    vec![KERNEL_ROOT_IN_RING_3.finding(format!("{cpus} in ring 3 on the kernel's root"), places)]
}

/// Whether user mode's root maps the kernel whole: its own tables, the direct map, or simply too much.
/// `all` are the guest's CPUs, `cpus` those of this view.
pub fn whole(seen: &Seen, all: &[CpuView], cpus: &[&CpuView]) -> Vec<Finding> {
    let view = seen.view;
    if view.switched_off {
        return Vec::new();
    }
    let supervisor: Vec<&Region> =
        view.visible.iter().filter(|region| !region.rights.user).collect();
    let root = |region: &&Region| {
        region.contiguous && view.user_root.wrapping_sub(region.physical) < region.bytes
    };
    // Single pages of it may be shown on purpose.
    let direct =
        |region: &&Region| kind(region) == Some(Kind::DirectMap) && region.bytes >= DIRECT_MAP;
    let bytes = total(&supervisor);
    let tables: Vec<&Region> = supervisor.iter().copied().filter(root).collect();
    let owners: HashSet<u32> = supervisor
        .iter()
        .filter_map(|region| region.name.as_ref().and_then(|name| name.cpu))
        .collect();
    let most = WHOLE.saturating_add(OF_CPU.saturating_mul(owners.len() as u64));
    // A pair's user root may show its own tables through a recursive entry, and nothing else of the kernel.
    let reaches_tables = view.kernel_root.is_none() && !tables.is_empty();
    let is_whole = reaches_tables || supervisor.iter().any(direct) || bytes >= most;
    let uncertain = view.kernel_root.is_none()
        && !cpus.is_empty()
        && cpus.iter().all(|cpu| cpu.caught == Caught::RootInKernel);
    let here = Place {
        view: seen.index,
        address: supervisor.first().map_or(0, |region| region.address),
        bytes: 1,
        value: None,
        note: format!("root at physical {:#x}", view.user_root),
    };
    if uncertain {
        // The kernel's own root maps the kernel, of course.
        let title = "a CPU was in the kernel, on a root without another half".to_string();
        let finding = NOT_SEEN_IN_RING_3.finding(title, vec![here]);
        // Where another CPU has told what user mode runs under, this root says nothing.
        let told = all.iter().any(|cpu| cpu.caught != Caught::RootInKernel);
        if told || !is_whole {
            return vec![finding];
        }
        // Without a pair, most likely there is but one root for both.
        let title = format!("most likely user mode's tables map the kernel whole: {}", size(bytes));
        let mut whole = KERNEL_MAPPED_WHOLE.finding(title, largest(seen, &supervisor));
        whole.severity = Severity::Serious;
        return vec![whole, finding];
    }
    if is_whole {
        let title = format!(
            "user mode's tables map the kernel whole: {} of supervisor memory",
            size(bytes)
        );
        return vec![KERNEL_MAPPED_WHOLE.finding(title, largest(seen, &supervisor))];
    }
    Vec::new()
}

/// Whether an isolated view shows its own root.
pub fn tables(seen: &Seen) -> Option<Finding> {
    let view = seen.view;
    let root = |region: &&Region| {
        // What repeats other memory has holes, and what is in them is somewhere else.
        let inside = view.user_root.wrapping_sub(region.physical) < region.bytes;
        inside && region.contiguous && !region.rights.user
    };
    let tables: Vec<&Region> = view.visible.iter().filter(root).collect();
    let title = "user mode's tables map themselves";
    let places = tables.iter().map(|region| place(seen, region));
    (!tables.is_empty()).then(|| PAGE_TABLES_VISIBLE.finding(title, places))
}

/// The greatest regions: a list of all would be long and say nothing.
fn largest(seen: &Seen, regions: &[&Region]) -> Vec<Place> {
    let mut regions = regions.to_vec();
    regions.sort_by_key(|region| std::cmp::Reverse(region.bytes));
    regions.truncate(16);
    regions.sort_by_key(|region| region.address);
    regions.into_iter().map(|region| place(seen, region)).collect()
}

/// Whether both roots show the same user memory, and whether the kernel's leaves it executable.
pub fn user_halves(seen: &Seen, cpus: &[&CpuView]) -> Vec<Finding> {
    let mut found = Vec::new();
    if seen.view.switched_off {
        return found;
    }
    if seen.view.kernel_root.is_none() {
        if !cpus.is_empty() && cpus.iter().any(|cpu| cpu.caught == Caught::Ring3) {
            found.extend(unknown_kernel(seen));
        }
        return found;
    }
    let differing = &seen.halves.differences;
    if differing.count > 0 {
        let title = format!(
            "the two roots disagree about user memory in {}",
            count(differing.count, "place")
        );
        let finding = USER_HALVES_DISAGREE.finding(title, differing.places.clone());
        found.push(Finding { count: differing.count, ..finding });
    }
    let executable: Vec<&Region> = seen.halves.executable.iter().collect();
    if !executable.is_empty() {
        let title = format!(
            "{} of user memory is executable under the kernel's root",
            size(total(&executable))
        );
        let places = executable.iter().map(|region| place(seen, region));
        let mut finding = USER_HALF_EXECUTABLE.finding(title, places);
        // SMEP keeps ring 0 from it, but a return that forgot the switch is in ring 3.
        finding.severity = Severity::Warning;
        found.push(finding);
    }
    found
}

fn unknown_kernel(seen: &Seen) -> Option<Finding> {
    let supervisor: Vec<&Region> =
        seen.view.visible.iter().filter(|region| !region.rights.user).collect();
    let small = total(&supervisor) < WHOLE;
    let maps_root = supervisor
        .iter()
        .filter(|region| region.contiguous)
        .any(|region| seen.view.user_root.wrapping_sub(region.physical) < region.bytes);
    let title = "user mode's tables hide the kernel, but where the kernel's root is is not known";
    (small && !maps_root).then(|| KERNEL_ROOT_UNKNOWN.finding(title, Vec::new()))
}

/// Where the two roots' user halves differ.
#[derive(Debug, Default)]
pub struct Differences {
    /// The first places, at most [`Finding::PLACES`].
    pub places: Vec<Place>,
    /// How many there are.
    pub count: u64,
}

/// Where two lists of user runs differ in what is mapped, to where, or in the right to write. The right to execute
/// is meant to differ.
pub fn differences(view: usize, user: &[Run], kernel: &[Run]) -> Differences {
    let mut found = Differences::default();
    // The last place, listed or not: its last address and what is special there.
    let mut before: Option<(u64, &str)> = None;
    let mut add = |first: u64, last: u64, note: &'static str| {
        let bytes = last - first + 1;
        let goes_on = before.is_some_and(|before| before == (first.wrapping_sub(1), note));
        before = Some((last, note));
        found.count += u64::from(!goes_on);
        let is_listed = found.places.len() as u64 == found.count;
        let is_full = found.places.len() == Finding::PLACES;
        match found.places.last_mut() {
            Some(place) if goes_on && is_listed => place.bytes += bytes,
            _ if !goes_on && !is_full => {
                found.places.push(Place {
                    view,
                    address: first,
                    bytes,
                    value: None,
                    note: note.into(),
                });
            }
            _ => {}
        }
    };
    let of_user = |run: &&Run| run.rights.user && !run.in_kernel_half();
    let mut user = user.iter().filter(of_user).peekable();
    let mut kernel = kernel.iter().filter(of_user).peekable();
    // Everything below `at` has been compared.
    let mut at = 0;
    loop {
        while user.next_if(|region| region.last() < at).is_some() {}
        while kernel.next_if(|region| region.last() < at).is_some() {}
        let (last, note) = match (user.peek(), kernel.peek()) {
            (None, None) => break,
            (Some(region), other)
                if other.is_none_or(|other| other.address > at.max(region.address)) =>
            {
                at = at.max(region.address);
                let before = other.map_or(u64::MAX, |other| other.address - 1);
                (region.last().min(before), Some("mapped for user mode, not for the kernel"))
            }
            (other, Some(region))
                if other.is_none_or(|other| other.address > at.max(region.address)) =>
            {
                at = at.max(region.address);
                let before = other.map_or(u64::MAX, |other| other.address - 1);
                (region.last().min(before), Some("mapped for the kernel, not for user mode"))
            }
            (Some(one), Some(other)) => {
                at = at.max(one.address).max(other.address);
                (one.last().min(other.last()), disagreement(one, other, at))
            }
            // Both arms above take a lone region.
            (Some(_), None) | (None, Some(_)) => break,
        };
        if let Some(note) = note {
            add(at, last, note);
        }
        match last.checked_add(1) {
            Some(next) => at = next,
            None => break,
        }
    }
    found
}

/// How two runs that both hold `at` differ there.
fn disagreement(one: &Run, other: &Run, at: u64) -> Option<&'static str> {
    let physical = |run: &Run| run.physical.wrapping_add(at - run.address);
    let comparable = one.repeats.is_none() && other.repeats.is_none();
    if comparable && physical(one) != physical(other) {
        Some("the roots map it to different memory")
    } else if one.rights.writable != other.rights.writable {
        Some("only one of the roots lets it be written")
    } else {
        None
    }
}

/// Entries that no kernel should write. A device that the kernel maps for itself is none of them.
pub fn malformed(seen: &Seen) -> Vec<Finding> {
    let view = seen.view;
    let visible = |address: u64| view.visible.iter().any(|region| region.contains(address));
    let matters = |anomaly: &&Anomaly| {
        anomaly.kind != AnomalyKind::PageOutsideMemory || visible(anomaly.address)
    };
    let bad: Vec<&Anomaly> = view.anomalies.iter().filter(matters).collect();
    if bad.is_empty() {
        return Vec::new();
    }
    let place = |anomaly: &&Anomaly| Place {
        view: seen.index,
        address: anomaly.address,
        bytes: 4096,
        value: Some(anomaly.entry),
        note: format!(
            "{} in the level {} entry at physical {:#x}",
            words(anomaly.kind),
            anomaly.level,
            anomaly.entry_at
        ),
    };
    let title = format!("{} in the page tables", count(bad.len() as u64, "malformed entry"));
    let title = title.replace("entrys", "entries");
    let mut finding = MALFORMED_TABLES.finding(title, bad.iter().map(place));
    if bad.iter().all(|anomaly| anomaly.kind == AnomalyKind::Loop) {
        // A recursive mapping is a known way for a kernel to reach its own tables.
        finding.severity = Severity::Note;
    }
    vec![finding]
}

fn words(kind: AnomalyKind) -> &'static str {
    match kind {
        AnomalyKind::TableOutsideMemory => "a table outside of memory",
        AnomalyKind::PageOutsideMemory => "a page outside of memory",
        AnomalyKind::Loop => "a loop",
        AnomalyKind::ReservedBit => "a reserved bit",
        AnomalyKind::TooMuch => "more than is looked at,",
    }
}
