//! Many regions made few, so that a page stays small whatever the guest's tables hold.
//!
//! Neighbours of the same kind with the same rights that lie in one naturally aligned window become one row; the
//! window grows from 4 KiB by factors of two until few enough rows are left. If even the whole address space is not
//! enough, rows of different kinds are put together in the same way. A row knows how many regions it stands for.

use ringwall_audit::document::Region;

/// Most rows of all lists of a page together: about 6 MB of data.
pub const BUDGET: usize = 60_000;

/// One region, or several neighbours.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The first of them.
    pub region: &'a Region,
    /// Last address of the last of them.
    pub last: u64,
    /// Bytes that are mapped, without the holes between them.
    pub mapped: u64,
    /// Pages.
    pub pages: u64,
    /// How many there are.
    pub parts: u64,
    /// Whether they differ in kind or rights: then those of the first say nothing of the others.
    pub mixed: bool,
}

impl<'a> Row<'a> {
    fn of(region: &'a Region) -> Row<'a> {
        let last = region.address.saturating_add(region.bytes.saturating_sub(1));
        let (mapped, pages) = (region.bytes, region.pages);
        Row { region, last, mapped, pages, parts: 1, mixed: false }
    }

    fn like(&self, other: &Row) -> bool {
        let kind = |row: &Row| row.region.name.as_ref().map(|name| name.kind);
        let repeats = |row: &Row| row.region.repeats.is_some();
        (kind(self), self.region.rights, repeats(self))
            == (kind(other), other.region.rights, repeats(other))
    }

    fn join(&mut self, next: &Row) {
        self.mixed |= next.mixed || !self.like(next);
        self.last = self.last.max(next.last);
        self.mapped = self.mapped.saturating_add(next.mapped);
        self.pages = self.pages.saturating_add(next.pages);
        self.parts += next.parts;
    }
}

/// Puts neighbours together until at most `limit` rows are left (at least one is).
pub fn fold(regions: &[Region], limit: usize) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = regions.iter().map(Row::of).collect();
    rows.sort_by_key(|row| row.region.address);
    let limit = limit.max(1);
    for mix in [false, true] {
        for window in 12..=64 {
            if rows.len() <= limit {
                return rows;
            }
            rows = pass(rows, window, mix);
        }
    }
    rows
}

/// Joins what lies in one window of two to the power of `window` bytes.
fn pass(rows: Vec<Row>, window: u32, mix: bool) -> Vec<Row> {
    let place = |row: &Row| row.region.address.checked_shr(window).unwrap_or(0);
    let mut joined: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        match joined.last_mut() {
            Some(last) if place(last) == place(&row) && (mix || last.like(&row)) => last.join(&row),
            _ => joined.push(row),
        }
    }
    joined
}

/// How many rows each list may have: all of it if it is short, an equal share of the rest if not.
pub fn shares(lengths: &[usize], budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let (mut left, mut shares) = (budget, vec![0; lengths.len()]);
    for (done, &index) in order.iter().enumerate() {
        shares[index] = lengths[index].min(left / (order.len() - done));
        left -= shares[index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwall_audit::document::{Kind, Name, Rights};

    fn regions(count: u64) -> Vec<Region> {
        let region = |index: u64| Region {
            address: 0xffff_8000_0000_0000 + index * 0x3000,
            bytes: 0x1000,
            page_size: 0x1000,
            pages: 1,
            rights: Rights { writable: index.is_multiple_of(2), ..Rights::default() },
            name: index.is_multiple_of(3).then(|| Name {
                kind: Kind::Data,
                text: format!("{index}"),
                cpu: None,
                symbol: None,
            }),
            ..Region::default()
        };
        (0..count).map(region).collect()
    }

    #[test]
    fn a_short_list_stays_as_it_is() {
        let regions = regions(100);
        let rows = fold(&regions, 100);
        assert_eq!(rows.len(), 100);
        assert!(rows.iter().all(|row| row.parts == 1 && !row.mixed));
    }

    #[test]
    fn a_long_list_loses_rows_but_nothing_else() {
        let regions = regions(100_000);
        let rows = fold(&regions, 1000);
        assert!(rows.len() <= 1000 && rows.len() > 100, "{}", rows.len());
        assert_eq!(rows.iter().map(|row| row.parts).sum::<u64>(), 100_000);
        assert_eq!(rows.iter().map(|row| row.mapped).sum::<u64>(), 100_000 * 0x1000);
        assert!(rows.windows(2).all(|pair| pair[0].last < pair[1].region.address));
    }

    #[test]
    fn numbers_at_their_ends_do_no_harm() {
        let mut regions = regions(3);
        regions[0].bytes = 0;
        regions[1].bytes = u64::MAX;
        regions[2].address = 0xffff_ffff_ffff_f000;
        assert_eq!(fold(&regions, 0).len(), 1);
        assert_eq!(fold(&[], 0).len(), 0);
    }

    #[test]
    fn short_lists_leave_their_share_to_long_ones() {
        assert_eq!(shares(&[10, 1000, 0, 1000], 110), [10, 50, 0, 50]);
        assert_eq!(shares(&[], 5), [0; 0]);
    }
}
