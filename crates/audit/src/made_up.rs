//! Audits made up by hand, for tests of what is made from them.

use crate::document::{Audit, Finding, Kind, Name, Region, Rights, SCHEMA, Severity, Totals, View};

/// A page that can only be read.
pub fn region(address: u64, kind: Kind, text: &str, cpu: Option<u32>) -> Region {
    Region {
        address,
        bytes: 0x1000,
        physical: address & 0xffff_f000,
        contiguous: true,
        page_size: 0x1000,
        pages: 1,
        rights: Rights::default(),
        repeats: None,
        name: Some(Name { kind, text: text.into(), cpu, symbol: None }),
    }
}

/// What one view shows, of a guest with isolation and no CPU.
pub fn audit(visible: Vec<Region>) -> Audit {
    let visible_bytes = visible.iter().map(|region| region.bytes).sum();
    let totals = Totals { visible_bytes, ..Totals::default() };
    let view =
        View { visible, totals, kernel_root: Some(0x2000), user_root: 0x3000, ..View::default() };
    Audit { schema: SCHEMA, source: "made up".into(), views: vec![view], ..Audit::default() }
}

/// Something wrong.
pub fn finding(id: &str, severity: Severity, count: u64) -> Finding {
    Finding {
        id: id.into(),
        severity,
        title: format!("{count} of {id}"),
        explanation: String::new(),
        reference: String::new(),
        places: Vec::new(),
        count,
    }
}
