//! What user mode sees of the kernel: a table for each set of CPUs that see the same.
//!
//! A kernel that does not isolate itself maps thousands of regions. Then the table tells the sums by kind and the
//! largest regions, and how to see the rest.

use std::collections::BTreeMap;

use ringwall_audit::document::{Audit, Kind, View};

use super::cpus::{every, named, seen};
use super::fold::{Row, fold, sums};
use super::format::{Format, bytes, counted, grouped, list, page_size, plain, rights};
use super::table::{number, render, text};

/// More rows than this are told by their sums, unless all are asked for.
const ROWS: usize = 80;
/// More rows than this are for programs to read.
const MOST: usize = 1 << 14;
/// How many of the largest are shown beside the sums.
const LARGEST: usize = 10;
/// Columns that a table with whole address ranges needs.
const WIDE: usize = 104;

/// The regions of all views.
pub fn section(audit: &Audit, format: &Format) -> String {
    let mut sections = Vec::new();
    for (view, cpus) in alike(audit) {
        let mut of_these = audit.cpus.iter().filter(|cpu| cpus.contains(&cpu.cpu.index));
        let seen = cpus.is_empty() || of_these.any(|cpu| seen(audit, cpu));
        if !seen && !format.all {
            continue;
        }
        let same = if cpus.len() > 1 { ", the same on each" } else { "" };
        let whose = if cpus.len() > 1 && cpus.len() == audit.cpus.len() + audit.unseen.len() {
            every(cpus.len())
        } else if cpus.is_empty() {
            "no CPU that was looked at".into()
        } else {
            named(&cpus)
        };
        let what = if seen {
            "What user mode sees of the kernel"
        } else {
            "What the kernel itself maps: ring 3 was not seen"
        };
        let mut text = format.heading(&format!("{what}, on {whose}{same}"));
        text.push_str(&one(view, format));
        sections.push(text);
    }
    sections.join("\n")
}

/// Views whose visible memory is the same, with the CPUs that run under them.
fn alike(audit: &Audit) -> Vec<(&View, Vec<u32>)> {
    let mut groups: Vec<(&View, Vec<u32>)> = Vec::new();
    for (index, view) in audit.views.iter().enumerate() {
        let cpus = audit.cpus.iter().filter(|cpu| cpu.view == index).map(|cpu| cpu.cpu.index);
        let isolated = view.kernel_root.is_some();
        let same = groups.iter_mut().find(|(other, _)| {
            other.visible == view.visible && other.kernel_root.is_some() == isolated
        });
        match same {
            Some((_, group)) => group.extend(cpus),
            None => groups.push((view, cpus.collect())),
        }
    }
    for (_, cpus) in &mut groups {
        cpus.sort_unstable();
    }
    groups
}

fn one(view: &View, format: &Format) -> String {
    let rows = fold(&view.visible);
    let mut text = if rows.is_empty() {
        "  Nothing: no supervisor page is mapped.\n".into()
    } else if rows.len() <= ROWS {
        table(rows.iter(), format)
    } else if format.all {
        let mut text = table(rows.iter().take(MOST), format);
        if rows.len() > MOST {
            let more = grouped((rows.len() - MOST) as u64);
            text.push_str(&format!("  and {more} more; --json lists them\n"));
        }
        text
    } else {
        by_kind(&rows, format)
    };
    for note in notes(view, &rows, format) {
        text.push_str(&format!("{}\n", format.prose(&note, "  ")));
    }
    text
}

fn by_kind(rows: &[Row], format: &Format) -> String {
    let columns = [
        text("kind"),
        text("rights"),
        number("regions").expendable(2),
        number("bytes"),
        number("pages").expendable(1),
        text("first address"),
    ];
    let cells: Vec<Vec<String>> = sums(rows)
        .iter()
        .map(|sum| {
            vec![
                kind(sum.kind).into(),
                rights(&sum.rights),
                grouped(sum.rows),
                grouped(sum.bytes),
                grouped(sum.pages),
                format!("{:#x}", sum.address),
            ]
        })
        .collect();
    let mut largest: Vec<&Row> = rows.iter().collect();
    largest.sort_by_key(|row| std::cmp::Reverse(row.bytes));
    largest.truncate(LARGEST);
    largest.sort_by_key(|row| row.address);
    format!(
        "{}\n  The largest of {} (--all lists them):\n{}",
        render(format, &columns, &cells),
        counted(rows.len() as u64, "region"),
        table(largest.into_iter(), format)
    )
}

fn table<'a>(rows: impl Iterator<Item = &'a Row>, format: &Format) -> String {
    let wide = format.width >= WIDE;
    let columns = [
        text("address"),
        number("bytes"),
        text("rights"),
        number("pages").expendable(1),
        text("physical").expendable(2),
        text("what"),
    ];
    let rows: Vec<Vec<String>> = rows.map(|row| cells(row, wide)).collect();
    render(format, &columns, &rows)
}

fn cells(row: &Row, wide: bool) -> Vec<String> {
    let address = if wide {
        format!("{:#x}-{:#x}", row.address, row.last)
    } else {
        format!("{:#x}", row.address)
    };
    let what = if row.what.is_empty() { "?".into() } else { plain(&row.what) };
    match row.repeats {
        None => vec![
            address,
            grouped(row.bytes),
            rights(&row.rights),
            pages(&row.pages),
            format!("{:#x}", row.physical),
            what.into(),
        ],
        Some(first) => vec![
            address,
            String::new(),
            rights(&row.rights),
            pages(&row.pages),
            String::new(),
            format!(
                "again what is at {first:#x}{}",
                if row.what.is_empty() { String::new() } else { format!(": {what}") }
            ),
        ],
    }
}

/// `4`, with the size where it is not 4 KiB: `1 x 2 MiB`.
fn pages(pages: &BTreeMap<u64, u64>) -> String {
    let words = pages.iter().map(|(size, count)| match size {
        0x1000 => grouped(*count),
        size => format!("{} x {}", grouped(*count), page_size(*size)),
    });
    words.collect::<Vec<_>>().join(" + ")
}

fn notes(view: &View, rows: &[Row], format: &Format) -> Vec<String> {
    let mut notes = Vec::new();
    let totals = &view.totals;
    let repeated = rows.iter().filter(|row| row.repeats.is_some());
    let repeated = repeated.fold(0_u64, |sum, row| sum.saturating_add(row.page_count()));
    if repeated > 0 {
        let pages = counted(repeated, "page");
        notes.push(format!(
            "{pages} of that are further addresses of memory that is listed already."
        ));
    }
    let rights = view.visible.iter().map(|region| region.rights);
    let legend = [
        (rights.clone().any(|rights| rights.user), "U for user mode"),
        (rights.clone().any(|rights| rights.global), "G global"),
        (rights.clone().any(|rights| rights.key != 0), "k a protection key"),
    ];
    let legend: Vec<&str> =
        legend.iter().filter(|(there, _)| *there).map(|(_, text)| *text).collect();
    if !legend.is_empty() {
        notes.push(format!("Beside rights: {}.", list(&legend)));
    }
    notes.push(format!(
        "Total: {} visible, {} of it writable, {} executable.",
        bytes(totals.visible_bytes),
        grouped(totals.writable_bytes),
        grouped(totals.executable_bytes)
    ));
    if view.kernel_root.is_some() {
        notes.push(format!(
            "The kernel root maps {} of supervisor memory.",
            bytes(totals.kernel_bytes)
        ));
    }
    if !view.anomalies.is_empty() && !format.all {
        notes.push(format!(
            "{} in the tables; the JSON lists them.",
            counted(view.anomalies.len() as u64, "malformed entry").replace("entrys", "entries")
        ));
    }
    if format.all {
        let anomaly = |anomaly: &ringwall_audit::document::Anomaly| {
            let kind = word(&anomaly.kind);
            let (entry, at, address) = (anomaly.entry, anomaly.entry_at, anomaly.address);
            let level = anomaly.level;
            format!(
                "Malformed: {kind}: entry {entry:#x} at physical {at:#x}, level {level}, for {address:#x}."
            )
        };
        notes.extend(view.anomalies.iter().map(anomaly));
    }
    notes
}

/// The name of a kind as the JSON has it.
fn word(kind: &impl serde::Serialize) -> String {
    serde_json::to_value(kind)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn kind(kind: Option<Kind>) -> &'static str {
    match kind {
        None => "not known",
        Some(Kind::Idt) => "IDT",
        Some(Kind::Gdt) => "GDT",
        Some(Kind::Tss) => "TSS",
        Some(Kind::GdtAndTss) => "GDT and TSS",
        Some(Kind::Ldt) => "LDT",
        Some(Kind::EntryStack) => "entry stack",
        Some(Kind::InterruptStack) => "interrupt stack",
        Some(Kind::Espfix) => "espfix",
        Some(Kind::EntryText) => "entry text",
        Some(Kind::Text) => "text",
        Some(Kind::Vsyscall) => "vsyscall",
        Some(Kind::PerCpu) => "per-CPU data",
        Some(Kind::TaskStack) => "task stack",
        Some(Kind::Image) => "kernel image",
        Some(Kind::DirectMap) => "direct map",
        Some(Kind::Data) => "other data",
    }
}
