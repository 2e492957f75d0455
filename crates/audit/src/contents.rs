//! What stands in the memory that user mode's tables show: pointers to what they do not show, and whatever else is
//! there without need.
//!
//! ```text
//!   IDT, GDT    gates and descriptors, field by field: addresses are not stored in one piece there
//!   the rest    every eight bytes, at any alignment
//!   stacks      what entries left behind, but for the frame that the last IRETQ itself popped
//! ```
//!
//! A pointer is the address of memory that only the kernel's root maps, or the address just past such memory: that is
//! what the top of a stack looks like. Memory under several addresses is searched once.

use std::collections::HashSet;

use crate::document::{Filled, Kind, Region, View};
use crate::names::Names;
use crate::names::shape::user_frame;
use crate::tables::Tables;

const PAGE: u64 = 4096;
/// The last address. A range without an end would step past it.
const LAST: u64 = u64::MAX;
/// Bytes that are read at once, and with them how much more, so that no word is cut.
const CHUNK: usize = 1 << 16;
const WORD: usize = 8;
/// Bytes that are searched in one look; kernels that show more are not isolated.
const SEARCHED_MOST: u64 = 256 << 20;
/// Pointers and places that are kept; all are counted.
const KEPT: usize = 256;
/// Addresses that are tried: memory full of what looks like addresses is no reason to take all day.
const TRIED_MOST: u64 = 1 << 23;
/// Descriptors that are looked at in one view.
const DESCRIPTORS_MOST: usize = 1 << 16;
/// Stretches that are kept of one region's contents.
const STRETCHES: usize = 64;
/// The frame that IRETQ pops, and one register that has to be restored after the way out switched tables.
const EXIT_FRAME: u64 = 48;

/// Eight bytes in visible memory that are the address of kernel-only memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Virtual address of the eight bytes, or of the gate or descriptor that holds them in parts.
    pub at: u64,
    /// What they say.
    pub value: u64,
}

/// What is left in a region, besides what the CPU needs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// First address of the region.
    pub region: u64,
    /// What kind of region it is, if that is known.
    pub kind: Option<Kind>,
    /// Bytes that are not zero.
    pub bytes: u64,
    /// Stretches of words that are not zero, address and length, the first of them only.
    pub stretches: Vec<(u64, u64)>,
}

/// Executable memory beyond entry text, on the entry text's own pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// First address of the region.
    pub region: u64,
    /// Bytes of it that no way in leads to.
    pub bytes: u64,
    /// Those of them that are no padding: neither 0, nor NOP, nor INT3.
    pub code: u64,
    /// Stretches of those, address and length, the first of them only.
    pub stretches: Vec<(u64, u64)>,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The first pointers, by address.
    pub pointers: Vec<Pointer>,
    /// How many there are.
    pub pointer_count: u64,
    /// Regions with contents that nothing declares.
    pub remains: Vec<Remains>,
    /// Entry text's pages with more than entry text.
    pub beyond: Vec<Beyond>,
    /// Where pages that cannot be executed are not zero, declared or not, by address: for [`View::filled`].
    pub filled: Vec<Filled>,
    /// There was more memory than is searched.
    pub cut_short: bool,
}

/// What all searches of one look may cost together.
pub struct Effort {
    /// Bytes that may still be searched.
    bytes: u64,
    /// Addresses that may still be tried.
    tries: u64,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { bytes: SEARCHED_MOST, tries: TRIED_MOST }
    }
}

/// Searches the named supervisor regions of a user root, ascending. Without a kernel root nothing is a pointer.
pub fn search(
    user: &Tables,
    kernel: Option<&Tables>,
    visible: &[Region],
    names: &Names,
    effort: &mut Effort,
) -> Contents {
    let mut search =
        Search { user, kernel, names, found: Contents::default(), seen: HashSet::new(), effort };
    // What has marks of its own goes first: an alias has none to say which of its bytes the CPU needs.
    let marked = |region: &&Region| !names.marks.touching(region.address, region.last()).is_empty();
    let (first, second): (Vec<&Region>, Vec<&Region>) =
        visible.iter().filter(|region| region.repeats.is_none()).partition(marked);
    for region in first.into_iter().chain(second) {
        if region.bytes > search.effort.bytes {
            search.found.cut_short = true;
            continue;
        }
        search.effort.bytes -= region.bytes;
        search.region(region);
    }
    search.gates(visible);
    search.found.cut_short |= search.effort.tries == 0;
    search.found.pointers.sort_unstable_by_key(|pointer| pointer.at);
    search.found.filled.sort_unstable_by_key(|filled| filled.address);
    search.found
}

struct Search<'a> {
    user: &'a Tables<'a>,
    kernel: Option<&'a Tables<'a>>,
    names: &'a Names<'a>,
    found: Contents,
    /// Physical addresses and sizes of pages that were searched.
    seen: HashSet<(u64, u64)>,
    effort: &'a mut Effort,
}

/// What a region's bytes are measured against.
struct Tally {
    remains: Remains,
    beyond: Beyond,
}

impl Search<'_> {
    fn region(&mut self, region: &Region) {
        let kind = region.name.as_ref().map(|name| name.kind);
        let mut tally = Tally {
            remains: Remains { region: region.address, kind, bytes: 0, stretches: Vec::new() },
            beyond: Beyond { region: region.address, bytes: 0, code: 0, stretches: Vec::new() },
        };
        for page in (0..region.pages).map(|page| region.address + page * region.page_size) {
            let physical = self.user.translate(page).map(|page| page.physical);
            let Some(physical) = physical else { continue };
            // A large page may begin where a small one does.
            let new = self.seen.insert((physical, region.page_size));
            if new || !region.rights.executable {
                self.page(page, region, new.then_some(&mut tally));
            }
        }
        if tally.remains.bytes > 0 {
            self.found.remains.push(tally.remains);
        }
        if tally.beyond.bytes > 0 {
            self.found.beyond.push(tally.beyond);
        }
    }

    fn page(&mut self, page: u64, region: &Region, mut tally: Option<&mut Tally>) {
        let size = region.page_size as usize;
        let declared = self.declared(page, region.page_size);
        let mut buffer = vec![0; (CHUNK + WORD).min(size)];
        for offset in (0..size).step_by(CHUNK) {
            // The first bytes of the next chunk belong to words that begin in this one.
            let here = (size - offset).min(CHUNK + WORD - 1);
            let chunk = &mut buffer[..here];
            let address = page + offset as u64;
            if !self.user.read(address, chunk) {
                continue;
            }
            let own = &chunk[..CHUNK.min(here)];
            if !region.rights.executable {
                fill(address, own, &mut self.found.filled);
            }
            // Memory that was searched under another address is only looked at for what is not zero.
            let Some(tally) = tally.as_deref_mut() else { continue };
            self.pointers(address, chunk, own.len(), &declared);
            if region.rights.executable {
                if tally.remains.kind == Some(Kind::EntryText) {
                    count_code(address, own, &declared, &mut tally.beyond);
                }
            } else {
                count_remains(address, own, &declared, &mut tally.remains);
            }
        }
    }

    /// Ranges of a page whose contents the CPU needs or makes itself, first and last address, and whether they are
    /// tables whose fields are looked at one by one.
    fn declared(&self, page: u64, size: u64) -> Vec<(u64, u64, bool)> {
        let marks = self.names.marks.touching(page, page + (size - 1)).into_iter();
        let needed = marks.filter(|mark| {
            let kinds =
                [Kind::Idt, Kind::Gdt, Kind::Tss, Kind::Ldt, Kind::EntryText, Kind::Vsyscall];
            kinds.contains(&mark.kind)
        });
        let fields = |kind| matches!(kind, Kind::Idt | Kind::Gdt | Kind::Ldt);
        let mut ranges: Vec<(u64, u64, bool)> =
            needed.map(|mark| (mark.first, mark.last, fields(mark.kind))).collect();
        for (top, ..) in self.names.stacks.iter().filter(|(_, _, index)| *index == 0) {
            let inside = top.wrapping_sub(8).wrapping_sub(page) < size;
            if inside && self.is_own_exit(*top) {
                ranges.push((top.wrapping_sub(EXIT_FRAME), top.wrapping_sub(1), false));
            }
        }
        ranges
    }

    /// Whether the frame below an entry stack's top is one that took this very program to where it is: nobody can
    /// clear what IRETQ pops.
    fn is_own_exit(&self, top: u64) -> bool {
        let Some([rip, ..]) = user_frame(self.user, top) else { return false };
        self.user.translate(rip).is_some_and(|page| page.rights.user && page.rights.executable)
    }

    /// Adds every pointer that begins in the first `own` bytes of a chunk.
    fn pointers(&mut self, address: u64, chunk: &[u8], own: usize, declared: &[(u64, u64, bool)]) {
        for (word, at) in chunk.windows(WORD).take(own).zip(address..=LAST) {
            // The top byte of every address of the kernel half, with four or five levels.
            if word[WORD - 1] != 0xff || self.effort.tries == 0 {
                continue;
            }
            self.effort.tries -= 1;
            let value = u64::from_le_bytes(word.try_into().expect("windows of eight"));
            let last = at + (WORD as u64 - 1);
            let in_table = |range: &(u64, u64, bool)| range.2 && range.0 <= at && last <= range.1;
            let in_table = declared.iter().any(in_table);
            if !in_table && self.is_secret(value) && !self.is_in_task_descriptor(at) {
                self.add(Pointer { at, value });
            }
        }
    }

    /// Adds the gates' targets and the descriptors' bases that are kernel-only, of tables that can be seen.
    fn gates(&mut self, visible: &[Region]) {
        let shown = |address: u64| {
            let after = visible.partition_point(|region| region.address <= address);
            after > 0 && visible[after - 1].contains(address)
        };
        let gates: Vec<Pointer> = self
            .names
            .gates
            .iter()
            .filter(|gate| shown(gate.address))
            .map(|gate| Pointer { at: gate.address, value: gate.target })
            .collect();
        let mut found: Vec<Pointer> = gates;
        let tables = self.names.marks.iter().filter(|mark| mark.kind == Kind::Gdt);
        let words = tables.flat_map(|mark| (mark.first..=mark.last).step_by(WORD));
        for at in words.take(DESCRIPTORS_MOST).filter(|at| shown(*at)) {
            found.extend(self.system_base(at).map(|value| Pointer { at, value }));
        }
        for pointer in found {
            if self.is_secret(pointer.value) {
                self.add(pointer);
            }
        }
    }

    /// Whether the eight bytes begin in the first half of a TSS's descriptor, that of a CPU whose registers are not known.
    ///
    /// Bytes 4 to 11 are the base's bits 16 to 23, type and limit, and the base from bit 24 up: they read as an address
    /// at 8Bxx in the TSS's own 16 MiB. All that is fixed in a descriptor must be right, and its TSS be visible.
    fn is_in_task_descriptor(&self, at: u64) -> bool {
        /// Type 9 or 11, present, for ring 0 alone, its limit in bytes.
        const FIXED: u64 = 0xf0_fd00_0000_0000;
        const TASK: u64 = 0x8900_0000_0000;
        const LEAST_LIMIT: u64 = 0x67;
        let first = at & !7;
        let words = (self.user.word(first), self.user.word(first.wrapping_add(8)));
        let (Some(low), Some(high)) = words else { return false };
        let fixed = low & FIXED == TASK && high >> 32 == 0;
        let limit = (low & 0xffff) | (low >> 32 & 0xf_0000);
        let task = self.system_base(first).and_then(|base| self.user.translate(base));
        at != first && fixed && limit >= LEAST_LIMIT && task.is_some_and(|page| !page.rights.user)
    }

    /// The base in a descriptor of a TSS or an LDT: Intel SDM vol. 3, figure 8-4.
    fn system_base(&self, at: u64) -> Option<u64> {
        let low = self.user.word(at)?;
        // S clear; LDT, available and busy TSS.
        if !matches!((low >> 40) & 0x1f, 2 | 9 | 11) || low & (1 << 47) == 0 {
            return None;
        }
        let high = self.user.word(at.wrapping_add(8))?;
        Some(((low >> 16) & 0xff_ffff) | ((low >> 32) & 0xff00_0000) | (high << 32))
    }

    fn add(&mut self, pointer: Pointer) {
        self.found.pointer_count += 1;
        if self.found.pointers.len() < KEPT {
            self.found.pointers.push(pointer);
        }
    }

    /// Whether an address is that of kernel-only memory, or just past it.
    fn is_secret(&self, address: u64) -> bool {
        let shown = |address| self.user.translate(address).is_some();
        let Some(kernel) = self.kernel else { return false };
        let hidden = |address| kernel.is_supervisor(address) && !shown(address);
        hidden(address) || (!shown(address) && hidden(address.wrapping_sub(1)))
    }
}

/// Whether an address is in one of the ranges.
fn holds(ranges: &[(u64, u64, bool)], address: u64) -> bool {
    ranges.iter().any(|range| range.0 <= address && address <= range.1)
}

fn count_remains(address: u64, own: &[u8], declared: &[(u64, u64, bool)], remains: &mut Remains) {
    for (word, at) in own.chunks(WORD).zip((address..=LAST).step_by(WORD)) {
        if word.iter().all(|byte| *byte == 0) {
            continue;
        }
        let counted = word.iter().zip(at..=LAST);
        let counted = counted.filter(|(byte, at)| **byte != 0 && !holds(declared, *at)).count();
        remains.bytes += counted as u64;
        if counted == 0 {
            continue;
        }
        stretch(&mut remains.stretches, at, WORD as u64);
    }
}

/// Adds bytes to the last of some stretches if they follow it, else as a new one.
fn stretch(stretches: &mut Vec<(u64, u64)>, at: u64, length: u64) {
    let known = stretches.len();
    match stretches.last_mut() {
        Some((first, bytes)) if first.wrapping_add(*bytes) == at => *bytes += length,
        _ if known < STRETCHES => stretches.push((at, length)),
        _ => {}
    }
}

/// Whether an address behind a stretch is near enough to belong to it.
fn near(last: &Filled, at: u64) -> bool {
    let behind = at.wrapping_sub(last.address);
    behind >= last.bytes && behind - last.bytes < Filled::GAP
}

/// Adds the stretches of bytes that are not zero.
fn fill(address: u64, own: &[u8], filled: &mut Vec<Filled>) {
    for (word, start) in own.chunks(WORD).zip((address..=LAST).step_by(WORD)) {
        if word.iter().all(|byte| *byte == 0) {
            continue;
        }
        for at in word.iter().zip(start..=LAST).filter(|(byte, _)| **byte != 0).map(|(_, at)| at) {
            let known = filled.len();
            match filled.last_mut() {
                Some(last) if near(last, at) => {
                    last.bytes = at - last.address + 1;
                }
                _ if known < View::FILLED => filled.push(Filled { address: at, bytes: 1 }),
                _ => return,
            }
        }
    }
}

/// Counts by 4 KiB pages: entry text has no bounds that are finer.
fn count_code(address: u64, own: &[u8], declared: &[(u64, u64, bool)], beyond: &mut Beyond) {
    for (bytes, at) in own.chunks(PAGE as usize).zip((address..=LAST).step_by(PAGE as usize)) {
        let end = at + (PAGE - 1);
        if declared.iter().any(|range| range.0 <= end && range.1 >= at) {
            continue;
        }
        beyond.bytes += bytes.len() as u64;
        let padding = |byte: &&u8| matches!(byte, 0 | 0x90 | 0xcc);
        for (_, at) in bytes.iter().zip(at..=LAST).filter(|(byte, _)| !padding(byte)) {
            beyond.code += 1;
            stretch(&mut beyond.stretches, at, 1);
        }
    }
}

#[cfg(test)]
mod tests;
