//! The CPUs: a line each, then what there is to say about how they run.

use std::collections::BTreeMap;

use ringwall_audit::cpu::Paging;
use ringwall_audit::document::{Audit, Caught, CpuView};

use super::format::{Format, grouped, list, plain};
use super::table::{number, render, text};

/// The table of CPUs, with the totals of what each shows, and notes.
pub fn section(audit: &Audit, format: &Format) -> String {
    let columns = [
        number("CPU"),
        number("ring"),
        text("CR3").expendable(2),
        text("user root"),
        text("kernel root"),
        number("visible bytes"),
        number("writable").expendable(4),
        number("executable").expendable(5),
        number("pages").expendable(6),
        number("pointers").expendable(1),
    ];
    let rows: Vec<Vec<String>> = audit.cpus.iter().map(|cpu| row(audit, cpu)).collect();
    let mut text = format.heading("CPUs");
    text.push_str(&render(format, &columns, &rows));
    for note in notes(audit) {
        text.push_str(&format!("{}\n", format.prose(&note, "  ")));
    }
    text
}

fn row(audit: &Audit, cpu: &CpuView) -> Vec<String> {
    let view = &audit.views[cpu.view];
    let totals = &view.totals;
    let sum = |number| if seen(audit, cpu) { grouped(number) } else { "-".into() };
    vec![
        cpu.cpu.index.to_string(),
        cpu.cpu.cpl.to_string(),
        format!("{:#x}", cpu.cpu.cr3),
        if seen(audit, cpu) { format!("{:#x}", view.user_root) } else { "not seen".into() },
        match view.kernel_root {
            Some(root) => format!("{root:#x}"),
            None if seen(audit, cpu) => "the same".into(),
            None => format!("{:#x}", view.user_root),
        },
        sum(totals.visible_bytes),
        sum(totals.writable_bytes),
        sum(totals.executable_bytes),
        sum(totals.visible_pages),
        sum(totals.pointers),
    ]
}

fn notes(audit: &Audit) -> Vec<String> {
    let mut notes = Vec::new();
    let mut settings: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for cpu in &audit.cpus {
        settings.entry(paging(&cpu.paging)).or_default().push(cpu.cpu.index);
    }
    let alike = settings.len() == 1;
    for (words, cpus) in &settings {
        let subject = if alike { "Paging".into() } else { format!("Paging on {}", named(cpus)) };
        notes.push(format!("{subject}: {words}."));
    }
    let indices = |wanted: &dyn Fn(&CpuView) -> bool| {
        let cpus = audit.cpus.iter().filter(|cpu| wanted(cpu));
        cpus.map(|cpu| cpu.cpu.index).collect::<Vec<_>>()
    };
    let pairs = indices(&|cpu| cpu.caught == Caught::PairInKernel);
    if !pairs.is_empty() {
        notes.push(format!(
            "{} {} in the kernel; the user root is the other half of the root pair.",
            named(&pairs),
            were(&pairs)
        ));
    }
    let shared = indices(&|cpu| cpu.caught == Caught::RootInKernel && seen(audit, cpu));
    if !shared.is_empty() {
        notes.push(format!(
            "{} {} in the kernel, on the root of a CPU that was in ring 3.",
            named(&shared),
            were(&shared)
        ));
    }
    let alone = indices(&|cpu| !seen(audit, cpu));
    if !alone.is_empty() {
        notes.push(format!(
            "{} {} in the kernel, on a root that was not seen in ring 3: what ring 3 would see there is not known.",
            named(&alone),
            were(&alone)
        ));
    }
    let mut reasons: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for unseen in &audit.unseen {
        reasons.entry(&unseen.reason).or_default().push(unseen.index);
    }
    for (reason, cpus) in reasons {
        let reason = plain(reason);
        notes.push(format!("{} {} not looked at: {reason}.", named(&cpus), were(&cpus)));
    }
    for (cpu, root) in audit.cpus.iter().filter_map(|cpu| {
        let root = audit.views[cpu.view].unused_user_root?;
        Some((cpu.cpu.index, root))
    }) {
        notes.push(format!(
            "CPU {cpu} has a user root at {root:#x} beside its kernel root, and ring 3 runs without it."
        ));
    }
    notes
}

/// `CPU 0`, `CPUs 0 and 1`.
pub fn named(cpus: &[u32]) -> String {
    format!("{} {}", if cpus.len() == 1 { "CPU" } else { "CPUs" }, list(cpus))
}

/// Whether it is known what ring 3 sees on this CPU: it was there, or its root belongs to one that was.
pub fn seen(audit: &Audit, cpu: &CpuView) -> bool {
    let known = |cpu: &CpuView| cpu.caught != Caught::RootInKernel;
    known(cpu) || audit.cpus.iter().any(|other| other.view == cpu.view && known(other))
}

/// `both CPUs`, `all 4 CPUs`.
pub fn every(count: usize) -> String {
    if count == 2 { "both CPUs".into() } else { format!("all {count} CPUs") }
}

fn were(cpus: &[u32]) -> &'static str {
    if cpus.len() == 1 { "was" } else { "were" }
}

/// The features of paging that are on, and those that a reader would miss.
fn paging(paging: &Paging) -> String {
    let features = [
        (paging.no_execute, "NX"),
        (paging.write_protect, "WP"),
        (paging.global, "PGE"),
        (paging.pcid, "PCID"),
        (paging.smep, "SMEP"),
        (paging.smap, "SMAP"),
        (paging.user_keys, "PKU"),
        (paging.supervisor_keys, "PKS"),
    ];
    let names = |wanted: bool| {
        let names = features.iter().filter(|(on, _)| *on == wanted).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(" ")
    };
    let (on, off) = (names(true), names(false));
    match (on.is_empty(), off.is_empty()) {
        (_, true) => format!("{} levels, {on}", paging.levels),
        (true, _) => format!("{} levels, without {off}", paging.levels),
        _ => format!("{} levels, {on}; off: {off}", paging.levels),
    }
}
