//! The walk: everything that a root maps, in runs of neighbouring pages.
//!
//! ```text
//!   root --> table --> table --> run run run
//!     |        '-----> table ('the same again': one run with `repeats`)
//!     '----> table outside memory, reserved bit, loop: an anomaly
//! ```
//!
//! A table is walked once for each level, each set of rights that the levels above leave, and each half of the
//! address space that it is met in. So tables that are shared (KASAN's shadow, espfix stacks), however often, cost as
//! much as the tables themselves, and a table that is reached through itself ends like any other: the level below it is
//! one less each time. What such a recursive mapping shows is listed, because the CPU would translate it too.
//!
//! Time and memory are bounded by [`Budget`] and [`RUNS`], whatever the guest has written.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use crate::document::{Anomaly, AnomalyKind, Region, Rights};
use crate::entry::{ENTRIES, Entry, Grant, canonical, decode, span};
use crate::tables::Tables;

/// Most runs of one walk.
const RUNS: usize = 1 << 19;
/// Most tables of one walk, each counted as often as it is walked: 256 GiB in pages of 4 KiB.
const VISITS: u64 = 1 << 17;
/// Most anomalies that one walk lists, but for the one that says that there are more.
const ANOMALIES: u64 = 1 << 10;
/// First address of the kernel half.
pub const KERNEL_HALF: u64 = 1 << 63;

/// What all walks of one look may cost together.
pub struct Budget {
    visits: Cell<u64>,
    anomalies: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { visits: Cell::new(8 * VISITS), anomalies: Cell::new(16 * ANOMALIES) }
    }
}

/// Whether something was left in it; then there is one less.
fn take(left: &Cell<u64>) -> bool {
    let before = left.get();
    left.set(before.saturating_sub(1));
    before > 0
}

/// Neighbouring pages with the same size and rights, and successive physical addresses. Or, if it `repeats`, what
/// tables that were walked before show here again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First virtual address, canonical.
    pub address: u64,
    /// From there to the end of the last page.
    pub bytes: u64,
    /// Physical address of the first page.
    pub physical: u64,
    /// Pages.
    pub pages: u64,
    /// Size of each; if it `repeats`, of the smallest.
    pub page_size: u64,
    /// Rights of each; if it `repeats`, what any of them grants.
    pub rights: Rights,
    /// Where the same was shown first.
    pub repeats: Option<u64>,
}

impl Run {
    /// The same as a part of the document.
    pub fn region(&self) -> Region {
        Region {
            address: self.address,
            bytes: self.bytes,
            physical: self.physical,
            contiguous: self.repeats.is_none(),
            page_size: self.page_size,
            pages: self.pages,
            rights: self.rights,
            repeats: self.repeats,
            name: None,
        }
    }

    /// The address behind the last page; 0 at the end of the address space.
    fn end(&self) -> u64 {
        self.address.wrapping_add(self.bytes)
    }

    /// Whether it is in the kernel half.
    pub fn in_kernel_half(&self) -> bool {
        self.address >= KERNEL_HALF
    }
}

/// What a root maps.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// In ascending order.
    pub runs: Vec<Run>,
    /// What is malformed; no entry twice for the same reason.
    pub anomalies: Vec<Anomaly>,
    /// Bytes of supervisor pages, each address counted.
    pub supervisor_bytes: u64,
}

/// Walks the root of `tables`. The physical addresses of all tables seen are added to `seen`. `progress` hears how far
/// the walk is, in parts of [`PARTS`].
pub fn walk(
    tables: &Tables,
    budget: &Budget,
    seen: &mut HashSet<u64>,
    progress: &dyn Fn(u64),
) -> Walk {
    let mut walker = Walker {
        tables,
        budget,
        seen,
        progress,
        visits: 0,
        memo: HashMap::new(),
        path: Vec::new(),
        again: None,
        known: HashSet::new(),
        unlisted: false,
        full: false,
        walk: Walk::default(),
    };
    let root = tables.root;
    let levels = tables.paging.levels;
    let whole = Place { level: levels + 1, entry_at: root, entry: root, address: 0 };
    let shown = walker.table(root, levels, 0, Grant::ALL, whole);
    walker.walk.supervisor_bytes = shown.supervisor.map_or(0, |part| part.bytes);
    walker.walk
}

/// What `progress` counts up to.
pub const PARTS: u64 = (ENTRIES * ENTRIES) as u64;

/// A table, and all that what it shows depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    physical: u64,
    level: u8,
    grant: Grant,
    kernel_half: bool,
}

/// An entry: where it stands and what it translates.
#[derive(Clone, Copy)]
struct Place {
    level: u8,
    entry_at: u64,
    entry: u64,
    address: u64,
}

/// What a table shows, in short, for when it is met again. Offsets count from the table's first address.
#[derive(Clone, Copy, Default)]
struct Shown {
    base: u64,
    user: Option<Part>,
    supervisor: Option<Part>,
}

/// The user pages of a table, or the supervisor pages.
#[derive(Clone, Copy)]
struct Part {
    first: u64,
    end: u64,
    physical: u64,
    pages: u64,
    bytes: u64,
    page_shift: u8,
    rights: Rights,
}

impl Shown {
    fn add(&mut self, part: Part) {
        let slot = if part.rights.user { &mut self.user } else { &mut self.supervisor };
        *slot = Some(slot.map_or(part, |before| before.and(&part)));
    }

    /// Takes over what a table at `offset` shows.
    fn add_all(&mut self, other: &Shown, offset: u64) {
        for part in [other.supervisor, other.user].into_iter().flatten() {
            self.add(Part { first: part.first + offset, end: part.end + offset, ..part });
        }
    }
}

impl Part {
    /// Together with what comes behind it.
    fn and(self, next: &Part) -> Part {
        let (mine, theirs) = (self.rights, next.rights);
        Part {
            end: self.end.max(next.end),
            pages: self.pages + next.pages,
            bytes: self.bytes + next.bytes,
            page_shift: self.page_shift.min(next.page_shift),
            rights: Rights {
                user: mine.user,
                writable: mine.writable | theirs.writable,
                executable: mine.executable | theirs.executable,
                global: mine.global | theirs.global,
                key: if mine.key == theirs.key { mine.key } else { 0 },
            },
            ..self
        }
    }
}

/// The last runs, if they repeat a table: the table, where the next of them would begin, which runs.
struct Again {
    key: Key,
    next: u64,
    first: usize,
}

struct Walker<'a> {
    tables: &'a Tables<'a>,
    budget: &'a Budget,
    seen: &'a mut HashSet<u64>,
    progress: &'a dyn Fn(u64),
    visits: u64,
    memo: HashMap<Key, Shown>,
    path: Vec<u64>,
    again: Option<Again>,
    known: HashSet<(AnomalyKind, u64)>,
    /// There are more anomalies than are listed.
    unlisted: bool,
    /// There is more than may be listed or visited: the walk ends.
    full: bool,
    walk: Walk,
}

impl Walker<'_> {
    /// Lists what one table maps; `place` is the entry that names it.
    fn table(&mut self, table: u64, level: u8, base: u64, grant: Grant, place: Place) -> Shown {
        let mut shown = Shown { base, ..Shown::default() };
        if self.visits == VISITS || !take(&self.budget.visits) {
            self.give_up(place);
            return shown;
        }
        self.visits += 1;
        let Some(entries) = self.tables.cache.table(table) else {
            self.anomaly(AnomalyKind::TableOutsideMemory, place);
            return shown;
        };
        self.seen.insert(table);
        self.path.push(table);
        let levels = self.tables.paging.levels;
        let size = span(level);
        for (index, &entry) in entries.iter().enumerate() {
            if entry == 0 {
                continue;
            }
            let offset = index as u64 * size;
            // At the root this extends the sign; below, the base has it already.
            let address = canonical(base.wrapping_add(offset), levels);
            let entry_at = table + 8 * index as u64;
            let place = Place { level, entry_at, entry, address };
            let grant = grant.and(entry);
            match decode(entry, level, &self.tables.paging) {
                Entry::Absent => {}
                Entry::Reserved => self.anomaly(AnomalyKind::ReservedBit, place),
                Entry::Page(physical) => {
                    let rights = grant.of_leaf(entry, &self.tables.paging);
                    shown.add(Part {
                        first: offset,
                        end: offset + size,
                        physical,
                        pages: 1,
                        bytes: size,
                        page_shift: size.trailing_zeros() as u8,
                        rights,
                    });
                    self.page(place, physical, size, rights);
                }
                Entry::Table(next) => {
                    let below = self.below(next, grant, place);
                    shown.add_all(&below, offset);
                }
            }
            if self.full {
                break;
            }
        }
        self.path.pop();
        shown
    }

    /// What the table that an entry names shows: found out, or known from before.
    fn below(&mut self, table: u64, grant: Grant, place: Place) -> Shown {
        let level = place.level - 1;
        if level + 2 >= self.tables.paging.levels {
            let parts = place.address / span(self.tables.paging.levels - 1);
            (self.progress)(parts % PARTS);
        }
        if self.path.contains(&table) {
            self.anomaly(AnomalyKind::Loop, place);
        }
        let kernel_half = place.address >= KERNEL_HALF;
        let key = Key { physical: table, level, grant, kernel_half };
        match self.memo.get(&key) {
            Some(&shown) => {
                self.repeat(key, &shown, place);
                shown
            }
            None => {
                let shown = self.table(table, level, place.address, grant, place);
                self.memo.insert(key, shown);
                shown
            }
        }
    }

    fn page(&mut self, place: Place, physical: u64, size: u64, rights: Rights) {
        self.again = None;
        if let Some(last) = self.walk.runs.last_mut()
            && last.repeats.is_none()
            && last.end() == place.address
            && last.physical.wrapping_add(last.bytes) == physical
            && (last.page_size, last.rights) == (size, rights)
        {
            last.bytes += size;
            last.pages += 1;
            return;
        }
        let address = place.address;
        let run = Run {
            address,
            bytes: size,
            physical,
            pages: 1,
            page_size: size,
            rights,
            repeats: None,
        };
        self.push(run, place);
    }

    fn repeat(&mut self, key: Key, shown: &Shown, place: Place) {
        let next = place.address.wrapping_add(span(place.level));
        let mut parts = [shown.supervisor, shown.user];
        parts.sort_by_key(|part| part.map(|part| part.first));
        if let Some(again) = &mut self.again
            && (again.key, again.next) == (key, place.address)
        {
            again.next = next;
            let runs = self.walk.runs[again.first..].iter_mut();
            for (run, part) in runs.zip(parts.into_iter().flatten()) {
                run.bytes += span(place.level);
                run.pages += part.pages;
            }
            return;
        }
        let first = self.walk.runs.len();
        for part in parts.into_iter().flatten() {
            let run = Run {
                address: place.address + part.first,
                bytes: part.end - part.first,
                physical: part.physical,
                pages: part.pages,
                page_size: 1 << part.page_shift,
                rights: part.rights,
                repeats: Some(shown.base + part.first),
            };
            self.push(run, place);
        }
        self.again = Some(Again { key, next, first });
    }

    fn push(&mut self, run: Run, place: Place) {
        if self.walk.runs.len() < RUNS {
            self.walk.runs.push(run);
        } else {
            self.give_up(place);
        }
    }

    fn give_up(&mut self, place: Place) {
        self.full = true;
        self.anomaly(AnomalyKind::TooMuch, place);
    }

    fn anomaly(&mut self, kind: AnomalyKind, place: Place) {
        let Place { level, entry_at, entry, address } = place;
        let mut kind = kind;
        if kind != AnomalyKind::TooMuch {
            if self.known.contains(&(kind, entry_at)) || self.unlisted {
                return;
            }
            let room = self.walk.anomalies.len() < ANOMALIES as usize;
            if !room || !take(&self.budget.anomalies) {
                self.unlisted = true;
                kind = AnomalyKind::TooMuch;
            }
        }
        if self.known.insert((kind, entry_at)) {
            self.walk.anomalies.push(Anomaly { kind, level, entry_at, entry, address });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;
    use crate::synthetic::{Guest, LARGE, NX, P, U, W};
    use crate::tables::TableCache;

    const IMAGE: u64 = 0xffff_ffff_8000_0000;

    fn walked(guest: &Guest, cpu: &Cpu) -> Walk {
        let memory = guest.memory();
        let cache = TableCache::new(&memory);
        let tables = Tables::new(&cache, cpu.cr3, cpu.paging());
        let walk = walk(&tables, &Budget::default(), &mut HashSet::new(), &|_| ());
        for run in &walk.runs {
            let page = tables.translate(run.address).expect("a run begins with a page");
            assert_eq!(page.physical, run.physical);
        }
        walk
    }

    fn four_levels(guest: &Guest) -> Walk {
        walked(guest, &Cpu { cr3: Guest::ROOT, ..Cpu::default() })
    }

    #[test]
    fn rights_are_those_that_every_level_grants() {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, 0x40_0000, 0x9000, P | U | W);
        guest.map(Guest::ROOT, IMAGE, 0xa000, P | NX);
        // The root's entry takes what the page's entry gives.
        guest.change(Guest::ROOT, 0, |entry| (entry & !W) | NX);
        let runs = four_levels(&guest).runs;
        let rights: Vec<_> = runs.iter().map(|run| (run.address, run.rights)).collect();
        let user = Rights { user: true, ..Rights::default() };
        assert_eq!(rights, [(0x40_0000, user), (IMAGE, Rights::default())]);
    }

    #[test]
    fn neighbours_are_one_run_if_nothing_tells_them_apart() {
        let mut guest = Guest::new();
        for page in 0..3 {
            guest.map(Guest::ROOT, IMAGE + page * 0x1000, 0x9000 + page * 0x1000, P);
        }
        guest.map(Guest::ROOT, IMAGE + 0x3000, 0xc000, P | W);
        guest.map(Guest::ROOT, IMAGE + 0x4000, 0x9000, P | W);
        let pages: Vec<_> = four_levels(&guest).runs.iter().map(|run| run.pages).collect();
        assert_eq!(pages, [3, 1, 1]);
    }

    #[test]
    fn the_last_page_of_the_address_space_ends_no_run_too_late() {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, 0, 0x9000, P);
        guest.map(Guest::ROOT, !0xfff, 0xa000, P);
        let runs = four_levels(&guest).runs;
        assert_eq!(runs.iter().map(|run| run.bytes).collect::<Vec<_>>(), [0x1000, 0x1000]);
    }

    #[test]
    fn large_pages_and_five_levels() {
        let mut guest = Guest::with_levels(5);
        let directory = guest.table_of(Guest::ROOT, 0xff00_0000_0000_0000, 2);
        guest.change(directory, 1, |_| P | W | LARGE | (1 << 12) | 0x60_0000);
        let upper = guest.table_of(Guest::ROOT, 0xff00_0000_0000_0000, 3);
        guest.change(upper, 2, |_| P | LARGE | 0x4000_0000);
        const LA57: u64 = 1 << 12;
        let runs = walked(&guest, &Cpu { cr3: Guest::ROOT, cr4: LA57, ..Cpu::default() }).runs;
        let pages: Vec<_> =
            runs.iter().map(|run| (run.address, run.physical, run.page_size)).collect();
        assert_eq!(
            pages,
            [
                (0xff00_0000_0020_0000, 0x60_0000, 0x20_0000),
                (0xff00_0000_8000_0000, 0x4000_0000, 0x4000_0000)
            ]
        );
    }

    #[test]
    fn what_is_malformed_is_told_and_not_followed() {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, IMAGE, 0x9000, P);
        guest.change(Guest::ROOT, 7, |_| P | 0x7_0000_0000);
        guest.change(Guest::ROOT, 8, |_| P | LARGE | 0x9000);
        let walk = four_levels(&guest);
        assert_eq!(walk.runs.len(), 1);
        let told: Vec<_> = walk.anomalies.iter().map(|one| (one.kind, one.entry_at)).collect();
        let at = |slot: u64| Guest::ROOT + 8 * slot;
        assert_eq!(
            told,
            [(AnomalyKind::TableOutsideMemory, at(7)), (AnomalyKind::ReservedBit, at(8))]
        );
        assert_eq!(walk.anomalies[0].address, 7 << 39);
    }

    #[test]
    fn a_recursive_slot_is_told_and_shows_the_tables() {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, IMAGE, 0x9000, P | W);
        guest.change(Guest::ROOT, 256, |_| P | W | Guest::ROOT);
        let walk = four_levels(&guest);
        assert!(walk.anomalies.iter().all(|one| one.kind == AnomalyKind::Loop));
        assert!(walk.anomalies.iter().any(|one| one.entry_at == Guest::ROOT + 8 * 256));
        // The root itself is the page at the slot's own index at every level.
        let own = 0xffff_8000_0000_0000 | 256 << 30 | 256 << 21 | 256 << 12;
        assert!(walk.runs.iter().any(|run| (run.address, run.physical) == (own, Guest::ROOT)));
        // Root, three tables of the image.
        let pages: u64 = walk.runs.iter().map(|run| run.pages).sum();
        assert_eq!(pages, 4 + 1);
    }

    #[test]
    fn tables_full_of_themselves_end_at_once() {
        let mut guest = Guest::new();
        for index in 0..512 {
            guest.change(Guest::ROOT, index, |_| P | U | Guest::ROOT);
        }
        let walk = four_levels(&guest);
        let pages: u64 = walk.runs.iter().map(|run| run.pages).sum();
        assert_eq!(pages, 1 << 36);
        assert!(walk.runs.len() < 4096, "{} runs", walk.runs.len());
    }

    #[test]
    fn a_table_met_again_is_one_run() {
        let mut guest = Guest::new();
        let base = 0xffff_ff00_0000_0000;
        guest.map(Guest::ROOT, base + 0x3000, 0x9000, P);
        guest.map(Guest::ROOT, base + 0x5000, 0x9000, P);
        let directory = guest.table_of(Guest::ROOT, base, 2);
        let table = guest.table_of(Guest::ROOT, base, 1);
        for index in 1..512 {
            guest.change(directory, index, |_| P | W | U | table);
        }
        let runs = four_levels(&guest).runs;
        assert_eq!(runs.len(), 3);
        let again = runs[2];
        assert_eq!(again.repeats, Some(base + 0x3000));
        assert_eq!((again.address, again.physical), (base + 0x20_3000, 0x9000));
        assert_eq!(again.address + again.bytes, base + 511 * 0x20_0000 + 0x6000);
        assert_eq!(again.pages, 511 * 2);
    }

    #[test]
    fn other_rights_above_are_no_repetition() {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, IMAGE, 0x9000, P | W);
        let directory = guest.table_of(Guest::ROOT, IMAGE, 2);
        let table = guest.table_of(Guest::ROOT, IMAGE, 1);
        guest.change(directory, 1, |_| P | table);
        let runs = four_levels(&guest).runs;
        assert_eq!(runs.iter().map(|run| run.rights.writable).collect::<Vec<_>>(), [true, false]);
        assert!(runs.iter().all(|run| run.repeats.is_none()));
    }
}
