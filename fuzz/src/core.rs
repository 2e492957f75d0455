//! Bytes as an ELF core: opened, its registers taken, its memory read as page tables would be.

use ringwall_emulator::{Core, Memory};

/// More tables than any seed has.
const MOST_TABLES: usize = 64;
const PAGE: usize = 4096;
/// An entry's physical address.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Opens the core and follows every CPU's CR3.
///
/// # Panics
///
/// When memory that was read is said not to be there, or the other way round.
pub fn run(bytes: &[u8]) {
    let Ok(core) = Core::from_bytes(bytes.to_vec()) else { return };
    let mut next: Vec<u64> = vec![0, 1, u64::MAX, u64::MAX - 7, 1 << 20];
    if let Ok(registers) = core.registers() {
        assert!(registers.iter().zip(0..).all(|(cpu, index)| cpu.index == index && cpu.cpl < 4));
        next.extend(registers.iter().take(MOST_TABLES).map(|cpu| cpu.cr3 & ADDRESS));
    }
    for _ in 0..MOST_TABLES {
        let Some(address) = next.pop() else { return };
        for length in [1, 8, PAGE] {
            let mut buffer = vec![0; length];
            let read = core.read(address, &mut buffer);
            assert_eq!(read, core.holds(address, length as u64), "{address:#x}, {length} bytes");
            if read {
                let words = buffer.as_chunks::<8>().0.iter().copied().map(u64::from_le_bytes);
                next.extend(
                    words.filter(|entry| entry & 1 != 0).map(|entry| entry & ADDRESS).take(8),
                );
            }
        }
    }
}
