//! The findings, worst first: what, why it matters, where, and where to read on.

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
    for (number, finding) in findings.iter().enumerate() {
        if number > 0 {
            text.push('\n');
        }
        text.push_str(&one(audit, finding, format));
    }
    text
}

fn one(audit: &Audit, finding: &Finding, format: &Format) -> String {
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
    if !finding.explanation.is_empty() && finding.explanation != finding.title {
        line(&plain(&finding.explanation), "    ");
    }
    let shown = if format.all { finding.places.len() } else { PLACES.min(finding.places.len()) };
    for place in &finding.places[..shown] {
        line(&plain(&words(audit, place)), "      ");
    }
    let more = finding.count.max(finding.places.len() as u64) - shown as u64;
    if more > 0 && shown > 0 {
        let how = if shown < finding.places.len() { " (--all lists more)" } else { "" };
        line(&format!("and {} more{how}", grouped(more)), "      ");
    }
    line(&format!("see {}", plain(&finding.reference)), "    ");
    text
}

fn words(audit: &Audit, place: &Place) -> String {
    let mut text = format!("{:#x}", place.address);
    if let Some(value) = place.value {
        text.push_str(&format!(" holds {value:#x}"));
    } else if place.bytes > 0 {
        text.push_str(&format!(", {} bytes", grouped(place.bytes)));
    }
    if !place.note.is_empty() {
        text.push_str(&format!(": {}", place.note));
    }
    if audit.views.len() > 1 {
        let cpus = audit.cpus.iter().filter(|cpu| cpu.view == place.view);
        let cpus: Vec<u32> = cpus.map(|cpu| cpu.cpu.index).collect();
        if !cpus.is_empty() {
            text.push_str(&format!(" (on {})", named(&cpus)));
        }
    }
    text
}
