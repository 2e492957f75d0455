//! Regions as rows: neighbours that look the same to a reader become one, repeated memory is told once.
//!
//! ```text
//!   ffffff0000001000  4 KiB  r--  espfix     \
//!   ffffff0000011000  4 KiB  again            > two rows: the memory, and all its further addresses
//!   ffffff0000021000  4 KiB  again           /
//! ```
//!
//! Memory is taken for repeated where a region says so, and where the same run of pages stands under the same name
//! again.

use std::collections::{BTreeMap, HashMap};

use ringwall_audit::document::{Kind, Region, Rights};

/// One row: neighbouring regions that differ in nothing a reader cares for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// First address.
    pub address: u64,
    /// Last address.
    pub last: u64,
    /// Bytes that are mapped, holes left out.
    pub bytes: u64,
    /// Number of pages by their size.
    pub pages: BTreeMap<u64, u64>,
    /// Rights of all of it.
    pub rights: Rights,
    /// What kind of thing it is.
    pub kind: Option<Kind>,
    /// What it is, in words; empty if that could not be told.
    pub what: String,
    /// The address under which the same memory was shown before.
    pub repeats: Option<u64>,
    /// Physical address of the first page.
    pub physical: u64,
}

impl Row {
    fn new(region: &Region) -> Row {
        Row {
            address: region.address,
            last: region.last(),
            bytes: region.pages.saturating_mul(region.page_size),
            pages: BTreeMap::from([(region.page_size, region.pages)]),
            rights: region.rights,
            kind: region.name.as_ref().map(|name| name.kind),
            what: what(region),
            repeats: region.repeats,
            physical: region.physical,
        }
    }

    /// Whether `next` can become a part of this row. Addresses of repeated memory need not touch.
    fn takes(&self, next: &Row) -> bool {
        let alike = self.rights == next.rights && self.kind == next.kind && self.what == next.what;
        let touches = self.last.checked_add(1) == Some(next.address);
        match (self.repeats, next.repeats) {
            (None, None) => alike && touches,
            (Some(this), Some(other)) => alike && this == other,
            _ => false,
        }
    }

    fn take(&mut self, next: Row) {
        self.last = next.last;
        self.bytes = self.bytes.saturating_add(next.bytes);
        for (size, count) in next.pages {
            let sum = self.pages.entry(size).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// Pages of any size.
    pub fn page_count(&self) -> u64 {
        self.pages.values().fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// The words for a region: its name, and the symbol where that adds something.
fn what(region: &Region) -> String {
    let Some(name) = &region.name else { return String::new() };
    match &name.symbol {
        Some(symbol) if !name.text.contains(symbol.as_str()) => format!("{} ({symbol})", name.text),
        _ => name.text.clone(),
    }
}

/// The rows of regions, in the same order.
pub fn fold(regions: &[Region]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    // Where memory was shown first: by its physical address, size, rights and name.
    let mut first: HashMap<(u64, u64, Rights, String), u64> = HashMap::new();
    for region in regions {
        let mut next = Row::new(region);
        if region.contiguous && next.repeats.is_none() {
            let key = (region.physical, next.bytes, next.rights, next.what.clone());
            let shown = *first.entry(key).or_insert(next.address);
            next.repeats = (shown != next.address).then_some(shown);
        }
        match rows.last_mut() {
            Some(row) if row.takes(&next) => row.take(next),
            _ => rows.push(next),
        }
    }
    rows
}

/// All rows of one kind and the same rights, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The kind.
    pub kind: Option<Kind>,
    /// The rights.
    pub rights: Rights,
    /// How many rows.
    pub rows: u64,
    /// First address of the first.
    pub address: u64,
    /// Bytes, without memory that repeats.
    pub bytes: u64,
    /// Pages of any size, each address counted.
    pub pages: u64,
}

/// The sums of rows by kind and rights, most bytes first.
pub fn sums(rows: &[Row]) -> Vec<Sum> {
    let mut sums: BTreeMap<(Option<Kind>, Rights), Sum> = BTreeMap::new();
    for row in rows {
        let sum = sums.entry((row.kind, row.rights)).or_insert_with(|| Sum {
            kind: row.kind,
            rights: row.rights,
            rows: 0,
            address: row.address,
            bytes: 0,
            pages: 0,
        });
        sum.rows += 1;
        if row.repeats.is_none() {
            sum.bytes = sum.bytes.saturating_add(row.bytes);
        }
        sum.pages = sum.pages.saturating_add(row.page_count());
    }
    let mut sums: Vec<Sum> = sums.into_values().collect();
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.bytes));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwall_audit::document::Name;

    fn region(address: u64, pages: u64, text: &str) -> Region {
        let name = Name { kind: Kind::Data, text: text.into(), cpu: None, symbol: None };
        Region {
            address,
            bytes: pages * 0x1000,
            physical: address,
            contiguous: true,
            page_size: 0x1000,
            pages,
            name: Some(name),
            ..Region::default()
        }
    }

    #[test]
    fn neighbours_that_look_the_same_are_one_row() {
        let mut large = region(0x20_0000, 1, "data");
        (large.page_size, large.bytes) = (0x20_0000, 0x20_0000);
        let regions = [region(0x1f_e000, 2, "data"), large, region(0x40_0000, 1, "IDT")];
        let rows = fold(&regions);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].address, rows[0].last), (0x1f_e000, 0x3f_ffff));
        assert_eq!(rows[0].pages, BTreeMap::from([(0x1000, 2), (0x20_0000, 1)]));
        assert_eq!((rows[0].bytes, rows[0].page_count()), (0x20_2000, 3));
    }

    #[test]
    fn a_hole_or_other_rights_end_a_row() {
        let mut writable = region(0x2000, 1, "data");
        writable.rights.writable = true;
        let regions = [region(0x1000, 1, "data"), writable, region(0x4000, 1, "data")];
        assert_eq!(fold(&regions).len(), 3);
    }

    #[test]
    fn repeated_memory_is_one_row_though_its_addresses_lie_apart() {
        let again = |address| Region { repeats: Some(0x1000), ..region(address, 1, "espfix") };
        let regions = [region(0x1000, 1, "espfix"), again(0x1_1000), again(0x2_1000)];
        let rows = fold(&regions);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[1].repeats, rows[1].page_count()), (Some(0x1000), 2));
    }

    #[test]
    fn the_same_pages_again_are_repeated_memory() {
        let again = |address| Region { physical: 0x1000, ..region(address, 1, "espfix") };
        let regions = [region(0x1000, 1, "espfix"), again(0x1_1000), again(0x2_1000)];
        let rows = fold(&regions);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[1].repeats, rows[1].page_count()), (Some(0x1000), 2));
        let other = Region { physical: 0x1000, ..region(0x1_1000, 1, "TSS") };
        assert_eq!(fold(&[region(0x1000, 1, "espfix"), other])[1].repeats, None);
    }

    #[test]
    fn the_last_page_of_all_does_not_overflow() {
        let rows = fold(&[region(0xffff_ffff_ffff_f000, 1, "a"), region(0, 1, "a")]);
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn sums_are_by_kind_and_rights() {
        let rows = fold(&[region(0x1000, 1, "a"), region(0x8000, 4, "b"), region(0x4000, 1, "a")]);
        let sums = sums(&rows);
        assert_eq!(sums.len(), 1);
        assert_eq!((sums[0].rows, sums[0].bytes, sums[0].pages), (3, 0x6000, 6));
    }
}
