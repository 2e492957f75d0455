//! The findings, worst first: what, why it matters, where, and where to read on.

use std::collections::{HashMap, HashSet};

use ringwall_audit::document::{Audit, Finding, Place};

use super::cpus::named;
use super::format::{Format, grouped, plain, severity};

/// How many places are shown, unless all are asked for.
const PLACES: usize = 5;

/// All findings; empty text without any.
pub fn section(audit: &Audit, format: &Format) -> String {
    if audit.findings.is_empty() {
        return String::new();
    }
    let mut findings: Vec<&Finding> = audit.findings.iter().collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut text = format.heading(&format!("Findings: {}", findings.len()));
    let mut explained = HashSet::new();
    for (number, finding) in findings.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        let explain = explained.insert(&finding.explanation);
        text.push_str(&one(audit, finding, explain, format));
    }
    text
}

fn one(audit: &Audit, finding: &Finding, explain: bool, format: &Format) -> String {
    let (word, style) = severity(finding.severity);
    let mut text = format!(
        "  {}  {}\n",
        format.paint(style, word),
        format.paint(console::Style::new().bold(), &plain(&finding.id))
    );
    let mut line = |words: &str, indent: &str| {
        text.push_str(&format!("{}\n", format.prose(words, indent)));
    };
    line(&plain(&finding.title), "    ");
    // Several findings may be of one kind; once is enough.
    if explain && finding.explanation != finding.title {
        line(&plain(&finding.explanation), "    ");
    }
    let places = together(&finding.places);
    let shown = if format.all { places.len() } else { PLACES.min(places.len()) };
    for (place, views) in &places[..shown] {
        line(&plain(&words(audit, place, views)), "      ");
    }
    let told: usize = places[..shown].iter().map(|(_, views)| views.len()).sum();
    let more = if finding.count > finding.places.len() as u64 {
        finding.count.saturating_sub(told as u64)
    } else {
        (places.len() - shown) as u64
    };
    if more > 0 && shown > 0 {
        let how = if shown < places.len() { " (--all lists more)" } else { "" };
        line(&format!("and {} more{how}", grouped(more)), "      ");
    }
    line(&format!("see {}", plain(&finding.reference)), "    ");
    text
}

/// Places that differ only in the view, with all the views.
fn together(places: &[Place]) -> Vec<(&Place, Vec<usize>)> {
    let mut groups: Vec<(&Place, Vec<usize>)> = Vec::new();
    let mut known = HashMap::new();
    for place in places {
        let key = (place.address, place.bytes, place.value, &place.note);
        let group = *known.entry(key).or_insert_with(|| {
            groups.push((place, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(place.view);
    }
    groups
}

fn words(audit: &Audit, place: &Place, views: &[usize]) -> String {
    let mut text = format!("{:#x}", place.address);
    if let Some(value) = place.value {
        text.push_str(&format!(" holds {value:#x}"));
    } else if place.bytes > 1 {
        text.push_str(&format!(", {} bytes", grouped(place.bytes)));
    }
    if !place.note.is_empty() {
        text.push_str(&format!(": {}", place.note));
    }
    let cpus = audit.cpus.iter().filter(|cpu| views.contains(&cpu.view));
    let cpus: Vec<u32> = cpus.map(|cpu| cpu.cpu.index).collect();
    if !cpus.is_empty() && cpus.len() < audit.cpus.len() {
        text.push_str(&format!(" (on {})", named(&cpus)));
    }
    text
}
