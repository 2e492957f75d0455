//! What two guests differ in, and what they have in common, as lines with a left and a right side.
//!
//! [`compare`] says what belongs together and what differs; here it becomes words, so that the scripts only have to
//! write them down.

use ringwall_audit::document::{Audit, Region};
use ringwall_audit::{Comparison, compare};
use serde_json::{Value, json};

use super::inert::visible;

/// Groups of lines, in the order in which they are read: `[group, what, left, right, differs, severity]` each.
pub fn lines(left: &Audit, right: &Audit) -> Value {
    let comparison = compare(left, right);
    let mut lines = settings(&comparison);
    lines.extend(findings(&comparison));
    lines.extend(totals(&comparison));
    lines.extend(regions(&comparison));
    json!({ "lines": lines, "left_out": comparison.regions_left_out })
}

fn settings(comparison: &Comparison) -> Vec<Value> {
    let line = |setting: &ringwall_audit::compare::Setting| {
        let sides = [visible(&setting.left), visible(&setting.right)];
        json!(["Settings", setting.name, sides[0], sides[1], setting.differs, null])
    };
    comparison.settings.iter().map(line).collect()
}

fn findings(comparison: &Comparison) -> Vec<Value> {
    let side = |title: &Option<String>| title.as_deref().map_or("not found".into(), visible);
    let line = |pair: &ringwall_audit::compare::FindingPair| {
        let (left, right) = (side(&pair.left), side(&pair.right));
        json!(["Findings", visible(&pair.id), left, right, pair.differs(), pair.severity])
    };
    comparison.findings.iter().map(line).collect()
}

fn totals(comparison: &Comparison) -> Vec<Value> {
    let line = |total: &ringwall_audit::compare::Total| {
        // Numbers, because the scripts know how sizes are written.
        json!(["Totals", total.name, total.left, total.right, total.differs(), null])
    };
    comparison.totals.iter().map(line).collect()
}

fn regions(comparison: &Comparison) -> Vec<Value> {
    let side = |region: &Option<Region>| {
        let Some(region) = region else { return json!(null) };
        json!([
            region.bytes,
            super::picture::rights(&region.rights),
            super::picture::hex(region.address)
        ])
    };
    let line = |pair: &ringwall_audit::compare::RegionPair| {
        let region = pair.left.as_ref().or(pair.right.as_ref());
        let name = region.and_then(|region| region.name.as_ref());
        let name = name.map_or("not named".into(), |name| visible(&name.text));
        let (left, right) = (side(&pair.left), side(&pair.right));
        json!(["User mode sees", name, left, right, !pair.differs.is_empty(), null])
    };
    comparison.regions.iter().map(line).collect()
}
