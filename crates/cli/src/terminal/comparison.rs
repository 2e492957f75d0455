//! Two audits side by side, differences first.
//!
//! What is the same is counted and not shown, unless everything is asked for: a reader of a comparison looks for what
//! is not.

use std::collections::BTreeMap;

use ringwall_audit::compare::{Aspect, Comparison, RegionPair};
use ringwall_audit::document::{Audit, Name, Region};

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
    let shown: Vec<Vec<String>> = rows
        .into_iter()
        .filter(|(differs, _)| *differs || format.all)
        .map(|(_, row)| row)
        .collect();
    let most = if format.all { usize::MAX } else { ROWS };
    let mut text = format.heading(heading);
    text.push_str(&render(format, columns, &shown[..shown.len().min(most)]));
    if shown.len() > most {
        let cut = grouped((shown.len() - most) as u64);
        text.push_str(&format!("  and {cut} more (--all lists them)\n"));
    }
    if same > 0 && !format.all {
        text.push_str(&format!("  The same in both: {}.\n", plural(same as u64, what)));
    }
    text
}

/// As [`counted`], for words such as `kind of region`.
fn plural(count: u64, what: &str) -> String {
    match what.split_once(' ') {
        Some((noun, rest)) => format!("{} {rest}", counted(count, noun)),
        None => counted(count, what),
    }
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
        text("differs in"),
        number("regions").expendable(1),
        text("rights in A / B").expendable(2),
        number("bytes in A"),
        number("bytes in B"),
        text("what"),
    ];
    let mut groups: Vec<Group> = Vec::new();
    let mut known: BTreeMap<Key, usize> = BTreeMap::new();
    for pair in &comparison.regions {
        let group = Group::new(pair);
        // Of a kernel that is mapped whole there are thousands.
        match known.get(&group.key) {
            Some(&place) if !format.all => groups[place].add(&group),
            _ => {
                known.insert(group.key.clone(), groups.len());
                groups.push(group);
            }
        }
    }
    let rows = groups.into_iter().map(|group| (!group.key.differs.is_empty(), group.cells()));
    let mut text = part("What user mode sees", &columns, rows.collect(), "kind of region", format);
    if comparison.regions_left_out > 0 {
        let more = counted(comparison.regions_left_out as u64, "region");
        text.push_str(&format!("  {more} that differ are not listed at all.\n"));
    }
    text
}

/// What pairs of regions have in common that are told in one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    what: String,
    differs: Vec<Aspect>,
    rights: [String; 2],
}

/// A name without the CPU's number: each CPU has the same, as a rule.
fn of_any_cpu(name: &Name) -> String {
    match name.cpu {
        Some(cpu) => name.text.replacen(&format!(" of CPU {cpu}"), " of a CPU", 1),
        None => name.text.clone(),
    }
}

#[derive(Debug)]
struct Group {
    key: Key,
    regions: u64,
    bytes: [Option<u64>; 2],
}

impl Group {
    fn new(pair: &RegionPair) -> Group {
        let sides = [pair.left.as_ref(), pair.right.as_ref()];
        let name = sides.iter().flatten().find_map(|region| region.name.as_ref());
        let key = Key {
            what: name.map_or("?".into(), |name| plain(&of_any_cpu(name)).into_owned()),
            differs: pair.differs.clone(),
            rights: sides.map(|region| region.map_or("-".into(), |region| rights(&region.rights))),
        };
        let mapped = |region: &Region| region.pages.saturating_mul(region.page_size);
        Group { key, regions: 1, bytes: sides.map(|region| region.map(mapped)) }
    }

    fn add(&mut self, other: &Group) {
        self.regions += other.regions;
        for (sum, bytes) in self.bytes.iter_mut().zip(other.bytes) {
            *sum = sum.map(|sum| sum.saturating_add(bytes.unwrap_or(0)));
        }
    }

    fn cells(self) -> Vec<String> {
        let aspects = self.key.differs.iter().map(|aspect| word(*aspect)).collect::<Vec<_>>();
        let rights = self.key.rights.join(" / ");
        let [left, right] = self.bytes.map(|sum| sum.map_or("-".into(), grouped));
        let regions = grouped(self.regions);
        vec![aspects.join(", "), regions, rights, left, right, self.key.what]
    }
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
