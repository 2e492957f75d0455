//! The report of made-up audits: what it says, and that it fits.

use console::measure_text_width;
use ringwall_audit::compare;
use ringwall_audit::document::{Audit, Caught, Name, Severity};

use super::{Format, comparison, report, verdict};
use crate::sample;

fn wide() -> Format {
    Format { width: 120, colour: false, all: false }
}

#[test]
fn the_verdict_is_the_first_line() {
    let audit = sample::isolated();
    let text = report(&audit, &wide());
    assert!(text.starts_with("a sample: isolated on both CPUs: "), "{text}");
    assert!(text.contains("show 16,384 bytes (16 KiB) of the kernel."), "{text}");
    assert!(verdict(&audit).ends_with(" No findings."));
}

#[test]
fn without_isolation_it_says_so_and_shows_sums() {
    let audit = sample::shared(300);
    let text = report(&audit, &wide());
    assert!(text.starts_with("a sample: not isolated: "), "{text}");
    assert!(text.contains("1 finding: critical."), "{text}");
    assert!(text.contains("The largest of 300 regions (--all lists them)"), "{text}");
    assert!(text.lines().count() < 60, "{text}");
    let all = report(&audit, &Format { all: true, ..wide() });
    assert!(all.lines().count() > 300);
}

#[test]
fn a_process_that_is_open_is_not_the_whole_machine() {
    let mut audit = sample::shared(300);
    audit.views[0].switched_off = true;
    audit.findings = vec![sample::finding("process-open", Severity::Serious, 1)];
    let text = verdict(&audit);
    assert!(text.contains("isolation is switched off for the process"), "{text}");
}

#[test]
fn cpus_that_see_the_same_share_a_table() {
    let text = report(&sample::isolated(), &wide());
    assert_eq!(text.matches("What user mode sees").count(), 1, "{text}");
    assert!(text.contains("on both CPUs, the same on each"), "{text}");
    assert!(text.contains("CPU 1 was in the kernel"), "{text}");
}

#[test]
fn findings_come_worst_first_with_places_and_a_reference() {
    let mut audit = sample::isolated();
    audit.findings = vec![
        sample::finding("moves-with-kernel", Severity::Note, 1),
        sample::finding("kernel-pointer", Severity::Serious, 9),
    ];
    let text = report(&audit, &wide());
    let (pointer, moves) = (text.find("kernel-pointer"), text.find("moves-with-kernel"));
    assert!(pointer < moves, "{text}");
    assert!(text.contains("and 4 more (--all lists more)"), "{text}");
    assert!(text.contains("see docs/findings.md#kernel-pointer"), "{text}");
}

#[test]
fn every_line_fits_the_terminal() {
    let mut audit = sample::isolated();
    audit.findings = vec![sample::finding("kernel-pointer", Severity::Serious, 9)];
    audit.boots = Some(sample::boots());
    for audit in [audit, sample::shared(300)] {
        for width in [72, 80, 100, 120, 200] {
            for colour in [false, true] {
                let text = report(&audit, &Format { width, colour, all: false });
                for line in text.lines() {
                    assert!(measure_text_width(line) <= width, "{width}: {line}");
                }
                assert_eq!(text.contains('\u{1b}'), colour);
            }
        }
    }
}

#[test]
fn hostile_names_are_harmless() {
    let mut audit = sample::isolated();
    let hostile = "\u{1b}]0;owned\u{7}\u{1b}[2J";
    let region = &mut audit.views[0].visible[0];
    region.name = Some(Name {
        kind: ringwall_audit::document::Kind::Idt,
        text: hostile.into(),
        cpu: None,
        symbol: Some(hostile.into()),
    });
    audit.source = hostile.into();
    audit.findings = vec![sample::finding(hostile, Severity::Note, 1)];
    audit.boots = Some(sample::boots());
    audit.boots.as_mut().expect("just set").bases[0].name = hostile.into();
    let text = report(&audit, &wide());
    assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
}

#[test]
fn an_audit_of_nothing_is_no_panic() {
    let audit = Audit::default();
    assert!(!verdict(&audit).is_empty());
    assert!(!report(&audit, &wide()).is_empty());
}

#[test]
fn what_was_not_looked_at_is_said() {
    let mut audit = sample::isolated();
    let reason = "it has 32-bit page tables".into();
    audit.unseen = vec![ringwall_audit::document::Unseen { index: 2, reason }];
    let text = report(&audit, &wide());
    assert!(text.contains("CPU 2 was not looked at: it has 32-bit page tables."), "{text}");
}

#[test]
fn a_comparison_shows_what_differs_and_counts_the_rest() {
    let (left, right) = (sample::isolated(), sample::shared(60));
    let difference = compare(&left, &right);
    let text = comparison(&left, &right, &difference, &wide());
    assert!(text.starts_with("A: a sample: isolated"), "{text}");
    assert!(text.contains("B: a sample: not isolated"), "{text}");
    assert!(text.contains("kernel-mapped-whole"), "{text}");
    assert!(text.contains("only in A") && text.contains("only in B"), "{text}");
    assert!(text.lines().count() < 40, "{text}");
    let all = comparison(&left, &right, &difference, &Format { all: true, ..wide() });
    assert!(all.lines().count() > 64, "{all}");
    for width in [72, 80, 100] {
        let text = comparison(&left, &right, &difference, &Format { width, ..wide() });
        assert!(text.lines().all(|line| measure_text_width(line) <= width), "{text}");
    }
    let same = comparison(&left, &left, &compare(&left, &left), &wide());
    assert!(
        same.contains("\n0 differences.\n") && same.contains("The same in both: 4 kinds of region"),
        "{same}"
    );
}

#[test]
fn a_cpu_that_idles_in_the_kernel_is_no_verdict() {
    let mut audit = sample::isolated();
    audit.cpus[1].caught = Caught::RootInKernel;
    audit.views[1].kernel_root = None;
    audit.views[1].totals.visible_bytes = 1 << 30;
    assert!(verdict(&audit).starts_with("a sample: isolated on CPU 0: "), "{}", verdict(&audit));
    let text = report(&audit, &wide());
    assert!(!text.contains("1,073,741,824"), "{text}");
    let mut shared = audit.clone();
    shared.cpus[1].view = 0;
    assert!(
        verdict(&shared).starts_with("a sample: isolated on both CPUs: "),
        "{}",
        verdict(&shared)
    );
    assert!(
        text.contains("CPU 1 was in the kernel, on a root that was not seen in ring 3"),
        "{text}"
    );
    audit.cpus.remove(0);
    assert!(verdict(&audit).starts_with("a sample: not known: "), "{}", verdict(&audit));
}

#[test]
fn a_root_without_a_partner_is_not_called_whole() {
    let mut audit = sample::shared(3);
    audit.findings.clear();
    assert!(verdict(&audit).contains("was not found beside them"), "{}", verdict(&audit));
}
