//! Tests of the comparison, on audits made up by hand.

use super::*;
use crate::document::Kind;
use crate::made_up::{audit, finding, region};

#[test]
fn what_is_elsewhere_is_no_difference() {
    let there = |base: u64| {
        audit(vec![
            region(base, Kind::Idt, "IDT", None),
            region(base + 0x9000, Kind::EntryStack, "entry stack of CPU 0", Some(0)),
            region(base + 0x2000, Kind::EntryStack, "entry stack of CPU 1", Some(1)),
        ])
    };
    let comparison = compare(&there(0xffff_fe00_0000_0000), &there(0xffff_ffff_8123_4000));
    assert_eq!(comparison.differences, 0, "{comparison:#?}");
    assert_eq!(comparison.regions.len(), 3);
    for pair in &comparison.regions {
        let name = |region: &Option<Region>| region.as_ref().and_then(|region| region.name.clone());
        assert_eq!(name(&pair.left), name(&pair.right));
    }
}

#[test]
fn differences_come_first_and_say_what_they_are() {
    let idt = region(0x1000, Kind::Idt, "IDT", None);
    let mut writable = region(0x5000, Kind::Idt, "IDT", None);
    writable.rights.writable = true;
    let mut longer = region(0x9000, Kind::EntryText, "entry_SYSCALL_64", None);
    let shorter = Region { address: 0x100, ..longer.clone() };
    longer.bytes = 0x20_0000;
    longer.page_size = 0x20_0000;
    let same = region(0, Kind::Gdt, "GDT of CPU 0", Some(0));
    let only = region(0xf000, Kind::TaskStack, "a task's stack", None);

    let left = audit(vec![same.clone(), idt, shorter]);
    let right = audit(vec![same, writable, longer, only.clone()]);
    let comparison = compare(&left, &right);
    let differs: Vec<_> = comparison.regions.iter().map(|pair| pair.differs.clone()).collect();
    assert_eq!(comparison.regions.len(), 4);
    assert!(differs[..3].contains(&vec![Aspect::Rights]), "{differs:?}");
    assert!(differs[..3].contains(&vec![Aspect::Bytes, Aspect::PageSize]), "{differs:?}");
    assert!(differs[..3].contains(&vec![Aspect::OnlyRight]), "{differs:?}");
    assert!(differs[3].is_empty(), "{differs:?}");
    // Three regions, and the sum of the visible bytes.
    assert_eq!(comparison.differences, 4);
    assert_eq!(
        (comparison.totals[0].name, comparison.totals[0].differs()),
        ("visible bytes", true)
    );

    let back = compare(&right, &left);
    assert!(
        back.regions
            .iter()
            .any(|pair| pair.differs == [Aspect::OnlyLeft] && pair.left.as_ref() == Some(&only))
    );
}

#[test]
fn symbols_on_one_side_do_not_tear_a_pair_apart() {
    let left = audit(vec![region(0x1000, Kind::EntryText, "entry text", None)]);
    let right = audit(vec![region(0x5000, Kind::EntryText, "entry_SYSCALL_64", None)]);
    assert_eq!(compare(&left, &right).differences, 0);
}

#[test]
fn what_has_no_name_is_matched_by_place_and_then_by_shape() {
    let unnamed = |address| Region { name: None, ..region(address, Kind::Data, "", None) };
    let mut executable = unnamed(0x7000);
    executable.rights.executable = true;
    let left = audit(vec![unnamed(0x1000), unnamed(0x3000), executable.clone()]);
    let moved = Region { address: 0x9000, ..executable };
    let right = audit(vec![unnamed(0x3000), unnamed(0x8000), moved]);
    let comparison = compare(&left, &right);
    assert_eq!(comparison.differences, 0, "{comparison:#?}");
    let places = comparison.regions.iter().map(|pair| {
        let address = |region: &Option<Region>| region.as_ref().map(|region| region.address);
        (address(&pair.left), address(&pair.right))
    });
    let places: Vec<_> = places.collect();
    assert!(places.contains(&(Some(0x3000), Some(0x3000))), "{places:x?}");
}

#[test]
fn memory_that_several_views_or_addresses_show_is_one_region() {
    let mut left = audit(vec![region(0x1000, Kind::Espfix, "espfix stack", Some(0))]);
    let again =
        Region { address: 0x9000, repeats: Some(0x1000), ..left.views[0].visible[0].clone() };
    left.views.push(left.views[0].clone());
    left.views[1].visible.push(again);
    let right = audit(vec![region(0x1000, Kind::Espfix, "espfix stack", Some(0))]);
    assert_eq!(compare(&left, &right).regions.len(), 1);
}

#[test]
fn findings_of_one_side_come_first_then_the_worst() {
    let mut left = audit(Vec::new());
    let mut right = audit(Vec::new());
    left.findings = vec![
        finding("kernel-mapped-whole", Severity::Critical, 1),
        finding("kernel-pointer", Severity::Serious, 4),
    ];
    right.findings = vec![
        finding("kernel-mapped-whole", Severity::Critical, 1),
        finding("kernel-pointer", Severity::Serious, 5),
        finding("global-supervisor-page", Severity::Warning, 2),
    ];
    let pairs = compare(&left, &right).findings;
    let ids: Vec<_> = pairs.iter().map(|pair| (&*pair.id, pair.differs())).collect();
    let expected = [
        ("kernel-pointer", true),
        ("global-supervisor-page", true),
        ("kernel-mapped-whole", false),
    ];
    assert_eq!(ids, expected);
    assert_eq!((pairs[0].left_count, pairs[0].right_count), (4, 5));
    assert_eq!((pairs[1].left.as_deref(), pairs[1].left_count), (None, 0));
}

#[test]
fn isolation_on_and_off_is_a_setting_that_differs() {
    let left = audit(Vec::new());
    let mut right = audit(Vec::new());
    right.views[0].kernel_root = None;
    let comparison = compare(&left, &right);
    let expected =
        Setting { name: "isolation", left: "on".into(), right: "off".into(), differs: true };
    assert_eq!(comparison.settings[0], expected);
    assert_eq!(comparison.differences, 1);
}

#[test]
fn thousands_of_regions_are_counted_and_not_all_listed() {
    let many = 3 * Comparison::REGIONS as u64;
    let unnamed = |index: u64| Region {
        name: None,
        ..region(0xffff_8000_0000_0000 + index * 0x2000, Kind::Data, "", None)
    };
    let left = audit((0..many).map(unnamed).collect());
    let comparison = compare(&left, &audit(Vec::new()));
    assert_eq!(comparison.regions.len(), Comparison::REGIONS);
    assert_eq!(comparison.regions_left_out, many as usize - Comparison::REGIONS);
    assert_eq!(comparison.differences, many as usize + 1);
}
