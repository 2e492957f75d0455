//! `docs/audit-schema.md` held against what is really written: field by field, value by value, in both directions.
//!
//! `tests/data/audit.json` is the example of the page, and the proof that today's program reads what an earlier one
//! wrote. `BLESS=1` writes it anew.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ringwall_audit::compare::Aspect;
use ringwall_audit::cpu::Table;
use ringwall_audit::document::{
    Anomaly, AnomalyKind, Audit, BaseMotion, Caught, Filled, Kind, Motion, Region, Severity, Unseen,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{sample, saved};

/// An audit in which every field is there.
fn full() -> Audit {
    let mut audit = sample::isolated();
    audit.unseen = vec![Unseen { index: 2, reason: "paging is off".into() }];
    audit.findings = vec![sample::finding("kernel-pointer", Severity::Serious, 2)];
    audit.boots = Some(sample::boots());
    let cpu = &mut audit.cpus[0].cpu;
    cpu.gs_base = Some(0);
    cpu.kernel_gs_base = Some(0xffff_8880_3fc0_0000);
    cpu.lstar = Some(0xffff_fe00_0000_1040);
    cpu.tss = Table { base: 0xffff_fe00_0000_2080, limit: 0x67 };
    let view = &mut audit.views[0];
    view.unused_user_root = Some(0x1a0_7000);
    view.switched_off = true;
    view.user = vec![Region {
        address: 0x40_0000,
        bytes: 0x2000,
        page_size: 0x1000,
        pages: 2,
        ..Region::default()
    }];
    let stack = &mut view.visible[3];
    stack.repeats = Some(0xffff_fe00_0000_2000);
    let name = stack.name.as_mut().expect("samples have names");
    (name.cpu, name.symbol) = (Some(0), Some("cpu_entry_area+0x3000".into()));
    view.filled = vec![Filled { address: 0xffff_fe00_0000_4f00, bytes: 40 }];
    view.anomalies = vec![Anomaly {
        kind: AnomalyKind::ReservedBit,
        level: 2,
        entry_at: 0x20_0008,
        entry: 0x8008_0000_0010_0063,
        address: 0xffff_fe80_0020_0000,
    }];
    audit
}

fn file(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn page() -> String {
    std::fs::read_to_string(file("../../docs/audit-schema.md")).expect("the page is there")
}

/// The names in the first column of the table under a heading.
fn documented(page: &str, heading: &str) -> BTreeSet<String> {
    let mut lines = page.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading);
    assert!(lines.next().is_some(), "the page has no heading {heading}");
    let rows =
        lines.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let first = rows.filter_map(|row| row.split('|').nth(1).map(str::to_owned));
    let cells: Vec<String> = first.collect();
    cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// The values of [`Aspect`], which is never read and so has no parser.
fn aspects() -> BTreeSet<String> {
    let all =
        [Aspect::OnlyLeft, Aspect::OnlyRight, Aspect::Rights, Aspect::Bytes, Aspect::PageSize];
    let text = |aspect| serde_json::to_value(aspect).expect("JSON").as_str().map(str::to_owned);
    all.into_iter().map(|aspect| text(aspect).expect("a string")).collect()
}

fn fields(value: &Value) -> BTreeSet<String> {
    value.as_object().expect("an object").keys().cloned().collect()
}

/// The values that an enumeration has, in the words of its own parser.
fn values<T: DeserializeOwned>() -> BTreeSet<String> {
    let error = serde_json::from_str::<T>("\"?\"").err().expect("no such value").to_string();
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_field_is_documented_and_no_other() {
    let page = page();
    let audit = serde_json::to_value(full()).expect("JSON");
    let objects = [
        ("Audit", "/"),
        ("CPU", "/cpus/0"),
        ("Registers", "/cpus/0/cpu"),
        ("Table", "/cpus/0/cpu/idt"),
        ("Paging", "/cpus/0/paging"),
        ("Unseen", "/unseen/0"),
        ("View", "/views/0"),
        ("Filled", "/views/0/filled/0"),
        ("Totals", "/views/0/totals"),
        ("Region", "/views/0/visible/3"),
        ("Rights", "/views/0/visible/3/rights"),
        ("Name", "/views/0/visible/3/name"),
        ("Anomaly", "/views/0/anomalies/0"),
        ("Finding", "/findings/0"),
        ("Place", "/findings/0/places/0"),
        ("Boots", "/boots"),
        ("Base", "/boots/bases/0"),
        ("Track", "/boots/tracks/0"),
    ];
    hold(&page, &objects, &audit);
}

#[test]
fn every_field_of_a_comparison_is_documented_and_no_other() {
    let (left, right) = (full(), sample::shared(3));
    let compared = serde_json::to_value(saved::Compared::new(&left, &right)).expect("JSON");
    let objects = [
        ("Two audits", "/"),
        ("Comparison", "/comparison"),
        ("Setting", "/comparison/settings/0"),
        ("Total", "/comparison/totals/0"),
        ("Pair of regions", "/comparison/regions/0"),
        ("Pair of findings", "/comparison/findings/0"),
    ];
    hold(&page(), &objects, &compared);
}

/// Holds headings of the page against the objects at these pointers.
fn hold(page: &str, objects: &[(&str, &str)], value: &Value) {
    for (heading, pointer) in objects {
        let value = value.pointer(pointer.trim_end_matches('/')).expect(pointer);
        assert_eq!(documented(page, heading), fields(value), "left: the page, under {heading}");
    }
}

#[test]
fn every_value_is_documented_and_no_other() {
    let page = page();
    let enumerations = [
        ("Caught", values::<Caught>()),
        ("Kind", values::<Kind>()),
        ("Kind of anomaly", values::<AnomalyKind>()),
        ("Severity", values::<Severity>()),
        ("Motion of a base", values::<BaseMotion>()),
        ("Motion", values::<Motion>()),
        ("Aspect", aspects()),
    ];
    for (heading, values) in enumerations {
        assert!(values.len() > 1, "{heading}: {values:?}");
        assert_eq!(documented(&page, heading), values, "left: the page, under {heading}");
    }
}

#[test]
fn the_golden_file_is_what_is_written_and_is_read_back() {
    let path = file("tests/data/audit.json");
    let text = saved::text(&full()).expect("JSON");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).expect("a place to write to");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file; BLESS=1 makes it");
    assert_eq!(golden, text, "BLESS=1 writes it anew, if the change is meant");
    assert_eq!(saved::read(golden.as_bytes()).expect("it is read"), full());
}
