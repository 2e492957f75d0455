//! Which processors ACPI's table of interrupt controllers names (MADT).
//!
//! Invariant: whatever the bytes are, reading them ends, and nothing outside them is read. (Firmware has been seen to get
//! an entry's length wrong.)
//!
//! ACPI 5.2.12 (the table), 5.2.12.2 (local APIC), 5.2.12.12 (local x2APIC).

/// Bytes of the table before its first entry.
const HEADER: usize = 44;
/// Entries of a processor whose identifier has 8 bits, and 32.
const LOCAL_APIC: u8 = 0;
const LOCAL_X2APIC: u8 = 9;
/// The processor is there.
const ENABLED: u32 = 1;
/// Identifiers from here on are not for the APIC's old mode.
const NARROW: u32 = 255;

/// The table is not what it says: entries may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

/// Calls `each` with the APIC identifier of each processor that is there, in the table's order. `table`: all its bytes.
/// `wide`: identifiers may have 32 bits (x2APIC mode). The identifier that means all processors is nobody's.
///
/// # Errors
/// [`Damaged`], after what came before the damage.
pub fn for_each(table: &[u8], wide: bool, mut each: impl FnMut(u32)) -> Result<(), Damaged> {
    let mut left = table.get(HEADER..).ok_or(Damaged)?;
    while let [kind, length, ..] = *left {
        let length = usize::from(length);
        let entry = left.get(..length).filter(|entry| entry.len() >= 2).ok_or(Damaged)?;
        left = &left[length..];
        let (id, flags, everybody) = match kind {
            LOCAL_APIC => (u32::from(*entry.get(3).ok_or(Damaged)?), word(entry, 4)?, NARROW),
            LOCAL_X2APIC => (word(entry, 4)?, word(entry, 8)?, u32::MAX),
            _ => continue,
        };
        if flags & ENABLED != 0 && id != everybody && (wide || id < NARROW) {
            each(id);
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Damaged) }
}

fn word(entry: &[u8], at: usize) -> Result<u32, Damaged> {
    let bytes = entry.get(at..).and_then(<[u8]>::first_chunk).ok_or(Damaged)?;
    Ok(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn narrow(id: u8, flags: u8) -> [u8; 8] {
        [LOCAL_APIC, 8, 0, id, flags, 0, 0, 0]
    }

    fn wide(id: u32) -> [u8; 16] {
        let mut entry = [0; 16];
        (entry[0], entry[1], entry[8]) = (LOCAL_X2APIC, 16, 1);
        entry[4..8].copy_from_slice(&id.to_le_bytes());
        entry
    }

    fn found(entries: &[&[u8]], x2apic: bool) -> (Vec<u32>, Result<(), Damaged>) {
        let mut table = Vec::from([0; HEADER]);
        entries.iter().for_each(|entry| table.extend_from_slice(entry));
        let mut ids = Vec::new();
        let result = for_each(&table, x2apic, |id| ids.push(id));
        (ids, result)
    }

    #[test]
    fn processors_that_are_there_are_found_in_order() {
        let io_apic: &[u8] = &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let entries: &[&[u8]] =
            &[&narrow(2, 1), &narrow(1, 0), io_apic, &narrow(0, 1), &wide(300), &wide(7)];
        assert_eq!(found(entries, true), ([2, 0, 300, 7].into(), Ok(())));
        assert_eq!(found(entries, false), ([2, 0, 7].into(), Ok(())));
        assert_eq!(found(&[], true), ([].into(), Ok(())));
    }

    /// A start command to such a one would reset every CPU, this one too.
    #[test]
    fn everybody_is_nobody() {
        let entries: &[&[u8]] = &[&narrow(255, 1), &wide(u32::MAX), &narrow(3, 1)];
        for x2apic in [false, true] {
            assert_eq!(found(entries, x2apic), ([3].into(), Ok(())));
        }
        assert_eq!(found(&[&wide(255)], true).0, [255], "a number as any other in x2APIC mode");
    }

    #[test]
    fn damage_ends_the_list() {
        let cases: [&[u8]; 6] = [
            &[0, 0],
            &[0, 1],
            &[0, 7, 0, 9, 1, 0, 0],
            &[9, 11, 0, 0, 9, 0, 0, 0, 1, 0, 0],
            &[0, 8, 0],
            &[5],
        ];
        for bad in cases {
            assert_eq!(found(&[&narrow(4, 1), bad], true), ([4].into(), Err(Damaged)), "{bad:?}");
        }
        assert_eq!(for_each(&[0; HEADER - 1], true, |_| ()), Err(Damaged));
    }

    #[test]
    fn any_bytes_end() {
        let mut state = 1u64;
        for length in 0..4096usize {
            let table: Vec<u8> = (0..length % 200)
                .map(|_| {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    // Small numbers make entries.
                    (state >> 60) as u8
                })
                .collect();
            let mut count = 0;
            let _ = for_each(&table, true, |_| count += 1);
            assert!(count <= table.len() / 8);
        }
    }
}
