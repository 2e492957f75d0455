//! Marks: ranges of addresses that something says are something, and how they turn runs of pages into named regions.
//!
//! ```text
//!   run      |----------|----------|----------|----------|     four pages with the same rights
//!   marks               GDT  TSS    .. entry stack ..|
//!   regions  | unnamed  | GDT, TSS | entry stack         |
//! ```
//!
//! A mark may begin and end anywhere; a page is named by all marks that touch it. Regions are only ever split
//! between pages, and the parts of a run cover it exactly.

use crate::document::{Kind, Name, Region};
use crate::names::gates::list;

/// A range of addresses that is something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// First address.
    pub first: u64,
    /// Last address, included.
    pub last: u64,
    /// What kind of thing.
    pub kind: Kind,
    /// In words, without the CPU: `NMI stack`.
    pub what: String,
    /// The CPU that it belongs to; `None` if to all.
    pub cpu: Option<u32>,
    /// The symbol that says so.
    pub symbol: Option<String>,
}

impl Mark {
    /// A range of `bytes` from `first`, at least one.
    pub fn new(first: u64, bytes: u64, kind: Kind, what: impl Into<String>) -> Mark {
        let last = first.saturating_add(bytes.max(1) - 1);
        Mark { first, last, kind, what: what.into(), cpu: None, symbol: None }
    }

    /// The same, of one CPU.
    pub fn of(self, cpu: u32) -> Mark {
        Mark { cpu: Some(cpu), ..self }
    }

    fn touches(&self, first: u64, last: u64) -> bool {
        self.first <= last && self.last >= first
    }
}

/// All marks, by first address.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    marks: Vec<Mark>,
    /// For each mark the greatest last address of it and all before it: what ends a search backwards.
    reach: Vec<u64>,
}

impl Marks {
    /// Puts marks in order. What several CPUs have in common becomes nobody's.
    pub fn new(mut marks: Vec<Mark>) -> Marks {
        marks.sort_by(|a, b| {
            (a.first, a.last, a.kind, &a.what, a.cpu)
                .cmp(&(b.first, b.last, b.kind, &b.what, b.cpu))
        });
        marks.dedup_by(|later, kept| {
            let same = (later.first, later.last, later.kind, &later.what)
                == (kept.first, kept.last, kept.kind, &kept.what);
            if same && later.cpu != kept.cpu {
                kept.cpu = None;
            }
            same
        });
        let reach = marks.iter().scan(0, |most, mark| {
            *most = mark.last.max(*most);
            Some(*most)
        });
        Marks { reach: reach.collect(), marks }
    }

    /// The marks that touch `first..=last`, by first address.
    pub fn touching(&self, first: u64, last: u64) -> Vec<&Mark> {
        let end = self.marks.partition_point(|mark| mark.first <= last);
        let mut found: Vec<&Mark> = Vec::new();
        for index in (0..end).rev() {
            if self.reach[index] < first {
                break;
            }
            if self.marks[index].touches(first, last) {
                found.push(&self.marks[index]);
            }
        }
        found.reverse();
        found
    }

    /// Whether any mark touches `first..=last`.
    pub fn touches(&self, first: u64, last: u64) -> bool {
        let end = self.marks.partition_point(|mark| mark.first <= last);
        // Whoever reaches furthest of all that begin before the end reaches into it, or none does.
        end > 0 && self.reach[end - 1] >= first
    }

    /// The mark of the kind given that holds `address`.
    pub fn at(&self, address: u64, kind: Kind) -> Option<&Mark> {
        self.touching(address, address).into_iter().find(|mark| mark.kind == kind)
    }

    /// Every mark, by first address.
    pub fn iter(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter()
    }

    /// Splits `run` between pages so that each part has the same marks throughout. `physical` says where a page
    /// is, for runs whose pages do not follow one another.
    pub fn split(
        &self,
        run: &Region,
        physical: &dyn Fn(u64) -> Option<u64>,
    ) -> Vec<(Region, Vec<&Mark>)> {
        let here = self.touching(run.address, run.last());
        // Addresses shown again at a distance have holes between them: those runs stay whole.
        if here.is_empty() || run.repeats.is_some() {
            return vec![(run.clone(), here)];
        }
        let size = run.page_size.max(1);
        let page = |address: u64| (address - run.address) / size;
        let pages = run.bytes.div_ceil(size);
        let mut cuts = vec![0, pages];
        for mark in &here {
            cuts.push(page(mark.first.max(run.address)));
            cuts.push(page(mark.last.min(run.last())) + 1);
        }
        cuts.sort_unstable();
        cuts.dedup();

        let mut parts: Vec<(Region, Vec<&Mark>)> = Vec::new();
        for pair in cuts.windows(2) {
            let part = part(run, pair[0], pair[1], physical);
            let marks = here.iter().copied();
            let marks: Vec<&Mark> =
                marks.filter(|mark| mark.touches(part.address, part.last())).collect();
            parts.push((part, marks));
        }
        parts
    }
}

/// Pages `from..to` of a run.
fn part(run: &Region, from: u64, to: u64, physical: &dyn Fn(u64) -> Option<u64>) -> Region {
    let address = run.address + from * run.page_size;
    let place = if from == 0 {
        run.physical
    } else if run.contiguous {
        run.physical.wrapping_add(from * run.page_size)
    } else {
        physical(address).unwrap_or(run.physical)
    };
    let (pages, bytes) = (to - from, (to - from) * run.page_size);
    let contiguous = run.contiguous || pages == 1;
    Region { address, bytes, pages, physical: place, contiguous, ..run.clone() }
}

/// Most CPUs that a name lists.
const CPUS_LISTED: usize = 4;

/// What a part of a run with these marks is called.
pub fn name(marks: &[&Mark]) -> Option<Name> {
    let kind = kind(marks)?;
    let mut cpus: Vec<Option<u32>> = marks.iter().map(|mark| mark.cpu).collect();
    cpus.sort_unstable();
    cpus.dedup();
    let text = if cpus.len() > CPUS_LISTED {
        format!("{} of {} CPUs", words(marks), cpus.len())
    } else {
        let of = |cpu: &Option<u32>| {
            let theirs: Vec<&Mark> =
                marks.iter().copied().filter(|mark| mark.cpu == *cpu).collect();
            match cpu {
                Some(cpu) => format!("{} of CPU {cpu}", words(&theirs)),
                None => words(&theirs),
            }
        };
        cpus.iter().map(of).collect::<Vec<_>>().join("; ")
    };
    let cpu = if let [one] = cpus[..] { one } else { None };
    let symbol = marks.iter().find_map(|mark| mark.symbol.clone());
    Some(Name { kind, text, cpu, symbol })
}

/// What the marks say, each once, stacks last and together: `GDT and TSS`, `entry stack, NMI and #DF stacks`.
fn words(marks: &[&Mark]) -> String {
    let mut items: Vec<String> = Vec::new();
    let mut stacks: Vec<String> = Vec::new();
    // Data goes last: the page is there for the rest.
    let (data, needed): (Vec<&Mark>, Vec<&Mark>) =
        marks.iter().copied().partition(|mark| mark.kind == Kind::PerCpu);
    for mark in needed {
        let stack = mark.what.strip_suffix(" stack");
        let (list, word) = match (mark.kind, stack) {
            (Kind::InterruptStack, Some(vectors)) => (&mut stacks, vectors),
            _ => (&mut items, mark.what.as_str()),
        };
        // What is told in more words already is not told again.
        if !list.iter().any(|known| known.starts_with(word)) {
            list.retain(|known| !word.starts_with(known.as_str()));
            list.push(word.into());
        }
    }
    if !stacks.is_empty() {
        let ending = if stacks.len() == 1 { "stack" } else { "stacks" };
        items.push(format!("{} {ending}", list(&stacks)));
    }
    let several = !stacks.is_empty() || !data.is_empty();
    if let Some(data) = data.first() {
        items.push(data.what.clone());
    }
    if several { items.join(", ") } else { list(&items) }
}

/// The kind of a page with several things on it: what the CPU itself needs goes first.
fn kind(marks: &[&Mark]) -> Option<Kind> {
    let has = |kind| marks.iter().any(|mark| mark.kind == kind);
    if has(Kind::Gdt) && has(Kind::Tss) {
        return Some(Kind::GdtAndTss);
    }
    const ORDER: [Kind; 14] = [
        Kind::Idt,
        Kind::Gdt,
        Kind::Tss,
        Kind::Ldt,
        Kind::EntryText,
        Kind::TaskStack,
        Kind::EntryStack,
        Kind::InterruptStack,
        Kind::Vsyscall,
        Kind::Espfix,
        Kind::PerCpu,
        Kind::Text,
        Kind::Image,
        Kind::Data,
    ];
    let known = ORDER.into_iter().find(|kind| has(*kind));
    known.or(marks.first().map(|mark| mark.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Region {
        Region {
            address: 0xffff_fe00_0000_0000,
            bytes: 0x4000,
            physical: 0x9000,
            contiguous: true,
            page_size: 0x1000,
            pages: 4,
            ..Region::default()
        }
    }

    fn texts(parts: &[(Region, Vec<&Mark>)]) -> Vec<(u64, u64, Option<String>)> {
        let text = |marks: &[&Mark]| name(marks).map(|name| name.text);
        parts.iter().map(|(part, marks)| (part.address, part.physical, text(marks))).collect()
    }

    #[test]
    fn a_run_is_split_between_pages_where_its_marks_change() {
        let base = run().address;
        let marks = Marks::new(vec![
            Mark::new(base + 0x1100, 0x20, Kind::Gdt, "GDT").of(1),
            Mark::new(base + 0x1200, 104, Kind::Tss, "TSS").of(1),
            Mark::new(base + 0x2ff8, 0x10, Kind::EntryStack, "entry stack").of(1),
        ]);
        let parts = marks.split(&run(), &|_| None);
        let expected = [
            (base, 0x9000, None),
            (base + 0x1000, 0xa000, Some("GDT and TSS of CPU 1".to_string())),
            (base + 0x2000, 0xb000, Some("entry stack of CPU 1".to_string())),
        ];
        assert_eq!(texts(&parts), expected);
        assert_eq!(parts.iter().map(|(part, _)| part.pages).sum::<u64>(), 4);
        assert_eq!(name(&parts[1].1).expect("marked").kind, Kind::GdtAndTss);
    }

    #[test]
    fn what_several_cpus_share_is_of_none_of_them() {
        let mark = |cpu| Mark::new(run().address, 4096, Kind::Idt, "IDT").of(cpu);
        let marks = Marks::new(vec![mark(0), mark(1), mark(2)]);
        assert_eq!(marks.iter().count(), 1);
        let parts = marks.split(&run(), &|_| None);
        assert_eq!(texts(&parts)[0].2.as_deref(), Some("IDT"));
    }

    #[test]
    fn a_long_mark_is_found_behind_short_ones() {
        let marks = Marks::new(vec![
            Mark::new(0x1000, 0x10_0000, Kind::Image, "image"),
            Mark::new(0x2000, 8, Kind::Idt, "IDT"),
        ]);
        assert!(marks.at(0x8_0000, Kind::Image).is_some());
        assert!(marks.at(0x8_0000, Kind::Idt).is_none());
        assert!(marks.at(0x10_1000, Kind::Image).is_none());
    }

    #[test]
    fn the_last_page_of_all_has_a_name_too() {
        let last = Region { address: 0xffff_ffff_ffff_f000, bytes: 0x1000, pages: 1, ..run() };
        let marks = Marks::new(vec![Mark::new(last.address, u64::MAX, Kind::Data, "top")]);
        assert_eq!(texts(&marks.split(&last, &|_| None))[0].2.as_deref(), Some("top"));
    }
}
