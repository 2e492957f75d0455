//! What is it? Names for the pages that a root shows.
//!
//! Four sources, each believed only as far as it goes:
//!
//! - [`structure`]: the CPUs' registers lead to the IDT, GDT, TSS and LDT, these to stacks and entry text ([`ways_in`]);
//! - [`shape`]: how pages lie tells espfix, the direct map, the kernel image and task stacks;
//! - [`linux`]: addresses that Linux has promised (vsyscall) or always used (the cpu entry area);
//! - [`symbols`]: if there is a symbol table, with the slide that the ways in vote for ([`slide`]).
//!
//! ```text
//!   registers, tables ──► marks (address ranges) ──► runs of pages, split and named
//! ```
//!
//! Invariants: names never change what a region covers; the parts of a run cover it exactly. What nothing names has
//! no name.

pub mod gates;
mod linux;
pub mod mark;
pub mod shape;
pub mod slide;
pub mod structure;
pub mod symbols;
#[cfg(test)]
mod tests;
pub mod ways_in;

use std::collections::HashSet;

use crate::cpu::Cpu;
use crate::document::{Kind, Name, Region};
use crate::tables::Tables;
use gates::Gate;
use mark::{Mark, Marks};
use shape::Distances;
use slide::Slide;
use symbols::Symbols;

/// What names one view's pages.
pub struct Names<'a> {
    /// Every range that something is known of.
    pub marks: Marks,
    /// The IDTs' gates.
    pub gates: Vec<Gate>,
    /// Where SYSCALL goes, as far as it is known.
    pub syscalls: Vec<u64>,
    /// Tops of the stacks that the TSSs name: address, CPU, and 0 for RSP0 or 1 to 7 for the IST.
    pub stacks: Vec<(u64, u32, u8)>,
    /// Where the symbols are.
    pub slide: Option<Slide>,
    symbols: Option<&'a Symbols>,
    distances: Distances,
}

/// A longer region is called after a symbol only if it begins with it.
const SYMBOL_PAGES: u64 = 4;

/// What is known of a view before it has names.
pub struct Scene<'a> {
    /// What user mode's root shows.
    pub user: &'a Tables<'a>,
    /// What the kernel's root shows; the same as `user` without isolation.
    pub kernel: &'a Tables<'a>,
    /// Supervisor runs of the user root, ascending.
    pub visible: &'a [Region],
    /// Supervisor runs of the kernel root, ascending; empty without isolation.
    pub hidden: &'a [Region],
    /// Every CPU of the guest.
    pub cpus: &'a [Cpu],
    /// The numbers of those that run under this view.
    pub here: &'a [u32],
}

impl<'a> Names<'a> {
    /// Gathers all that is known.
    pub fn new(scene: &Scene, with: Option<&'a Symbols>) -> Names<'a> {
        let here = |cpu: &Cpu| scene.here.contains(&cpu.index);
        // Both roots have the structures at the same addresses, but one may lack some of them.
        let seen = structure::find(scene.user, scene.cpus, &here);
        let mut found = structure::find(scene.kernel, scene.cpus, &here);
        found.marks.extend(seen.marks);
        if found.gates.len() < seen.gates.len() {
            found.gates = seen.gates;
        }
        found.stacks.extend(seen.stacks);
        found.stacks.sort_unstable();
        found.stacks.dedup();
        let syscalls: Vec<u64> = scene.cpus.iter().filter_map(|cpu| cpu.lstar).collect();
        let syscalls: Vec<u64> = syscalls.into_iter().filter(|target| *target != 0).collect();

        let all = if scene.hidden.is_empty() { scene.visible } else { scene.hidden };
        let mut marks = found.marks;
        marks.extend(ways_in::find(scene.visible, &found.gates, &syscalls));
        marks.extend(linux::marks(scene.user, scene.visible, scene.cpus, &marks));
        let known = Marks::new(marks.clone());
        let shown = |address| scene.user.is_supervisor(address);
        let isolated = !scene.hidden.is_empty();
        // Text that user mode's tables show from end to end is entry text, wherever it is. The image has more.
        let entry = |run: &Region| {
            let covered = |mark: &&Mark| mark.first <= run.address && mark.last >= run.last();
            let mut touching = known.touching(run.address, run.last()).into_iter();
            (isolated && shown(run.address) && shown(run.last()))
                || touching.any(|mark| mark.kind == Kind::EntryText && covered(&mark))
        };
        let distances = shape::distances(all, &entry);

        let targets = found.gates.iter().map(|gate| gate.target);
        let targets: Vec<u64> = targets.chain(syscalls.iter().copied()).collect();
        let slide = with.map(|symbols| slide::vote(symbols, &targets, scene.kernel));
        if let (Some(symbols), Some(slide)) = (with, slide) {
            marks.extend(symbol_marks(symbols, &slide));
        }
        let in_kernel = scene.cpus.iter().filter(|cpu| cpu.cpl == 0).map(|cpu| cpu.rsp);
        let in_kernel: Vec<u64> = in_kernel.collect();
        let mut names = Names {
            marks: Marks::new(marks.clone()),
            gates: found.gates,
            syscalls,
            stacks: found.stacks,
            slide,
            symbols: with,
            distances,
        };
        for (runs, space) in [(scene.visible, scene.user), (scene.hidden, scene.kernel)] {
            let skip = |run: &Region| {
                names.marks.touching(run.address, run.last()).iter().any(|mark| is_stack(mark))
                    || names.distances.kind(run).is_some()
            };
            let stacks = shape::task_stacks(runs, space, &in_kernel, &skip);
            let stack = |(first, bytes)| Mark::new(first, bytes, Kind::TaskStack, "task stack");
            marks.extend(stacks.into_iter().map(stack));
        }
        // Per-CPU data is named last: within the direct map or a stack's page it says little.
        marks.extend(per_cpu(scene));
        names.marks = Marks::new(marks);
        names
    }

    /// Splits and names runs that `space` shows, ascending.
    pub fn name(&self, runs: Vec<Region>, space: &Tables) -> Vec<Region> {
        let espfix = shape::espfix(&runs);
        let physical = |address| space.translate(address).map(|page| page.physical);
        let mut named = Vec::with_capacity(runs.len());
        for run in &runs {
            let background = self.background(run, &espfix);
            let direct = matches!(background, Some(Kind::DirectMap));
            for (mut region, marks) in self.marks.split(run, &physical) {
                let marks: Vec<&Mark> =
                    marks.into_iter().filter(|mark| !(direct && minor(mark))).collect();
                region.name = mark::name(&marks).or_else(|| self.plain(&region, background));
                self.add_symbol(&mut region);
                push(&mut named, region);
            }
        }
        name_aliases(&mut named);
        merge_espfix(named)
    }

    /// What a run is as a whole.
    fn background(&self, run: &Region, espfix: &HashSet<u64>) -> Option<Kind> {
        if run.repeats.is_some() || (run.pages <= 512 && espfix.contains(&run.physical)) {
            let rights = run.rights;
            return (!rights.writable && !rights.executable).then_some(Kind::Espfix);
        }
        self.distances.kind(run)
    }

    /// The name of what no mark names.
    fn plain(&self, region: &Region, background: Option<Kind>) -> Option<Name> {
        let rights = region.rights;
        let (kind, text) = match background {
            Some(Kind::Espfix) => (Kind::Espfix, "espfix stack"),
            Some(Kind::Image) if rights.executable => (Kind::Image, "kernel image: text"),
            Some(Kind::Image) if rights.writable => (Kind::Image, "kernel image: data"),
            Some(Kind::Image) => (Kind::Image, "kernel image: read-only data"),
            Some(Kind::DirectMap) => (Kind::DirectMap, "direct map"),
            _ if rights.user => return None,
            _ if rights.executable => {
                (Kind::Text, "executable; no way in that is known leads here")
            }
            _ => return None,
        };
        Some(Name { kind, text: text.into(), cpu: None, symbol: None })
    }

    /// Whether a run lies within the kernel image: at the image's distance between virtual and physical, near its text.
    pub fn is_in_image(&self, run: &Region) -> bool {
        self.distances.kind(run) == Some(Kind::Image)
    }

    /// Whether a run lies in the direct map.
    pub fn is_in_direct_map(&self, run: &Region) -> bool {
        self.distances.kind(run) == Some(Kind::DirectMap)
    }

    /// The nearest symbol before `address`, with its distance: `entry_SYSCALL_64+0x10`.
    pub fn symbol(&self, address: u64) -> Option<String> {
        let (symbols, slide) = (self.symbols?, self.slide?);
        let in_entry_text = self.marks.at(address, Kind::EntryText).is_some();
        let by = if in_entry_text { slide.entry } else { slide.image };
        let (name, distance) = symbols.nearest(address.wrapping_sub(by?))?;
        Some(if distance == 0 { name.into() } else { format!("{name}+{distance:#x}") })
    }

    fn add_symbol(&self, region: &mut Region) {
        let from_image = region.name.as_ref().is_none_or(|name| {
            matches!(name.kind, Kind::Image | Kind::EntryText | Kind::Text | Kind::Data)
        });
        if !from_image || region.name.as_ref().is_some_and(|name| name.symbol.is_some()) {
            return;
        }
        let Some(symbol) = self.symbol(region.address) else { return };
        // What comes before a long region says nothing about it.
        if symbol.contains('+') && region.pages > SYMBOL_PAGES {
            return;
        }
        match &mut region.name {
            Some(name) => name.symbol = Some(symbol),
            None => {
                let kind = Kind::Data;
                let name = Name { kind, text: symbol.clone(), cpu: None, symbol: Some(symbol) };
                region.name = Some(name);
            }
        }
    }
}

fn is_stack(mark: &Mark) -> bool {
    matches!(mark.kind, Kind::EntryStack | Kind::InterruptStack | Kind::TaskStack)
}

/// What does not take a page of the direct map out of it: there everything has its second address.
fn minor(mark: &Mark) -> bool {
    mark.kind != Kind::EntryText
}

/// Where GS points to, in the kernel.
fn per_cpu(scene: &Scene) -> Vec<Mark> {
    let mut marks = Vec::new();
    for cpu in scene.cpus {
        for base in [cpu.gs_base, cpu.kernel_gs_base].into_iter().flatten() {
            if (base as i64) < 0 && scene.kernel.is_supervisor(base) {
                marks.push(Mark::new(base, 8, Kind::PerCpu, "per-CPU data").of(cpu.index));
            }
        }
    }
    marks
}

/// Ranges that Linux has symbols for.
fn symbol_marks(symbols: &Symbols, slide: &Slide) -> Vec<Mark> {
    let mut marks = Vec::new();
    let range = |first: &str, end: &str, by: u64| {
        let (first, end) = (symbols.address(first)?, symbols.address(end)?);
        let bytes = end.checked_sub(first).filter(|bytes| *bytes > 0 && *bytes <= 1 << 30)?;
        Some((first.wrapping_add(by), bytes))
    };
    if let Some(by) = slide.entry
        && let Some((first, bytes)) = range("__entry_text_start", "__entry_text_end", by)
    {
        let mut mark = Mark::new(first, bytes, Kind::EntryText, "entry text");
        mark.symbol = Some("__entry_text_start".into());
        marks.push(mark);
    }
    marks
}

/// A region that continues the one before it under the same name is not told twice.
fn push(named: &mut Vec<Region>, region: Region) {
    if let Some(last) = named.last_mut()
        && last.name == region.name
        && last.rights == region.rights
        && last.page_size == region.page_size
        && last.repeats.is_none()
        && region.repeats.is_none()
        && last.contiguous
        && region.contiguous
        && last.last().wrapping_add(1) == region.address
        && last.physical.wrapping_add(last.bytes) == region.physical
    {
        last.bytes += region.bytes;
        last.pages += region.pages;
        return;
    }
    named.push(region);
}

/// Puts espfix stacks that show the same memory at equal distances together: the first stays, the others repeat it.
fn merge_espfix(regions: Vec<Region>) -> Vec<Region> {
    let mut merged: Vec<Region> = Vec::with_capacity(regions.len());
    for region in regions {
        let espfix = region.name.as_ref().is_some_and(|name| name.kind == Kind::Espfix);
        let single = espfix && region.pages == 1;
        let count = merged.len();
        if let Some(last) = merged.last_mut()
            && single
            && last.name == region.name
            && last.physical == region.physical
            && last.rights == region.rights
            && last.page_size == region.page_size
        {
            let own_repeats =
                last.repeats.is_some() && count > 1 && last.page_size * last.pages < last.bytes;
            match (last.repeats, last.pages) {
                // The second of all begins the list of repetitions.
                (None, 1) => {
                    let first = Some(last.address);
                    merged.push(Region { repeats: first, contiguous: false, ..region });
                    continue;
                }
                (Some(_), pages) if pages == 1 || own_repeats => {
                    last.bytes = region.last() - last.address + 1;
                    last.pages += 1;
                    continue;
                }
                _ => {}
            }
        }
        merged.push(region);
    }
    merged
}

/// Pages of a region that may be an alias of something small.
const ALIAS_PAGES: u64 = 16;

/// Memory that has a name of its own elsewhere, and none or that of a linear map here, is called after that.
fn name_aliases(regions: &mut [Region]) {
    let structure = |kind| {
        use Kind::*;
        matches!(kind, Idt | Gdt | Tss | GdtAndTss | Ldt | EntryStack | InterruptStack | TaskStack)
    };
    let original = |region: &Region| {
        let name = region.name.clone().filter(|name| structure(name.kind))?;
        let small = region.contiguous && region.pages <= ALIAS_PAGES;
        small.then_some((region.physical, region.bytes, name))
    };
    let mut originals: Vec<(u64, u64, Name)> = regions.iter().filter_map(original).collect();
    originals.sort_by_key(|original| original.0);
    for region in
        regions.iter_mut().filter(|region| region.pages <= ALIAS_PAGES || region.repeats.is_some())
    {
        let after = originals.partition_point(|original| original.0 <= region.physical);
        let Some((first, bytes, name)) = after.checked_sub(1).map(|index| &originals[index]) else {
            continue;
        };
        let one = if region.repeats.is_some() { region.page_size } else { region.bytes };
        if region.physical - first >= *bytes || one > *bytes - (region.physical - first) {
            continue;
        }
        let (kind, text) = match region.name.as_ref().map(|name| name.kind) {
            Some(Kind::Espfix) => (Kind::Espfix, format!("espfix: {} again", name.text)),
            Some(Kind::DirectMap) => (name.kind, format!("{} again, in the direct map", name.text)),
            Some(Kind::Image) => (name.kind, format!("{} again, in the kernel image", name.text)),
            None => (name.kind, format!("{} again", name.text)),
            Some(_) => continue,
        };
        region.name = Some(Name { kind, text, ..name.clone() });
    }
}
