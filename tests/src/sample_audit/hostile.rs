//! Audits that no kernel gives: an enemy's, an empty one, one with very much in it.

use ringwall_audit::document::{Anomaly, AnomalyKind, Audit, Kind, Place, Region, Severity, View};

use super::{PAGE, audit, finding, named, place, region, totals};

/// A guest's strings at their worst.
pub const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\"'&\u{2028}\u{202e}drow\u{0}";

/// Strings and numbers that no kernel has, and an enemy may send.
pub fn hostile() -> Audit {
    let mut last = region(0xffff_ffff_ffff_f000, PAGE, 1, u64::MAX, "rwxug");
    last = named(last, Kind::Data, HOSTILE, Some(u32::MAX));
    let mut odd = region(0xffff_8000_0000_0000, PAGE, u64::MAX, 0, "rw");
    odd.bytes = u64::MAX;
    let outside = region(0x0123_4567_89ab_c000, PAGE, 1, 0, "r");
    let mut bad = finding(
        HOSTILE,
        Severity::Critical,
        HOSTILE,
        vec![place(u64::MAX, 0, Some(0)), place(0, u64::MAX, None)],
    );
    bad.explanation = HOSTILE.into();
    bad.count = u64::MAX;
    bad.places.push(Place {
        view: usize::MAX,
        address: 1,
        bytes: 1,
        value: None,
        note: HOSTILE.into(),
    });
    let anomaly = Anomaly {
        kind: AnomalyKind::Loop,
        level: 4,
        entry_at: 0,
        entry: u64::MAX,
        address: u64::MAX,
    };
    let view = View {
        visible: vec![outside, odd, last],
        anomalies: vec![anomaly; 1000],
        ..View::default()
    };
    let mut audit = audit(HOSTILE, 2, view, vec![bad]);
    audit.cpus[1].view = usize::MAX;
    audit
}

/// Nothing at all: no CPU, no view.
pub fn empty() -> Audit {
    let mut audit = audit("nothing", 0, View::default(), Vec::new());
    audit.views.clear();
    audit
}

/// This many regions of many kinds in each list.
pub fn many(count: u64) -> Audit {
    let list = |start: u64| -> Vec<Region> {
        let texts = ["r", "rw", "rx"];
        let make = |index: u64| {
            let address = start + index * 0x3000 + (index / 1000) * 0x1000_0000;
            let region = region(address, PAGE, 1, index * PAGE, texts[index as usize % 3]);
            if index.is_multiple_of(7) {
                named(region, Kind::Data, &format!("thing {index}"), None)
            } else {
                region
            }
        };
        (0..count).map(make).collect()
    };
    let visible = list(0xffff_8000_0000_0000);
    let totals = totals(&visible, &[], 0);
    let view = View {
        kernel_root: Some(0x1000),
        kernel: list(0xffff_8000_0000_0000),
        user: list(0x1000),
        visible,
        totals,
        ..View::default()
    };
    audit("many", 1, view, Vec::new())
}
