//! What the page's scripts draw, made from audits: `page/data.js` is the other end of this.
//!
//! A region is an array, not an object, and its name an index into a list: names repeat a lot, and there may be tens
//! of thousands of regions. Addresses are hexadecimal strings because JavaScript's numbers lose their low bits.

use std::collections::HashMap;

use ringwall_audit::document::{Audit, Finding, Name, Region, Rights, View};
use serde_json::{Value, json};

use super::differences;
use super::fold::{self, Row};
use super::inert::visible;

/// Most views, CPUs, findings, malformed entries and boots that the page holds.
const MOST: usize = 256;

/// Everything on the page.
pub fn picture(audit: &Audit, against: Option<&Audit>) -> Value {
    let audits: Vec<&Audit> = std::iter::once(audit).chain(against).collect();
    let lists: Vec<&[Region]> =
        audits.iter().flat_map(|audit| views(audit)).flat_map(lists).collect();
    let lengths: Vec<usize> = lists.iter().map(|list| list.len()).collect();
    let mut shares = fold::shares(&lengths, fold::BUDGET).into_iter();
    let guests: Vec<Value> = audits.iter().map(|audit| guest(audit, &mut shares)).collect();
    let differences = against.map(|against| differences::lines(audit, against));
    json!({ "guests": guests, "differences": differences })
}

fn views(audit: &Audit) -> &[View] {
    &audit.views[..audit.views.len().min(MOST)]
}

fn lists(view: &View) -> [&[Region]; 3] {
    [&view.visible, &view.user, &view.kernel]
}

fn guest(audit: &Audit, shares: &mut impl Iterator<Item = usize>) -> Value {
    let mut names = Names::default();
    let views: Vec<Value> = views(audit)
        .iter()
        .map(|view| {
            let [visible, user, kernel] = lists(view).map(|list| {
                let rows = fold::fold(list, shares.next().unwrap_or(0));
                let rows: Vec<Value> = rows.iter().map(|row| region(row, &mut names)).collect();
                json!({ "count": list.len(), "rows": rows })
            });
            let anomalies = &view.anomalies[..view.anomalies.len().min(MOST)];
            json!({
                "user_root": hex(view.user_root), "kernel_root": view.kernel_root.map(hex),
                "unused_user_root": view.unused_user_root.map(hex), "filled": filled(view),
                "totals": view.totals, "visible": visible, "user": user, "kernel": kernel,
                "anomalies": { "count": view.anomalies.len(), "rows": anomalies },
            })
        })
        .collect();
    let findings: Vec<Value> = audit.findings.iter().take(MOST).map(finding).collect();
    let unseen = audit.unseen.iter().take(MOST);
    let unseen: Vec<Value> = unseen.map(|cpu| json!([cpu.index, visible(&cpu.reason)])).collect();
    let cpus = &audit.cpus[..audit.cpus.len().min(MOST)];
    json!({
        "tool": visible(&audit.tool), "source": visible(&audit.source), "schema": audit.schema,
        "unseen": unseen, "cpus": cpus, "views": views, "names": names.list, "boots": boots(audit),
        "findings": { "count": audit.findings.len(), "rows": findings },
    })
}

/// `[address, last, mapped, pages, page size, physical, contiguous, rights, name, repeats, parts, mixed]`
fn region<'a>(row: &Row<'a>, names: &mut Names<'a>) -> Value {
    let Row { region, last, mapped, pages, parts, mixed } = row;
    json!([
        hex(region.address),
        hex(*last),
        mapped,
        pages,
        region.page_size,
        hex(region.physical),
        u8::from(region.contiguous && *parts == 1),
        rights(&region.rights),
        region.name.as_ref().map(|name| names.index(name)),
        region.repeats.map(hex),
        parts,
        u8::from(*mixed),
    ])
}

/// One number: user, writable, executable, global from bit 0, the key from bit 4.
pub fn rights(rights: &Rights) -> u8 {
    let flags = [rights.user, rights.writable, rights.executable, rights.global];
    let bits = flags.iter().rev().fold(0, |bits, &flag| bits << 1 | u8::from(flag));
    bits | (rights.key & 15) << 4
}

fn finding(finding: &Finding) -> Value {
    let places: Vec<Value> = finding
        .places
        .iter()
        .take(Finding::PLACES)
        .map(|place| {
            let value = place.value.map(hex);
            json!([place.view, hex(place.address), place.bytes, value, visible(&place.note)])
        })
        .collect();
    json!({
        "id": visible(&finding.id), "severity": finding.severity, "count": finding.count,
        "title": visible(&finding.title), "reference": visible(&finding.reference),
        // Ours, not the guest's, and longer than a name.
        "explanation": finding.explanation.chars().take(4000).collect::<String>(),
        "places": places,
    })
}

fn boots(audit: &Audit) -> Option<Value> {
    let boots = audit.boots.as_ref()?;
    let bases = boots.bases.iter().take(MOST).map(|base| {
        json!({
            "name": visible(&base.name), "addresses": texts(&base.addresses), "motion": base.motion,
            "bits_seen": base.bits_seen, "bits_estimated": base.bits_estimated,
        })
    });
    let tracks = boots.tracks.iter().take(MOST).map(|track| {
        json!({
            "name": visible(&track.name), "addresses": texts(&track.addresses), "bits": track.bits,
            "moves_with": track.moves_with.as_deref().map(visible), "motion": track.motion,
        })
    });
    let (bases, tracks): (Vec<Value>, Vec<Value>) = (bases.collect(), tracks.collect());
    Some(json!({ "boots": boots.boots, "bases": bases, "tracks": tracks }))
}

/// `[address, bytes]` of what is not zero.
fn filled(view: &View) -> Vec<Value> {
    let stretches = view.filled.iter().take(View::FILLED);
    stretches.map(|stretch| json!([hex(stretch.address), stretch.bytes])).collect()
}

fn texts(addresses: &[Option<String>]) -> Vec<Option<String>> {
    let address = |address: &Option<String>| address.as_deref().map(visible);
    addresses.iter().take(MOST).map(address).collect()
}

/// An address, for `BigInt`.
pub fn hex(value: u64) -> String {
    format!("{value:x}")
}

/// Text, symbol, CPU, kind.
type Key<'a> = (&'a str, Option<&'a str>, Option<u32>, u8);

/// The different names, in the order in which they were met.
#[derive(Default)]
struct Names<'a> {
    list: Vec<Value>,
    known: HashMap<Key<'a>, usize>,
}

impl<'a> Names<'a> {
    fn index(&mut self, name: &'a Name) -> usize {
        let key = (name.text.as_str(), name.symbol.as_deref(), name.cpu, name.kind as u8);
        *self.known.entry(key).or_insert_with(|| {
            self.list.push(json!({
                "kind": name.kind, "text": visible(&name.text), "cpu": name.cpu,
                "symbol": name.symbol.as_deref().map(visible),
            }));
            self.list.len() - 1
        })
    }
}
