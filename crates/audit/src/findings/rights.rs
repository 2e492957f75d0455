//! Rules about what the pages' flags allow.

use super::catalogue::*;
use super::{Seen, kind, place, size, total};
use crate::document::{CpuView, Finding, Kind, Place, Region, Severity};
use crate::names::mark::Mark;

/// Entry text is shorter: Linux's has 8 KiB.
const ENTRY_TEXT_MOST: u64 = 256 << 10;

/// What is wrong however much is mapped.
pub fn always(seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    let visible = &seen.view.visible;
    let both = |region: &&Region| {
        region.rights.writable && region.rights.executable && !region.rights.user
    };
    let both: Vec<&Region> = visible.iter().filter(both).collect();
    if !both.is_empty() {
        let title = format!("{} may be written and executed", size(total(&both)));
        found.push(finding(seen, &WRITABLE_AND_EXECUTABLE, title, &both));
    }
    found.extend(user_accessible(seen));
    found
}

/// Pages of the kernel half with the user bit. Linux's vsyscall page has it on purpose.
fn user_accessible(seen: &Seen) -> Vec<Finding> {
    let view = seen.view;
    let all = view.visible.iter().chain(&view.kernel);
    let open = |region: &&Region| region.rights.user && (region.address as i64) < 0;
    let (legacy, open): (Vec<&Region>, Vec<&Region>) =
        all.filter(open).partition(|region| kind(region) == Some(Kind::Vsyscall));
    let mut found = Vec::new();
    if !open.is_empty() {
        let title = format!("{} of the kernel half is open to user mode", size(total(&open)));
        found.push(finding(seen, &KERNEL_HALF_USER_ACCESSIBLE, title, &open));
    }
    if let Some(page) = legacy.first() {
        let (severity, rights) = if page.rights.executable {
            (Severity::Warning, "execute")
        } else {
            (Severity::Note, "read")
        };
        let title = format!("user mode may {rights} Linux's vsyscall page");
        let mut finding = finding(seen, &KERNEL_HALF_USER_ACCESSIBLE, title, &legacy[..1]);
        finding.severity = severity;
        found.push(finding);
    }
    found
}

/// What is wrong in a view that isolates.
pub fn isolated(seen: &Seen, cpus: &[&CpuView]) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(writable(seen));
    found.extend(executable(seen));
    // Without CR4.PGE the bit means nothing.
    if cpus.iter().any(|cpu| cpu.paging.global) {
        found.extend(global(seen));
    }
    found
}

fn writable(seen: &Seen) -> Option<Finding> {
    let declared = |region: &Region| {
        matches!(kind(region), Some(Kind::EntryStack | Kind::InterruptStack | Kind::TaskStack))
    };
    let writable = |region: &&Region| region.rights.writable && !region.rights.user;
    let writable: Vec<&Region> = seen
        .view
        .visible
        .iter()
        .filter(writable)
        .filter(|region| !declared(region) && !region.rights.executable)
        .collect();
    let title = format!("{} that is no stack may be written", size(total(&writable)));
    (!writable.is_empty()).then(|| finding(seen, &WRITABLE_SUPERVISOR_PAGE, title, &writable))
}

fn executable(seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    let text = |region: &&Region| {
        let rights = region.rights;
        let way_in = matches!(kind(region), Some(Kind::EntryText | Kind::Vsyscall));
        rights.executable && !rights.user && !way_in
    };
    let text: Vec<&Region> = seen.view.visible.iter().filter(text).collect();
    if !text.is_empty() {
        let title = format!("{} beyond the entry text may be executed", size(total(&text)));
        found.push(finding(seen, &EXECUTABLE_SUPERVISOR_PAGE, title, &text));
    }
    found.extend(long_entry_text(seen));
    let beyond = &seen.contents.beyond;
    let bytes: u64 = beyond.iter().map(|beyond| beyond.bytes).sum();
    if bytes > 0 {
        let code: u64 = beyond.iter().map(|beyond| beyond.code).sum();
        let title = if code == 0 {
            format!(
                "entry text is on pages with {} more that may be executed, all padding",
                size(bytes)
            )
        } else {
            format!(
                "entry text is on pages with {} more that may be executed, {} of it code or data",
                size(bytes),
                size(code)
            )
        };
        let place = |address: u64, bytes: u64, note: String| Place {
            view: seen.index,
            address,
            bytes,
            value: None,
            note,
        };
        let places = beyond.iter().flat_map(|beyond| {
            let whole = format!("{} beyond the entry text", size(beyond.bytes));
            let stretches = beyond.stretches.iter().map(|(address, bytes)| {
                let symbol = seen.names.symbol(*address);
                place(*address, *bytes, symbol.unwrap_or_else(|| "code or data".into()))
            });
            std::iter::once(place(beyond.region, beyond.bytes, whole)).chain(stretches)
        });
        let mut finding = EXECUTABLE_SUPERVISOR_PAGE.finding(title, places);
        if code == 0 {
            finding.severity = Severity::Note;
        }
        found.push(finding);
    }
    found
}

/// Entry text that is too long to be entry text: handlers all over a kernel's text.
fn long_entry_text(seen: &Seen) -> Option<Finding> {
    let shown = |mark: &&Mark| {
        mark.kind == Kind::EntryText && super::region(&seen.view.visible, mark.first).is_some()
    };
    let marks: Vec<&Mark> = seen.names.marks.iter().filter(shown).collect();
    let bytes =
        marks.iter().fold(0_u64, |sum, mark| sum.saturating_add(mark.last - mark.first + 1));
    if bytes <= ENTRY_TEXT_MOST {
        return None;
    }
    let place = |mark: &&Mark| Place {
        view: seen.index,
        address: mark.first,
        bytes: mark.last - mark.first + 1,
        value: None,
        note: mark.what.clone(),
    };
    let title = format!("what looks like entry text is {} long", size(bytes));
    Some(EXECUTABLE_SUPERVISOR_PAGE.finding(title, marks.iter().map(place)))
}

/// Global pages: alike in both roots, different, or the kernel's alone.
fn global(seen: &Seen) -> Vec<Finding> {
    let view = seen.view;
    let mut found = Vec::new();
    let is_global = |region: &&Region| region.rights.global && !region.rights.user;
    let alike = |region: &&Region| {
        let kernel = seen.kernel.and_then(|kernel| kernel.translate(region.address));
        seen.kernel.is_none()
            || kernel.is_some_and(|page| {
                page.physical.wrapping_add(region.address - page.address) == region.physical
            })
    };
    let (same, split): (Vec<&Region>, Vec<&Region>) =
        view.visible.iter().filter(is_global).partition(alike);
    if !same.is_empty() {
        let title = format!("{} that both roots map alike is global", size(total(&same)));
        found.push(finding(seen, &GLOBAL_SUPERVISOR_PAGE, title, &same));
    }
    if !split.is_empty() {
        let title = format!("{} that the roots map differently is global", size(total(&split)));
        let mut finding = finding(seen, &GLOBAL_SUPERVISOR_PAGE, title, &split);
        finding.severity = Severity::Serious;
        found.push(finding);
    }
    let shown = |address: u64| {
        let after = view.visible.partition_point(|region| region.address <= address);
        after > 0 && view.visible[after - 1].contains(address)
    };
    let hidden: Vec<&Region> =
        view.kernel.iter().filter(is_global).filter(|region| !shown(region.address)).collect();
    if !hidden.is_empty() {
        let title = format!("{} that only the kernel maps is global", size(total(&hidden)));
        let mut finding = finding(seen, &GLOBAL_SUPERVISOR_PAGE, title, &hidden);
        finding.severity = Severity::Serious;
        found.push(finding);
    }
    found
}

fn finding(seen: &Seen, rule: &Rule, title: String, regions: &[&Region]) -> Finding {
    rule.finding(title, regions.iter().map(|region| place(seen, region)))
}
