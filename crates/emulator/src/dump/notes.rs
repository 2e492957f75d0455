//! The registers in the notes of a core that QEMU made.
//!
//! Beside the general registers, which every core has, QEMU writes one note per CPU, named `QEMU`, with everything that
//! says where page tables and descriptor tables are. Version 1 of its contents, low byte first:
//!
//! ```text
//!     0  version, size                      4 bytes each; the size is the whole note's
//!     8  RAX RBX RCX RDX RSI RDI RSP RBP R8 ... R15 RIP RFLAGS
//!   152  CS DS ES FS GS SS LDT TR GDT IDT   24 bytes each: selector, limit, flags, padding, base (8 bytes)
//!   392  CR0 CR1 CR2 CR3 CR4
//!   432  IA32_KERNEL_GS_BASE                where the size says that it is there
//! ```

use object::elf::FileHeader64;
use object::endian::LittleEndian;
use object::read::elf::NoteIterator;

use crate::{Registers, Table};

const VERSION: u32 = 1;
const RSP: usize = 8 + 6 * 8;
const RIP: usize = 8 + 16 * 8;
const SEGMENTS: usize = 152;
const SEGMENT: usize = 24;
const CONTROL: usize = 392;
const KERNEL_GS_BASE: usize = 432;
/// RPL of CS is the privilege level that the CPU runs at.
const RPL: u64 = 3;
/// More CPUs than QEMU's machines take.
const MOST_CPUS: usize = 4096;

/// Positions in the row of segments.
mod segment {
    pub const CS: usize = 0;
    pub const GS: usize = 4;
    pub const LDT: usize = 6;
    pub const TR: usize = 7;
    pub const GDT: usize = 8;
    pub const IDT: usize = 9;
}

/// Every CPU that the notes tell of, in their order, which is that of QEMU's numbers. What is cut off or of another
/// version is passed over.
pub(super) fn registers(notes: &[u8], align: u64) -> Vec<Registers> {
    let found = NoteIterator::<FileHeader64<LittleEndian>>::new(LittleEndian, align, notes);
    let notes = found.into_iter().flatten().map_while(Result::ok);
    let states = notes.filter(|note| note.name() == b"QEMU").map(|note| note.desc());
    let cpus = states.filter_map(state).take(MOST_CPUS);
    cpus.zip(0..).map(|(cpu, index)| Registers { index, ..cpu }).collect()
}

fn state(note: &[u8]) -> Option<Registers> {
    let half = |at: usize| Some(u32::from_le_bytes(*note.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u64::from_le_bytes(*note.get(at..)?.first_chunk()?));
    if half(0)? != VERSION {
        return None;
    }
    let size = half(4)? as usize;
    let at = |number: usize| SEGMENTS + number * SEGMENT;
    let table =
        |number: usize| Some(Table { base: word(at(number) + 16)?, limit: half(at(number) + 4)? });
    let control = |number: usize| word(CONTROL + number * 8);
    Some(Registers {
        index: 0,
        cpl: (u64::from(half(at(segment::CS))?) & RPL) as u8,
        halted: false,
        rip: word(RIP)?,
        rsp: word(RSP)?,
        cr0: control(0)?,
        cr2: control(2)?,
        cr3: control(3)?,
        cr4: control(4)?,
        efer: None,
        gs_base: word(at(segment::GS) + 16),
        kernel_gs_base: word(KERNEL_GS_BASE).filter(|_| size >= KERNEL_GS_BASE + 8),
        lstar: None,
        gdt: table(segment::GDT)?,
        idt: table(segment::IDT)?,
        tss: table(segment::TR)?,
        ldt: table(segment::LDT)?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A note with each word's own offset in it, but version, size and CS.
    pub fn note(size: usize) -> Vec<u8> {
        let mut state: Vec<u8> = (0..size as u64).step_by(8).flat_map(u64::to_le_bytes).collect();
        state[..4].copy_from_slice(&VERSION.to_le_bytes());
        state[4..8].copy_from_slice(&(size as u32).to_le_bytes());
        state[SEGMENTS..SEGMENTS + 4].copy_from_slice(&0x33_u32.to_le_bytes());
        wrap(b"QEMU\0", &state)
    }

    pub fn wrap(name: &[u8], contents: &[u8]) -> Vec<u8> {
        let mut note = Vec::new();
        for word in [name.len(), contents.len(), 0] {
            note.extend((word as u32).to_le_bytes());
        }
        for part in [name, contents] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    #[test]
    fn each_register_is_read_from_its_place() {
        let mut notes = wrap(b"CORE\0", &[0; 336]);
        notes.extend(note(440));
        notes.extend(note(440));
        let cpus = registers(&notes, 0);
        assert_eq!(cpus.iter().map(|cpu| cpu.index).collect::<Vec<_>>(), [0, 1]);
        let cpu = cpus[1];
        assert_eq!((cpu.cpl, cpu.rip, cpu.rsp), (3, 136, 56));
        assert_eq!((cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4), (392, 408, 416, 424));
        assert_eq!((cpu.gs_base, cpu.kernel_gs_base), (Some(264), Some(432)));
        let bases = [cpu.ldt, cpu.tss, cpu.gdt, cpu.idt].map(|table| table.base);
        assert_eq!(bases, [312, 336, 360, 384]);
        assert_eq!((cpu.efer, cpu.lstar), (None, None));
    }

    #[test]
    fn an_older_note_has_no_kernel_gs_base() {
        let cpus = registers(&note(432), 4);
        assert_eq!(cpus.len(), 1);
        assert_eq!(cpus[0].kernel_gs_base, None);
    }

    #[test]
    fn what_is_cut_off_is_passed_over() {
        let whole = note(440);
        for length in 0..whole.len() {
            assert!(registers(&whole[..length], 0).is_empty(), "{length}");
        }
        assert!(registers(&whole, 3_000).is_empty());
        let mut other = whole;
        other[20] = 2;
        assert!(registers(&other, 0).is_empty(), "another version");
    }
}
