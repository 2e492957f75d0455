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

#[cfg(test)]
mod oracle;
mod shown;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use crate::document::{Anomaly, AnomalyKind, Region, Rights};
use crate::entry::{ENTRIES, Entry, Grant, canonical, decode, span};
use crate::tables::Tables;
use shown::{Part, Shown};

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
    runs: Cell<u64>,
    anomalies: Cell<u64>,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            visits: Cell::new(8 * VISITS),
            runs: Cell::new(4 * RUNS as u64),
            anomalies: Cell::new(16 * ANOMALIES),
        }
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

    /// Its last address.
    pub fn last(&self) -> u64 {
        self.address + (self.bytes - 1)
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
    let in_kernel_half = walker.walk.runs.partition_point(Run::in_kernel_half);
    walker.walk.runs.rotate_left(in_kernel_half);
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
        // The kernel half first: whoever fills the user half with tables hides nothing by that.
        let first = if level == levels { ENTRIES / 2 } else { 0 };
        for index in (first..ENTRIES).chain(0..first) {
            let entry = entries[index];
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
            (self.progress)((parts + PARTS / 2) % PARTS);
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
        if let Some(last) = self.walk.runs.last_mut()
            && last.repeats.is_none()
            && last.end() == place.address
            && last.in_kernel_half() == (place.address >= KERNEL_HALF)
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
        if self.walk.runs.len() < RUNS && take(&self.budget.runs) {
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
