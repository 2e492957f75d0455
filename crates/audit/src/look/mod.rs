//! The look: from a stopped guest's memory and registers to the [`Audit`].
//!
//! ```text
//!   CPU 0 --.                 .-- walk user root ----> visible, user     totals
//!   CPU 1 ---+--> pairs --> view                                     }-> anomalies
//!   CPU 2 --'     of roots    '-- walk kernel root --> kernel
//! ```

mod complete;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::contents::Effort;
use crate::cpu::Cpu;
use crate::document::{
    Anomaly, AnomalyKind, Audit, Caught, CpuView, Region, SCHEMA, Totals, Unseen, View,
};
use crate::findings::{self, differences};
use crate::names::symbols::Symbols;
use crate::pair::{Pair, has_user_half, pair};
use crate::regions::{Listed, Merge, coarse, distinct_bytes, exact};
use crate::tables::{TableCache, Tables};
use crate::tell::{Halves, tell};
use crate::walk::{Budget, PARTS, Run, Walk, walk};
use crate::{Error, PhysicalMemory};
use complete::completed;

/// Most regions of one list.
const LIST: usize = 1 << 16;
/// Most regions of one audit: 32 MiB of them.
const REGIONS: usize = 1 << 18;

/// Most views of one audit. A core may tell of more CPUs, and more roots, than any machine has.
const VIEWS: usize = 256;

/// A stopped guest.
pub struct Subject<'a> {
    /// Its physical memory.
    pub memory: &'a dyn PhysicalMemory,
    /// Its CPUs, in any order.
    pub cpus: &'a [Cpu],
    /// What it is, in words: `core dump.elf`.
    pub source: String,
    /// The kernel's root, where the roots do not lie in pairs.
    pub kernel_cr3: Option<u64>,
    /// The kernel's symbols, if there are any.
    pub symbols: Option<&'a Symbols>,
    /// Hears how far the look is: so many parts of so many. May be called a hundred thousand times.
    pub progress: &'a dyn Fn(u64, u64),
}

/// Looks at a guest. What is wrong with its tables is in the result.
///
/// # Errors
///
/// [`Error::NoTables`] when no CPU runs with page tables of 64-bit mode; [`Error::Root`] when not even the roots are in
/// memory, which says that the memory is not that guest's.
pub fn look(subject: &Subject) -> Result<Audit, Error> {
    let cache = TableCache::new(subject.memory);
    let mut cpus: Vec<&Cpu> = subject.cpus.iter().collect();
    cpus.sort_by_key(|cpu| cpu.index);
    let mut unseen = Vec::new();
    let mut found = Vec::new();
    for cpu in cpus {
        match without_tables(cpu) {
            Some(reason) => unseen.push(Unseen { index: cpu.index, reason: reason.into() }),
            None => found.push((cpu, pair(&cache, cpu, subject.kernel_cr3))),
        }
    }
    // A kernel's own root: nothing to see, unless there is nothing else.
    let idle = |pair: &Pair| {
        let unpaired = subject.kernel_cr3.is_some();
        pair.caught == Caught::RootInKernel && (unpaired || !has_user_half(&cache, pair.user))
    };
    if found.iter().any(|(_, pair)| !idle(pair)) {
        found.retain(|(cpu, pair)| {
            if idle(pair) {
                let reason = "in the kernel, under a root that user mode may never run under";
                unseen.push(Unseen { index: cpu.index, reason: reason.into() });
            }
            !idle(pair)
        });
    }

    let mut pairs: Vec<(Pair, &Cpu)> = Vec::new();
    let mut views = Vec::new();
    for (cpu, pair) in found {
        let caught = pair.caught;
        let same = |other: &(Pair, &Cpu)| {
            (other.0.user, other.0.kernel) == (pair.user, pair.kernel)
                && other.1.paging() == cpu.paging()
        };
        let view = match pairs.iter().position(same) {
            Some(known) => known,
            None if pairs.len() == VIEWS => {
                let reason = format!("{VIEWS} other roots are looked at, and no more");
                unseen.push(Unseen { index: cpu.index, reason });
                continue;
            }
            None => {
                pairs.push((pair, cpu));
                pairs.len() - 1
            }
        };
        let pair = &pairs[view].0;
        let roots = [Some(pair.user), pair.kernel].into_iter().flatten();
        let roots: Vec<Tables> =
            roots.map(|root| Tables::new(&cache, root, cpu.paging())).collect();
        let cpu = completed(&roots, cpu);
        views.push(CpuView { paging: cpu.paging(), cpu, caught, view });
    }
    unseen.sort_by_key(|unseen| unseen.index);
    let Some((first, _)) = pairs.first() else { return Err(Error::NoTables) };
    if pairs.iter().all(|(pair, _)| cache.table(pair.user).is_none()) {
        return Err(Error::Root { address: first.user });
    }

    let mut looker = Looker {
        cache: &cache,
        budget: Budget::default(),
        regions: REGIONS,
        walks: 2 * pairs.len() as u64,
        done: 0,
        progress: subject.progress,
    };
    // Names come from the registers of all CPUs, also of those that have no view.
    let whole = |cpu: &Cpu| views.iter().find(|view: &&CpuView| view.cpu.index == cpu.index);
    let registers: Vec<Cpu> =
        subject.cpus.iter().map(|cpu| whole(cpu).map_or(cpu, |view| &view.cpu).clone()).collect();
    let mut views_of = Vec::new();
    let mut effort = Effort::default();
    let mut found = Vec::new();
    for (index, (pair, cpu)) in pairs.iter().enumerate() {
        let (mut view, halves) = looker.view(index, pair, cpu);
        found.extend(tell(
            &cache,
            (index, &mut view),
            &halves,
            (&views, &registers),
            subject.symbols,
            &mut effort,
        ));
        views_of.push(view);
    }
    Ok(Audit {
        schema: SCHEMA,
        tool: concat!("ringwall ", env!("CARGO_PKG_VERSION")).into(),
        source: subject.source.clone(),
        cpus: views,
        unseen,
        views: views_of,
        findings: findings::merge(found),
        boots: None,
    })
}

/// Why a CPU has no page tables that could be walked, if it has none. Registers that are zero are unknown.
fn without_tables(cpu: &Cpu) -> Option<&'static str> {
    const PAGING: u64 = 1 << 31;
    const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    const LONG_MODE_ACTIVE: u64 = 1 << 10;
    if cpu.cr0 != 0 && cpu.cr0 & PAGING == 0 {
        Some("paging is off: the CPU was not started, or it is in real mode")
    } else if cpu.cr4 != 0 && cpu.cr4 & PHYSICAL_ADDRESS_EXTENSION == 0 {
        Some("32-bit page tables")
    } else if cpu.efer.is_some_and(|efer| efer & LONG_MODE_ACTIVE == 0) {
        Some("not in 64-bit mode")
    } else {
        None
    }
}

struct Looker<'a> {
    cache: &'a TableCache<'a>,
    budget: Budget,
    /// How many more regions may be listed.
    regions: usize,
    walks: u64,
    done: u64,
    progress: &'a dyn Fn(u64, u64),
}

impl Looker<'_> {
    fn view(&mut self, index: usize, pair: &Pair, cpu: &Cpu) -> (View, Halves) {
        let mut seen = HashSet::new();
        let user_tables = Tables::new(self.cache, pair.user, cpu.paging());
        let Walk { runs, mut anomalies, supervisor_bytes } = self.walk(&user_tables, &mut seen);
        let isolated = pair.kernel.is_some();
        if isolated {
            anomalies.extend(outside(&user_tables, &runs));
        }
        let (visible, user): (Vec<Run>, Vec<Run>) =
            runs.into_iter().partition(|run| run.in_kernel_half() || !run.rights.user);
        let mut totals = Totals {
            visible_bytes: distinct_bytes(&visible, |_| true),
            visible_pages: visible.iter().map(|run| run.pages).sum(),
            writable_bytes: distinct_bytes(&visible, |rights| rights.writable),
            executable_bytes: distinct_bytes(&visible, |rights| rights.executable),
            kernel_bytes: supervisor_bytes,
            ..Totals::default()
        };
        let mut view = View {
            user_root: pair.user,
            kernel_root: pair.kernel,
            unused_user_root: pair.unused_user,
            switched_off: pair.switched_off,
            visible: self.list(&visible, exact, &mut anomalies),
            user: self.list(&user, coarse, &mut anomalies),
            ..View::default()
        };
        let mut halves = Halves::default();

        if let Some(kernel) = pair.kernel {
            let tables = Tables::new(self.cache, kernel, cpu.paging());
            // Of the many runs of a hostile guest two lists at a time are enough.
            drop(visible);
            let Walk { mut runs, anomalies: more, supervisor_bytes } =
                self.walk(&tables, &mut seen);
            totals.kernel_bytes = supervisor_bytes;
            let known: HashSet<_> = anomalies.iter().map(|one| (one.kind, one.entry_at)).collect();
            anomalies
                .extend(more.into_iter().filter(|one| !known.contains(&(one.kind, one.entry_at))));
            halves.differences = differences(index, &user, &runs);
            drop(user);
            let executable = |run: &Run| run.rights.user && run.rights.executable;
            runs.retain(|run| run.in_kernel_half() || executable(run));
            // Ascending addresses: the user half comes first.
            let kernel_half = runs.partition_point(|run| !run.in_kernel_half());
            let (executable, kernel) = runs.split_at(kernel_half);
            halves.executable = self.list(executable, coarse, &mut anomalies);
            view.kernel = self.list(kernel, coarse, &mut anomalies);
        } else {
            self.done += 1;
        }
        totals.tables = seen.len() as u64;
        view.totals = totals;
        view.anomalies = anomalies;
        (view, halves)
    }

    fn walk(&mut self, tables: &Tables, seen: &mut HashSet<u64>) -> Walk {
        let before = self.done * PARTS;
        let progress = |parts| (self.progress)(before + parts, self.walks * PARTS);
        let walk = walk(tables, &self.budget, seen, &progress);
        self.done += 1;
        (self.progress)(self.done * PARTS, self.walks * PARTS);
        walk
    }

    /// Turns runs into what is listed. Beyond [`LIST`] of them neighbours are merged; what is still too much is left
    /// out, and an anomaly says where.
    fn list(&mut self, runs: &[Run], merge: Merge, anomalies: &mut Vec<Anomaly>) -> Vec<Region> {
        let limit = LIST.min(self.regions);
        let merge = if runs.len() > limit { coarse } else { merge };
        let Listed { regions, left_out } = merge(runs, limit);
        if let Some(address) = left_out {
            let kind = AnomalyKind::TooMuch;
            anomalies.push(Anomaly { kind, level: 1, entry_at: 0, entry: 0, address });
        }
        self.regions -= regions.len();
        regions
    }
}

/// Anomalies for the runs that are not wholly in memory: one for each.
fn outside(tables: &Tables, runs: &[Run]) -> Vec<Anomaly> {
    const LISTED: usize = 256;
    let memory = tables.cache.memory();
    let outside =
        runs.iter().filter(|run| run.repeats.is_none() && !memory.holds(run.physical, run.bytes));
    let anomaly = |run: &Run| {
        let (page, at) = tables.entry_of(run.address)?;
        let (kind, address) = (AnomalyKind::PageOutsideMemory, page.address);
        Some(Anomaly { kind, level: at.level, entry_at: at.at, entry: at.entry, address })
    };
    outside.filter_map(anomaly).take(LISTED).collect()
}
