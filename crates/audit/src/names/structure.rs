//! Names that follow from the CPU's registers and from the structures that they name: no symbol, no kernel.
//!
//! ```text
//!   IDTR ──► IDT ──► gates ──► entry text      LSTAR ──► entry text
//!   GDTR ──► GDT          '──► IST n ─┐
//!   TR   ──► TSS ──► IST1..7 ─────────┴──► stacks, by the vectors that use them
//!              '──► RSP0 ──► entry stack
//! ```
//!
//! RSP1 and RSP2 count as data: no 64-bit kernel uses rings 1 and 2, and Linux has kept other things there.
//!
//! Intel SDM vol. 3, 2.4 (registers), 3.5 (tables), 6.14.5 (IST), 8.7 (TSS).

use crate::cpu::Cpu;
use crate::document::Kind;
use crate::names::gates::{Gate, gates, list, vector_name};
use crate::names::mark::{Mark, Marks};
use crate::tables::Tables;

const PAGE: u64 = 4096;
/// Bytes of a 64-bit TSS before its I/O permission bitmap.
pub const TSS_BYTES: u64 = 104;
/// The CPU's limits on tables: 256 gates; 8192 descriptors; a TSS with two bitmaps and the kernel's own words.
const IDT_MOST: u64 = 4096;
const DESCRIPTORS_MOST: u64 = 1 << 16;
const TSS_MOST: u64 = 1 << 16;
/// Offsets in the TSS.
const RSP0: u64 = 4;
const IST1: u64 = 36;
/// Stacks are followed down this far to a page that cannot be part of them.
const STACK_PAGES: u64 = 8;
/// More CPUs, and more different IDTs, than this are not looked at.
const CPUS_MOST: usize = 512;
const IDTS_MOST: usize = 16;

/// What a root shows of the CPUs' structures.
#[derive(Clone, Debug, Default)]
pub struct Structures {
    /// All ranges found.
    pub marks: Vec<Mark>,
    /// All present gates, each IDT once.
    pub gates: Vec<Gate>,
    /// Stack tops: address, the CPU's number, and 0 for RSP0 or 1 to 7 for the IST.
    pub stacks: Vec<(u64, u32, u8)>,
}

/// Finds the structures of `cpus` in `space`. `same_root` says which of them run under this very root: only those
/// share its LDT, because another process may have another table at the same address.
pub fn find(space: &Tables, cpus: &[Cpu], same_root: &dyn Fn(&Cpu) -> bool) -> Structures {
    let mut found = Structures::default();
    let mut seen = Vec::new();
    for cpu in cpus.iter().take(CPUS_MOST) {
        let bytes = |limit: u32, most: u64| (u64::from(limit) + 1).min(most);
        let mut add = |base: u64, bytes: u64, kind, what: &str| {
            if space.translate(base).is_some() {
                found.marks.push(Mark::new(base, bytes, kind, what).of(cpu.index));
            }
        };
        if cpu.idt.base != 0 {
            add(cpu.idt.base, bytes(cpu.idt.limit, IDT_MOST), Kind::Idt, "IDT");
        }
        if cpu.gdt.base != 0 {
            add(cpu.gdt.base, bytes(cpu.gdt.limit, DESCRIPTORS_MOST), Kind::Gdt, "GDT");
        }
        if cpu.tss.base != 0 {
            add(cpu.tss.base, bytes(cpu.tss.limit, TSS_MOST).max(TSS_BYTES), Kind::Tss, "TSS");
        }
        if cpu.ldt.base != 0 && same_root(cpu) {
            add(cpu.ldt.base, bytes(cpu.ldt.limit, DESCRIPTORS_MOST), Kind::Ldt, "LDT");
        }
        // A CPU that was not started has none.
        if cpu.idt.base != 0 && !seen.contains(&cpu.idt) && seen.len() < IDTS_MOST {
            seen.push(cpu.idt);
            found.gates.extend(gates(space, cpu.idt));
        }
        found.stacks.extend(stack_tops(space, cpu));
    }
    found.stacks.sort_unstable();
    let known = Marks::new(found.marks.clone());
    let stacks: Vec<Mark> =
        found.stacks.iter().filter_map(|top| stack(space, *top, &found, &known)).collect();
    found.marks.extend(stacks);
    // One table for all is nobody's, though only one CPU may be there to say so.
    if seen.len() == 1 {
        let tables = found.marks.iter_mut().filter(|mark| mark.kind == Kind::Idt);
        tables.for_each(|mark| mark.cpu = None);
    }
    found
}

/// RSP0 and IST1 to IST7, as far as they lead to supervisor memory in the kernel half.
fn stack_tops(space: &Tables, cpu: &Cpu) -> Vec<(u64, u32, u8)> {
    let offsets = std::iter::once(RSP0).chain((0..7).map(|index| IST1 + 8 * index));
    let top = |(offset, index): (u64, u8)| {
        let top = space.word(cpu.tss.base.wrapping_add(offset))?;
        let used = space.translate(top.wrapping_sub(8))?;
        let kernel = (top as i64) < 0 && !used.rights.user;
        kernel.then_some((top, cpu.index, index))
    };
    if cpu.tss.base == 0 {
        return Vec::new();
    }
    offsets.zip(0..).filter_map(top).collect()
}

/// The extent of a stack: down from its top to another stack's top, to something else that is known, to a page that
/// cannot be written, or to a hole. Where none of these comes soon, nothing is said but its first page.
fn stack(space: &Tables, top: (u64, u32, u8), found: &Structures, known: &Marks) -> Option<Mark> {
    let (address, cpu, index) = top;
    let last = address.wrapping_sub(1);
    let mut first = address.wrapping_sub(8) & !(PAGE - 1);
    // The tops whose stacks end in a page: above its first byte, up to the first of the next page.
    let tops = |from: u64, to: u64| {
        let after = found.stacks.partition_point(|(top, ..)| *top <= from);
        found.stacks[after..].iter().map(|(top, ..)| *top).take_while(move |top| *top <= to)
    };
    let other = |page: u64| {
        known.touches(page, page + (PAGE - 1))
            || tops(page, page.saturating_add(PAGE)).any(|top| top != address)
    };
    let mut low = first;
    for step in 0..=STACK_PAGES {
        let next = first.checked_sub(PAGE * (step + 1))?;
        let goes_on =
            space.translate(next).is_some_and(|page| page.rights.writable && !page.rights.user);
        if !goes_on || other(next) || other(low) {
            first = low;
            break;
        }
        low = next;
    }
    // Of several stacks in one page each has what is above the next lower top.
    let lower = tops(first, address - 1).last();
    let first = lower.unwrap_or(first);
    let bytes = last.wrapping_sub(first).wrapping_add(1);
    // An entry stack holds a frame or two. What is longer is a stack to run a system call on.
    let mark = match index {
        0 if bytes > PAGE => Mark::new(first, bytes, Kind::TaskStack, "task stack that RSP0 names"),
        0 => Mark::new(first, bytes, Kind::EntryStack, "entry stack"),
        _ => Mark::new(first, bytes, Kind::InterruptStack, stack_name(index, &found.gates)),
    };
    Some(mark.of(cpu))
}

/// An interrupt stack is called after the vectors that use it.
fn stack_name(index: u8, gates: &[Gate]) -> String {
    let mut vectors: Vec<u8> =
        gates.iter().filter(|gate| gate.stack == index).map(|gate| gate.vector).collect();
    vectors.sort_unstable();
    vectors.dedup();
    match vectors.len() {
        0 => format!("unused IST{index} stack"),
        1..=4 => {
            format!("{} stack", list(&vectors.into_iter().map(vector_name).collect::<Vec<_>>()))
        }
        many => format!("IST{index} stack of {many} vectors"),
    }
}
