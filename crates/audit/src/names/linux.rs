//! What Linux alone has, at addresses that it has promised or always used.
//!
//! ```text
//!   0xfffffe0000000000  cpu entry area: the IDT's read-only alias, then for each CPU
//!                         GDT | entry stack | TSS | hole DF hole NMI hole DB hole MCE hole VC .. | debug store
//!   0xffffffffff600000  vsyscall
//! ```
//!
//! That it is Linux is told by the IDT: no other kernel is known to have it there. Linux's Documentation/arch/x86
//! (x86_64/mm.rst, pti.rst) and asm/cpu_entry_area.h tell the rest.

use crate::cpu::Cpu;
use crate::document::{Kind, Region};
use crate::names::mark::{Mark, Marks};
use crate::names::shape::VSYSCALL;
use crate::tables::Tables;

const PAGE: u64 = 4096;
/// The cpu entry area: 512 GiB, the first page of which is the IDT's.
const AREA: u64 = 0xffff_fe00_0000_0000;
const AREA_BYTES: u64 = 1 << 39;
/// A CPU's part is no longer than this.
const CPU_BYTES: u64 = 64 * PAGE;

/// Whether the IDT is where Linux has had its read-only alias since 4.15.
pub fn is_linux(cpus: &[Cpu]) -> bool {
    cpus.iter().any(|cpu| cpu.idt.base == AREA)
}

/// Marks for what is Linux's.
pub fn marks(space: &Tables, runs: &[Region], cpus: &[Cpu], known: &[Mark]) -> Vec<Mark> {
    let mut marks = Vec::new();
    if space.translate(VSYSCALL).is_some() {
        marks.push(Mark::new(VSYSCALL, PAGE, Kind::Vsyscall, "vsyscall page"));
    }
    if is_linux(cpus) {
        marks.extend(rest_of_area(runs, cpus, known));
    }
    marks
}

/// Pages of the cpu entry area that nothing names belong to the CPU whose GDT is the last before them.
fn rest_of_area(runs: &[Region], cpus: &[Cpu], known: &[Mark]) -> Vec<Mark> {
    let mut bases: Vec<(u64, u32)> = cpus.iter().map(|cpu| (cpu.gdt.base, cpu.index)).collect();
    bases.sort_unstable();
    let known = Marks::new(known.to_vec());
    let inside =
        |run: &&Region| run.address.wrapping_sub(AREA) < AREA_BYTES && run.page_size == PAGE;
    let mut marks = Vec::new();
    for run in runs.iter().filter(inside) {
        for page in (0..run.pages.min(CPU_BYTES / PAGE)).map(|page| run.address + page * PAGE) {
            let before = bases.partition_point(|(base, _)| *base <= page);
            let Some((base, cpu)) = before.checked_sub(1).map(|index| bases[index]) else {
                continue;
            };
            let near = page - base < CPU_BYTES;
            if near && known.touching(page, page + (PAGE - 1)).is_empty() {
                let what = if run.rights.writable {
                    "debug store, or a stack without a vector, in the cpu entry area"
                } else {
                    "rest of the TSS in the cpu entry area"
                };
                marks.push(Mark::new(page, PAGE, Kind::Data, what).of(cpu));
            }
        }
    }
    marks
}
