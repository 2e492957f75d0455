//! Two audits side by side, differences first.
//!
//! What is the same is counted and not shown, unless everything is asked for: a reader of a comparison looks for what
//! is not.

use ringwall_audit::compare::{Aspect, Comparison, RegionPair};
use ringwall_audit::document::{Audit, Region};

use super::format::{Format, counted, grouped, plain, rights, severity};
use super::table::{Column, number, render, text};
use super::verdict;

/// More rows than this are cut, unless all are asked for.
const ROWS: usize = 40;

/// The report of a comparison.
pub fn comparison(left: &Audit, right: &Audit, comparison: &Comparison, format: &Format) -> String {
    let difference = counted(comparison.differences as u64, "difference");
    let mut text = String::new();
    for (name, audit) in [("A", left), ("B", right)] {
        let line = format!("{name}: {}", plain(&verdict(audit)));
        text.push_str(&format!("{}\n", format.prose(&line, "")));
    }
    text.push_str(&format!("{difference}.\n"));
    let parts = [
        findings(comparison, format),
        totals(comparison, format),
        settings(comparison, format),
        regions(comparison, format),
    ];
    for part in parts.iter().filter(|part| !part.is_empty()) {
        text.push_str(&format!("\n{part}"));
    }
    text
}

/// A table of what differs, or of everything; a line says how much is the same or was cut.
fn part(
    heading: &str,
    columns: &[Column],
    rows: Vec<(bool, Vec<String>)>,
    what: &str,
    format: &Format,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let same = rows.iter().filter(|(differs, _)| !differs).count();
    let shown: Vec<Vec<String>> =
        rows.into_iter().filter(|(differs, _)| *differs || format.all).map(|(_, row)| row).collect();
    let most = if format.all { usize::MAX } else { ROWS };
    let mut text = format.heading(heading);
    text.push_str(&render(format, columns, &shown[..shown.len().min(most)]));
    if shown.len() > most {
        let cut = counted((shown.len() - most) as u64, "row");
        text.push_str(&format!("  and {cut} more (--all lists them)\n"));
    }
    if same > 0 && !format.all {
        text.push_str(&format!("  The same in both: {}.\n", counted(same as u64, what)));
    }
    text
}

fn settings(comparison: &Comparison, format: &Format) -> String {
    let columns = [text("setting"), text("A"), text("B")];
    let rows = comparison.settings.iter().map(|setting| {
        let cells = [setting.name, &*setting.left, &*setting.right];
        (setting.differs, cells.map(|cell| plain(cell).into_owned()).to_vec())
    });
    part("Settings", &columns, rows.collect(), "setting", format)
}

fn totals(comparison: &Comparison, format: &Format) -> String {
    let columns = [text("total"), number("A"), number("B")];
    let rows = comparison.totals.iter().map(|total| {
        let cells = vec![total.name.into(), grouped(total.left), grouped(total.right)];
        (total.differs(), cells)
    });
    part("Totals, of the view that shows most", &columns, rows.collect(), "total", format)
}

fn findings(comparison: &Comparison, format: &Format) -> String {
    let columns = [text("finding"), text("severity"), number("places in A"), number("places in B")];
    let count = |there: bool, count| if there { grouped(count) } else { "-".into() };
    let rows = comparison.findings.iter().map(|pair| {
        let cells = vec![
            plain(&pair.id).into(),
            severity(pair.severity).0.into(),
            count(pair.left.is_some(), pair.left_count),
            count(pair.right.is_some(), pair.right_count),
        ];
        (pair.differs(), cells)
    });
    part("Findings", &columns, rows.collect(), "finding", format)
}

fn regions(comparison: &Comparison, format: &Format) -> String {
    let columns = [
        text("what"),
        text("differs in"),
        text("A").expendable(1),
        number("bytes in A"),
        text("B").expendable(1),
        number("bytes in B"),
    ];
    let rows: Vec<_> = comparison.regions.iter().map(|pair| (!pair.differs.is_empty(), row(pair))).collect();
    let mut text = part("What user mode sees", &columns, rows, "region", format);
    if comparison.regions_left_out > 0 {
        let more = counted(comparison.regions_left_out as u64, "region");
        text.push_str(&format!("  {more} that differ are not listed at all.\n"));
    }
    text
}

fn row(pair: &RegionPair) -> Vec<String> {
    let either = pair.left.as_ref().or(pair.right.as_ref());
    let name = either.and_then(|region| region.name.as_ref());
    let place = |region: &Option<Region>| {
        region.as_ref().map_or(String::new(), |region| {
            format!("{:#x} {}", region.address, rights(&region.rights))
        })
    };
    let bytes = |region: &Option<Region>| {
        let mapped = |region: &Region| region.pages.saturating_mul(region.page_size);
        region.as_ref().map_or("-".into(), |region| grouped(mapped(region)))
    };
    vec![
        name.map_or("?".into(), |name| plain(&name.text).into_owned()),
        pair.differs.iter().map(|aspect| word(*aspect)).collect::<Vec<_>>().join(", "),
        place(&pair.left),
        bytes(&pair.left),
        place(&pair.right),
        bytes(&pair.right),
    ]
}

fn word(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::OnlyLeft => "only in A",
        Aspect::OnlyRight => "only in B",
        Aspect::Rights => "rights",
        Aspect::Bytes => "bytes",
        Aspect::PageSize => "page size",
    }
}
