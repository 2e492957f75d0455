//! Which physical addresses are memory, from HMP's `info mtree -f`.
//!
//! QEMU prints one listing ("flat view") per set of address spaces that look the same. The CPUs' own is the one named
//! `memory`. In it, `ram` and `rom` can be read without anybody noticing; everything else is a device, and reading a
//! device may change it.
//!
//! ```text
//!   0000000000100000-000000003fffffff (prio 0, ram): pc.ram @0000000000100000
//!   first address    last address           kind    name    offset in it
//! ```

use crate::Error;

/// Physical addresses that one piece of memory stands at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// QEMU's name of the piece: `pc.ram`, or the name of a memory backend.
    pub name: String,
    /// Where in the piece the first address is.
    pub offset: u64,
}

/// More ranges than any machine has.
const MOST_RANGES: usize = 4096;
/// More lines than the listing of any machine has.
const MOST_LINES: usize = 1 << 20;

impl MemoryRange {
    /// The ranges in the text that `info mtree -f` prints, in ascending order, none overlapping.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] if there is no such listing, or it holds no memory.
    pub fn parse_all(text: &str) -> Result<Vec<MemoryRange>, Error> {
        parse(text)
    }
}

fn parse(text: &str) -> Result<Vec<MemoryRange>, Error> {
    let unreadable = |missing| Error::unreadable("info mtree -f", missing, text);
    let mut ranges = Vec::new();
    let mut inside = false;
    for line in text.lines().take(MOST_LINES).map(str::trim) {
        if line.starts_with("FlatView ") {
            if inside {
                break;
            }
        } else if line.starts_with("AS \"memory\"") {
            inside = true;
        } else if inside {
            ranges.extend(range(line));
        }
        if ranges.len() > MOST_RANGES {
            return Err(unreadable("end"));
        }
    }
    ranges.sort_by_key(|range: &MemoryRange| range.start);
    let overlap = ranges.windows(2).any(|pair| pair[0].end > pair[1].start);
    match (overlap, ranges.is_empty()) {
        (true, _) => Err(unreadable("order")),
        (_, true) => Err(unreadable("memory")),
        _ => Ok(ranges),
    }
}

/// The range that a line speaks of, if that is memory.
fn range(line: &str) -> Option<MemoryRange> {
    let (addresses, rest) = line.split_once(" (prio ")?;
    let (first, last) = addresses.split_once('-')?;
    let (kind, name) = rest.split_once("): ")?;
    if !matches!(kind.rsplit_once(' ')?.1, "ram" | "rom") {
        return None;
    }
    let (name, offset) = match name.rsplit_once(" @") {
        Some((name, offset)) => {
            (name, u64::from_str_radix(offset.split_whitespace().next()?, 16).ok()?)
        }
        None => (name, 0),
    };
    let start = u64::from_str_radix(first, 16).ok()?;
    let end = u64::from_str_radix(last, 16).ok()?.checked_add(1)?;
    offset.checked_add(end.checked_sub(start)?)?;
    (start < end).then(|| MemoryRange { start, end, name: name.trim().into(), offset })
}

/// The range that holds an address.
pub(crate) fn find(ranges: &[MemoryRange], address: u64) -> Option<&MemoryRange> {
    let next = ranges.partition_point(|range| range.start <= address);
    ranges[..next].last().filter(|range| address < range.end)
}

/// Whether every one of these addresses is memory. No bytes are always there.
pub(crate) fn hold(ranges: &[MemoryRange], address: u64, bytes: u64) -> bool {
    let Some(end) = address.checked_add(bytes) else { return false };
    let mut at = address;
    while at < end {
        match find(ranges, at) {
            Some(range) => at = range.end,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU 7.2, machine q35 with 1 GiB, shortened.
    const Q35: &str = r#"FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000c9fff (prio 0, rom): pc.ram @00000000000c0000
  00000000000ca000-000000003fffffff (prio 0, ram): pc.ram @00000000000ca000 KVM
  00000000b0000000-00000000bfffffff (prio 0, i/o): pcie-mmcfg-mmio
  00000000fe000000-00000000fe0fffff (prio 1, ramd): 0000:01:00.0 BAR 0 mmaps[0]
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios

FlatView #2
 AS "cpu-smm-0", root: memory
 Root memory region: memory
  0000000000000000-00000000000bffff (prio 0, ram): pc.ram
"#;

    #[test]
    fn memory_is_told_from_devices() {
        let ranges = parse(Q35).expect("a listing");
        let places: Vec<_> = ranges.iter().map(|range| (range.start, range.end)).collect();
        assert_eq!(
            places,
            [(0, 0xa_0000), (0xc_0000, 0xc_a000), (0xc_a000, 1 << 30), (0xfffc_0000, 1 << 32)]
        );
        assert_eq!((ranges[2].name.as_str(), ranges[2].offset), ("pc.ram", 0xc_a000));
        assert_eq!((ranges[3].name.as_str(), ranges[3].offset), ("pc.bios", 0));
    }

    #[test]
    fn what_is_held_may_span_ranges_but_no_hole() {
        let ranges = parse(Q35).expect("a listing");
        assert!(hold(&ranges, 0xc_9000, 0x2000));
        assert!(hold(&ranges, 0xffff_f000, 0x1000));
        assert!(!hold(&ranges, 0x9_f000, 0x2000));
        assert!(!hold(&ranges, 1 << 30, 1));
        assert!(!hold(&ranges, u64::MAX, 1));
        assert!(!hold(&ranges, u64::MAX, u64::MAX));
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(parse("").is_err());
        assert!(parse(&Q35.replace("AS \"memory\"", "AS \"other\"")).is_err());
        let twice = Q35.replace("00000000000c0000-", "0000000000000000-");
        assert!(parse(&twice).is_err(), "ranges overlap");
        let ends = "  0000000000000000-ffffffffffffffff (prio 0, ram): pc.ram\n";
        assert!(parse(&format!("FlatView #1\n AS \"memory\", root: system\n{ends}")).is_err());
        let many = (0..5000).map(|i| format!("{:x}-{0:x} (prio 0, ram): x\n", i * 2));
        let many = format!("AS \"memory\"\n{}", many.collect::<String>());
        assert!(parse(&many).is_err());
    }
}
