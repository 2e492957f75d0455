//! The exposed set: each page in one place, the flag bits closed, the total what the design says.

use proptest::prelude::*;
use ringwall_core::area::TOP;
use ringwall_core::exposed::{cpu_pages, entry_flags, pages, row, shared_pages, visible_bytes};
use ringwall_core::paging::{
    ACCESSED, ADDRESS_MASK, DIRTY, GLOBAL, HUGE, NO_EXECUTE, PRESENT, USER, WRITABLE,
};
use ringwall_core::{Access, EXPOSED, EntryArea, Exposed, MAX_CPUS, PAGE_SIZE, Page, Scope, View};
use std::collections::HashMap;

fn visible(row: &Exposed) -> bool {
    row.user != Access::Absent
}

#[test]
fn the_table_of_the_design() {
    use Access::{Absent, ReadExecute, ReadOnly, ReadWrite};
    let rows: Vec<_> =
        EXPOSED.iter().map(|r| (r.page, r.scope, r.user, r.kernel, r.split)).collect();
    assert_eq!(
        rows,
        [
            (Page::Text, Scope::Shared, ReadExecute, ReadExecute, true),
            (Page::Idt, Scope::Shared, ReadOnly, ReadOnly, false),
            (Page::OpenText, Scope::Shared, Absent, ReadExecute, false),
            (Page::OpenIdt, Scope::Shared, Absent, ReadOnly, false),
            (Page::Gdt, Scope::PerCpu, ReadOnly, ReadOnly, false),
            (Page::Stack, Scope::PerCpu, ReadWrite, ReadWrite, true),
            (Page::Alias, Scope::PerCpu, Absent, ReadWrite, false),
            (Page::Data, Scope::PerCpu, Absent, ReadWrite, false),
        ]
    );
}

#[test]
fn each_page_has_its_row() {
    for (number, entry) in EXPOSED.iter().enumerate() {
        assert_eq!(row(entry.page), entry);
        assert_eq!(EXPOSED.iter().position(|other| other.page == entry.page), Some(number));
        assert!(!entry.name.is_empty() && !entry.why.is_empty());
        assert!(!entry.split || visible(entry), "a split page is in both views");
    }
}

#[test]
fn sixteen_kibibytes_on_one_cpu() {
    assert_eq!(visible_bytes(0), 8 << 10);
    assert_eq!(visible_bytes(1), 16 << 10);
    assert_eq!(visible_bytes(MAX_CPUS), (8 + 8 * 512) << 10);
}

#[test]
fn flag_bits_are_closed() {
    let leaves = EXPOSED.iter().flat_map(|row| {
        [View::User, View::Kernel]
            .into_iter()
            .flat_map(move |view| [false, true].map(|global| (row, view, global)))
    });
    for (row, view, global) in leaves {
        let Some(bits) = row.flags(view, global) else {
            assert_eq!(row.access(view), Access::Absent);
            continue;
        };
        let what = format!("{} in the {view:?} view: {bits:#x}", row.name);
        assert_eq!(bits & (PRESENT | ACCESSED), PRESENT | ACCESSED, "{what}");
        assert_eq!(bits & (USER | HUGE | ADDRESS_MASK), 0, "{what}");
        assert!(bits & WRITABLE == 0 || bits & NO_EXECUTE != 0, "writable, executable: {what}");
        assert_eq!(bits & WRITABLE != 0, bits & DIRTY != 0, "shadow stack: {what}");
        let may_be_global = visible(row) && !row.split && row.user == row.kernel;
        assert_eq!(row.same_in_both(), may_be_global, "{what}");
        assert_eq!(bits & GLOBAL != 0, global && may_be_global, "{what}");
        let executable = bits & NO_EXECUTE == 0;
        assert_eq!(executable, row.access(view) == Access::ReadExecute, "{what}");
        assert_eq!(bits & !GLOBAL, entry_flags(row.access(view)).unwrap(), "{what}");
    }
    assert_eq!(entry_flags(Access::Absent), None);
}

#[test]
fn only_idt_and_gdt_may_be_global() {
    let pages: Vec<_> = EXPOSED.iter().filter(|r| r.same_in_both()).map(|r| r.page).collect();
    assert_eq!(pages, [Page::Idt, Page::Gdt]);
}

proptest! {
    #[test]
    fn every_page_is_in_exactly_one_place(random: u64, cpus in 1..24usize, first in 0..400usize) {
        let area = EntryArea::choose(random, &TOP).unwrap();
        let mut places = HashMap::new();
        for (addr, row) in shared_pages(area) {
            prop_assert_eq!(row.scope, Scope::Shared);
            prop_assert!(places.insert(addr, row).is_none());
        }
        for index in first..first + cpus {
            let cpu = area.cpu(index).unwrap();
            for (addr, row) in cpu_pages(cpu) {
                prop_assert_eq!(row.scope, Scope::PerCpu);
                prop_assert_eq!(area.describe(addr).unwrap().cpu, Some(index));
                prop_assert!(places.insert(addr, row).is_none());
            }
            let all: Vec<_> = shared_pages(area).chain(cpu_pages(cpu)).collect();
            prop_assert_eq!(pages(area, cpu).collect::<Vec<_>>(), all);
        }
        for (addr, row) in &places {
            prop_assert_eq!(addr % PAGE_SIZE, 0);
            prop_assert_eq!(area.describe(*addr).unwrap().page, row.page);
        }
        let shown = places.values().filter(|row| visible(row)).count() as u64;
        prop_assert_eq!(shown * PAGE_SIZE, visible_bytes(cpus));
        prop_assert_eq!(visible_bytes(cpus), (8 + 8 * cpus as u64) << 10);
    }
}
