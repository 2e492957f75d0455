//! Which visible region is declared, and by what.

use std::collections::{HashMap, HashSet};

use super::form::{Contents, Per, Visible};
use crate::document::{Audit, Caught, Region};

/// The unit that expectations count pages in.
const PAGE: u64 = 4096;

/// What is said of one region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The declaration with this index fits.
    Declared(usize),
    /// None does; in words why.
    Undeclared(String),
}

/// Who has a number of pages: nobody, a CPU or a view.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Owner {
    Machine,
    Cpu(u32),
    /// Of some CPU, nobody knows which.
    SomeCpu,
    View(usize),
}

/// The verdicts on each region of each view, in their order.
pub fn judge(declared: &[Visible], audit: &Audit) -> Vec<Vec<Verdict>> {
    let mut counts = HashMap::new();
    let cpus = audit.cpus.len().max(1) as u64;
    let view = |(index, view): (usize, &crate::document::View)| {
        let regions = view.visible.iter();
        let verdicts = regions.map(|region| {
            let verdict = fitting(declared, region);
            let Verdict::Declared(entry) = verdict else { return verdict };
            let count = Count { entry, view: index, cpus, counts: &mut counts };
            count.add(&declared[entry], region).map_or(verdict, Verdict::Undeclared)
        });
        verdicts.collect()
    };
    audit.views.iter().enumerate().map(view).collect()
}

/// The first declaration that fits a region, apart from the number of pages.
fn fitting(declared: &[Visible], region: &Region) -> Verdict {
    let mut nearest = None;
    for (index, entry) in declared.iter().enumerate() {
        if !entry.is_meant(region) {
            continue;
        }
        match entry.misfit(region) {
            None => return Verdict::Declared(index),
            Some(misfit) => nearest = nearest.or(Some(misfit)),
        }
    }
    Verdict::Undeclared(nearest.unwrap_or_else(|| match &region.name {
        Some(name) => format!("nothing declares {}", name.text),
        None => "nothing declares this, and nothing tells what it is".into(),
    }))
}

impl Visible {
    /// Whether the entry speaks of this region, whatever its rights are.
    fn is_meant(&self, region: &Region) -> bool {
        let name = region.name.as_ref();
        self.kind.is_none_or(|kind| name.is_some_and(|name| name.kind == kind))
            && self.name.as_ref().is_none_or(|pattern| {
                name.is_some_and(|name| {
                    pattern.fits(&name.text)
                        || name.symbol.as_ref().is_some_and(|symbol| pattern.fits(symbol))
                })
            })
            && self.address.is_none_or(|span| span.holds(region.address, region.last()))
    }

    /// What of its rights is not as declared.
    fn misfit(&self, region: &Region) -> Option<String> {
        let rights = &region.rights;
        if !self.rights.fits(rights) {
            return Some(format!("{}, where {} is declared", rights.text(), self.rights));
        }
        if rights.user && !self.user {
            return Some("user mode may access it, which is not declared".into());
        }
        (rights.global && !self.global).then(|| "global, which is not declared".into())
    }

    /// What may stand in this region at the moment of the audit.
    pub(super) fn contents_of(&self, region: &Region, audit: &Audit) -> &Contents {
        let owner = region.name.as_ref().and_then(|name| name.cpu);
        let in_ring_3 = |cpu: u32| {
            audit.cpus.iter().any(|seen| seen.cpu.index == cpu && seen.caught == Caught::Ring3)
        };
        match &self.contents_in_ring_0 {
            Some(contents) if owner.is_some_and(|cpu| !in_ring_3(cpu)) => contents,
            _ => &self.contents,
        }
    }

    fn owner(&self, region: &Region, view: usize) -> Owner {
        match (self.per, region.name.as_ref().and_then(|name| name.cpu)) {
            (Per::Machine, _) => Owner::Machine,
            (Per::Cpu, Some(cpu)) => Owner::Cpu(cpu),
            (Per::Cpu, None) => Owner::SomeCpu,
            (Per::Process, _) => Owner::View(view),
        }
    }
}

/// Pages of one declaration and one owner.
#[derive(Default)]
struct Pages {
    /// Physical address and length of what was counted: the same memory in another view is no more memory.
    memory: HashSet<(u64, u64)>,
    pages: u64,
}

struct Count<'a> {
    entry: usize,
    view: usize,
    cpus: u64,
    counts: &'a mut HashMap<(usize, Owner), Pages>,
}

impl Count<'_> {
    /// Counts a region's pages; says so if they are more than declared.
    fn add(self, entry: &Visible, region: &Region) -> Option<String> {
        // The same memory once more.
        if region.repeats.is_some() {
            return None;
        }
        let owner = entry.owner(region, self.view);
        let (most, each) = match (owner, entry.per) {
            (Owner::SomeCpu, _) => (entry.pages.saturating_mul(self.cpus), " for all CPUs"),
            (_, Per::Machine) => (entry.pages, ""),
            (_, Per::Cpu) => (entry.pages, " for each CPU"),
            (_, Per::Process) => (entry.pages, " for each process"),
        };
        let counted = self.counts.entry((self.entry, owner)).or_default();
        if counted.memory.insert((region.physical, region.bytes)) {
            counted.pages = counted.pages.saturating_add(region.bytes / PAGE);
        }
        let pages = counted.pages;
        (pages > most).then(|| format!("page {pages} of its kind, where {most}{each} are declared"))
    }
}

/// Whose visible memory a region is, for the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Share {
    /// Of all.
    Machine,
    /// Of one CPU, known or not.
    Cpu(Option<u32>),
    /// Of one process.
    Process,
}

/// Whose a region is: its declaration says so; without one, its name.
pub fn share(declared: &[Visible], verdict: &Verdict, region: &Region) -> Share {
    let cpu = region.name.as_ref().and_then(|name| name.cpu);
    match verdict {
        Verdict::Declared(index) => match declared[*index].per {
            Per::Machine => Share::Machine,
            Per::Cpu => Share::Cpu(cpu),
            Per::Process => Share::Process,
        },
        Verdict::Undeclared(_) if cpu.is_some() => Share::Cpu(cpu),
        Verdict::Undeclared(_) => Share::Machine,
    }
}
