//! Bases that a source has cut short.
//!
//! QEMU's listing of registers has no more than 32 bits of the bases of TR and LDTR while a CPU executes 32-bit code. The
//! GDT has all of them, in the descriptors that these registers were loaded from (Intel SDM vol. 3, 8.2.3): one with
//! the same low bits is it.

use crate::cpu::{Cpu, Table};
use crate::tables::Tables;

/// Types of system descriptors: SDM vol. 3, table 3-2.
const LDT: [u64; 1] = [2];
const TSS: [u64; 2] = [9, 11];
/// A GDT has no more bytes.
const MOST: usize = 1 << 16;
/// Bytes of a descriptor; system descriptors have two of these.
const DESCRIPTOR: usize = 8;

/// The CPU with whole bases, as far as the GDT can be read by one of `views`.
pub fn completed(views: &[Tables], cpu: &Cpu) -> Cpu {
    let mut cpu = cpu.clone();
    if is_cut(&cpu.tss) || is_cut(&cpu.ldt) {
        let mut gdt = vec![0; (cpu.gdt.limit as usize).saturating_add(1).min(MOST)];
        if views.iter().any(|tables| tables.read(cpu.gdt.base, &mut gdt)) {
            complete(&mut cpu.tss, &gdt, &TSS);
            complete(&mut cpu.ldt, &gdt, &LDT);
        }
    }
    cpu
}

/// No kernel has these structures so low.
fn is_cut(table: &Table) -> bool {
    table.base != 0 && table.base >> 32 == 0
}

fn complete(table: &mut Table, gdt: &[u8], types: &[u64]) {
    if !is_cut(table) {
        return;
    }
    let words = gdt.chunks_exact(DESCRIPTOR);
    let words: Vec<u64> = words.map(|word| word.try_into().map_or(0, u64::from_le_bytes)).collect();
    for pair in words.windows(2) {
        let (low, high) = (pair[0], pair[1] & 0xffff_ffff);
        // Bit 44 is clear in system descriptors, bit 47 set in present ones.
        let fits = low & (1 << 44) == 0 && low & (1 << 47) != 0;
        let base = (low >> 16 & 0xff_ffff) | (low >> 32 & 0xff00_0000);
        if fits && types.contains(&(low >> 40 & 0xf)) && base == table.base {
            table.base |= high << 32;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::{Guest, P};
    use crate::tables::TableCache;

    const GDT: u64 = 0xffff_ffff_f000_0000;

    /// A CPU in 32-bit code whose GDT holds a code segment, a busy TSS and an LDT.
    fn seen(tss: u64, ldt: u64) -> Cpu {
        let mut guest = Guest::new();
        guest.map(Guest::ROOT, GDT, 0x9000, P);
        let system = |base: u64, kind: u64| {
            let low = (base & 0xff_ffff) << 16 | (base & 0xff00_0000) << 32 | 0x67;
            (low | kind << 40 | 1 << 47, base >> 32)
        };
        let (tss_descriptor, ldt_descriptor) =
            (system(0xffff_fe00_1234_5678, 11), system(0xffff_fe80_8765_4000, 2));
        let words = [0, 0x00af_9b00_0000_ffff, tss_descriptor.0, tss_descriptor.1];
        for (word, at) in words.into_iter().chain([ldt_descriptor.0, ldt_descriptor.1]).zip(0..) {
            guest.write(0x9000 + at * 8, word);
        }
        let table = |base| Table { base, limit: 0x67 };
        let gdt = Table { base: GDT, limit: 47 };
        let cpu = Cpu { cr3: Guest::ROOT, gdt, tss: table(tss), ldt: table(ldt), ..Cpu::default() };
        let memory = guest.memory();
        let cache = TableCache::new(&memory);
        completed(&[Tables::new(&cache, cpu.cr3, cpu.paging())], &cpu)
    }

    #[test]
    fn what_was_cut_is_found_in_the_gdt() {
        let cpu = seen(0x1234_5678, 0x8765_4000);
        assert_eq!((cpu.tss.base, cpu.ldt.base), (0xffff_fe00_1234_5678, 0xffff_fe80_8765_4000));
    }

    #[test]
    fn what_is_whole_missing_or_somebody_elses_stays() {
        let cpu = seen(0xffff_8000_1234_5678, 0);
        assert_eq!((cpu.tss.base, cpu.ldt.base), (0xffff_8000_1234_5678, 0));
        assert_eq!(seen(0x1234_5679, 0).tss.base, 0x1234_5679);
    }
}
