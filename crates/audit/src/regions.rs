//! From the walk's runs to the document's regions, and sums over them.

use crate::document::{Region, Rights};
use crate::walk::Run;

/// Pages of a run that is worth a line of its own in a coarse list, though its neighbour has the same rights.
const LONG: u64 = 64;

/// How runs become regions, and at most how many.
pub type Merge = fn(&[Run], usize) -> Listed;

/// Regions, as many as were wanted.
#[derive(Debug, Default)]
pub struct Listed {
    /// The first of them.
    pub regions: Vec<Region>,
    /// Where the first is that found no room.
    pub left_out: Option<u64>,
}

/// A region for each run, at most `limit` of them.
pub fn exact(runs: &[Run], limit: usize) -> Listed {
    let regions = runs.iter().take(limit).map(Run::region).collect();
    Listed { regions, left_out: runs.get(limit).map(|run| run.address) }
}

/// A region for neighbours with the same rights and size, wherever they are in physical memory, at most `limit` of
/// them. Long contiguous ones, such as parts of a linear map, stay alone.
pub fn coarse(runs: &[Run], limit: usize) -> Listed {
    let mut regions: Vec<Region> = Vec::new();
    for run in runs {
        let region = run.region();
        let is_full = regions.len() == limit;
        match regions.last_mut() {
            Some(last) if belongs(last, &region) => {
                last.bytes += region.bytes;
                last.pages += region.pages;
                last.contiguous = false;
            }
            _ if is_full => return Listed { regions, left_out: Some(run.address) },
            _ => regions.push(region),
        }
    }
    Listed { regions, left_out: None }
}

fn belongs(last: &Region, next: &Region) -> bool {
    let long = |region: &Region| region.contiguous && region.pages >= LONG;
    last.address.wrapping_add(last.bytes) == next.address
        && (last.rights, last.page_size) == (next.rights, next.page_size)
        && last.repeats.is_none()
        && next.repeats.is_none()
        && !long(last)
        && !long(next)
}

/// Bytes of physical memory behind the runs whose rights are `wanted`; memory under several addresses counts once.
pub fn distinct_bytes(runs: &[Run], wanted: fn(&Rights) -> bool) -> u64 {
    let shown = runs.iter().filter(|run| run.repeats.is_none() && wanted(&run.rights));
    let mut ranges: Vec<(u64, u64)> =
        shown.map(|run| (run.physical, run.physical + run.bytes)).collect();
    ranges.sort_unstable();
    let (mut sum, mut counted_to) = (0, 0);
    for (start, end) in ranges {
        sum += end.saturating_sub(start.max(counted_to));
        counted_to = counted_to.max(end);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(address: u64, physical: u64, pages: u64) -> Run {
        let (bytes, page_size) = (pages << 12, 1 << 12);
        Run { address, bytes, physical, pages, page_size, rights: Rights::default(), repeats: None }
    }

    #[test]
    fn scattered_neighbours_are_one_coarse_region() {
        let runs = [run(0x1000, 0x9000, 2), run(0x3000, 0x5000, 1), run(0x5000, 0, 1)];
        let regions = coarse(&runs, 9).regions;
        let lines: Vec<_> = regions.iter().map(|r| (r.address, r.pages, r.contiguous)).collect();
        assert_eq!(lines, [(0x1000, 3, false), (0x5000, 1, true)]);
    }

    #[test]
    fn a_linear_map_stays_alone() {
        let runs = [run(0x1000, 0x9000, 1), run(0x2000, 0x10_0000, LONG)];
        assert_eq!(coarse(&runs, 9).regions.len(), 2);
    }

    #[test]
    fn what_finds_no_room_is_told() {
        let runs = [run(0x1000, 0, 1), run(0x2000, 0x9000, 1), run(0x8000, 0, 1)];
        let list = |merge: Merge, limit| {
            let listed = merge(&runs, limit);
            (listed.regions.len(), listed.left_out)
        };
        assert_eq!([list(exact, 3), list(exact, 2)], [(3, None), (2, Some(0x8000))]);
        assert_eq!([list(coarse, 2), list(coarse, 1)], [(2, None), (1, Some(0x8000))]);
        assert_eq!([list(exact, 0), list(coarse, 0)], [(0, Some(0x1000)); 2]);
    }

    #[test]
    fn memory_counts_once() {
        let again = Run { repeats: Some(0), ..run(0x9000, 0x70_0000, 1) };
        let runs = [run(0, 0x3000, 4), run(0x5000, 0x1000, 3), run(0x8000, 0x4000, 1), again];
        assert_eq!(distinct_bytes(&runs, |_| true), 0x6000);
        assert_eq!(distinct_bytes(&runs, |rights| rights.writable), 0);
    }
}
