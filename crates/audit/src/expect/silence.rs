//! What expectations must not pass over in silence.

use super::tests::{BASE, SOUND, expectations, sound};
use crate::document::{Filled, Place, Severity, View};
use crate::made_up::finding;

/// Identifiers of what is left when these findings are held against `text`.
fn left(text: &str, id: &str, severity: Severity, places: &[u64]) -> usize {
    let mut audit = sound();
    let place = |address: &u64| Place {
        view: 0,
        address: *address,
        bytes: 0x1000,
        value: None,
        note: String::new(),
    };
    let places: Vec<Place> = places.iter().map(place).collect();
    let finding = finding(id, severity, places.len().max(1) as u64);
    audit.findings = vec![crate::document::Finding { places, ..finding }];
    expectations(text).apply(&mut audit);
    audit.findings.len()
}

#[test]
fn an_accepted_finding_covers_nothing_graver_under_the_same_name() {
    let accept = |more| {
        format!(
            "{SOUND}\n[[accept]]\nfinding = \"global-supervisor-page\"\nreason = \"alike\"\n{more}"
        )
    };
    let left = |more, severity| left(&accept(more), "global-supervisor-page", severity, &[]);
    assert_eq!([left("", Severity::Note), left("", Severity::Serious)], [0, 1]);
    assert_eq!(left("severity = \"serious\"", Severity::Serious), 0);
    assert_eq!(left("severity = \"note\"", Severity::Warning), 1);
}

#[test]
fn declared_pages_excuse_nothing_that_the_two_roots_do_together() {
    let left = |id, severity| left(SOUND, id, severity, &[BASE + 0x1000]);
    assert_eq!(left("global-supervisor-page", Severity::Note), 0, "the IDT may be global");
    assert_eq!(left("global-supervisor-page", Severity::Serious), 1, "but not two pages as one");
    assert_eq!(left("kernel-half-user-accessible", Severity::Serious), 1, "in the kernel's root");
}

#[test]
fn what_was_not_looked_at_is_not_taken_for_zero() {
    let mut audit = sound();
    let elsewhere = |index| Filled { address: BASE + 16 * index, bytes: 1 };
    audit.views[0].filled = (0..View::FILLED as u64).map(elsewhere).collect();
    expectations(SOUND).apply(&mut audit);
    let notes: Vec<&str> = audit.findings[0].places.iter().map(|place| &*place.note).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].ends_with("more is not zero than is listed"), "{notes:?}");

    let text = SOUND.replace("rights = \"r-x\"", "rights = \"r-x\"\ncontents = \"zero\"");
    let mut audit = sound();
    expectations(&text).apply(&mut audit);
    assert!(audit.findings[0].places[0].note.ends_with("executable pages are not looked at"));
}
