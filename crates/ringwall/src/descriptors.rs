//! Segment and gate descriptors, and the selectors that name them.
//!
//! The selectors are Linux's, which programs can see: 0x33 and 0x2b in CS and SS.
//!
//! SDM vol. 3, 3.4.5 (segment descriptors), 6.14.1 (gates), 7.2.3 (64-bit TSS descriptor).

/// GDT selector of kernel code.
pub const KERNEL_CODE_SELECTOR: u16 = 0x10;
/// GDT selector of kernel data and stack: SYSCALL wants it after the code's.
pub const KERNEL_DATA_SELECTOR: u16 = 0x18;
/// GDT selector of 64-bit user code (RPL 3).
pub const USER_CODE_SELECTOR: u16 = 0x33;
/// GDT selector of user data and stack (RPL 3).
pub const USER_DATA_SELECTOR: u16 = 0x2b;
/// GDT selector of 32-bit user code (RPL 3): what STAR names for SYSRET, the others follow it.
pub const USER_CODE_32_SELECTOR: u16 = 0x23;
/// GDT selector of the TSS.
pub const TSS_SELECTOR: u16 = 0x40;

/// GDT selector of the LDT. Ring 3 cannot load it.
pub const LDT_SELECTOR: u16 = 0x50;
/// First of the GDT entries that belong to the running thread (Linux's GDT_ENTRY_TLS_MIN).
pub const THREAD_ENTRY: usize = 12;
/// How many there are.
pub const THREAD_ENTRIES: usize = 3;
/// GDT selector of a segment whose limit is the CPU's index (RPL 3): LSL gives it to ring 3.
pub const CPU_NUMBER_SELECTOR: u16 = 0x7b;

/// Descriptors in a GDT.
pub const GDT_ENTRIES: usize = 16;
/// Offset of the TSS in the page that it shares with the GDT.
pub const TSS_OFFSET: usize = GDT_ENTRIES * 8;

const _: () = assert!(slot(LDT_SELECTOR) + 2 <= THREAD_ENTRY);
const _: () = assert!(THREAD_ENTRY + THREAD_ENTRIES == slot(CPU_NUMBER_SELECTOR));
const _: () =
    assert!(ringwall_core::area::MAX_CPUS <= 1 << 16, "a CPU's index is a limit's low part");

const _: () = {
    let tss = size_of::<x86_64::structures::tss::TaskStateSegment>();
    assert!(
        TSS_OFFSET.is_multiple_of(16) && TSS_OFFSET + tss <= 4096,
        "GDT and TSS share one page"
    );
};

// Base 0, limit 4 GiB, accessed preset so that the CPU never writes to the read-only page.
const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
const KERNEL_DATA: u64 = 0x00cf_9300_0000_ffff;
const USER_CODE_32: u64 = 0x00cf_fb00_0000_ffff;
const USER_DATA: u64 = 0x00cf_f300_0000_ffff;
const USER_CODE: u64 = 0x00af_fb00_0000_ffff;

/// Read-only data, expand-down, 32-bit, byte granular; the limit is filled in.
const CPU_NUMBER: u64 = 0x0040_f500_0000_0000;

const TSS_LIMIT: u64 = size_of::<x86_64::structures::tss::TaskStateSegment>() as u64 - 1;

/// Present, type 9: an available 64-bit TSS.
const AVAILABLE_TSS: u64 = 0x89 << 40;
/// What LTR makes of that, type 11: a busy one. LTR of a busy one is #GP.
const BUSY: u64 = 2 << 40;

/// Makes the TSS's descriptor in `table` one that LTR takes, if it was loaded before. No CPU has it in TR.
pub(crate) fn make_tss_available(table: &mut [u64; GDT_ENTRIES]) {
    table[slot(TSS_SELECTOR)] &= !BUSY;
}

/// The GDT of CPU `index`, whose TSS is at `tss`.
pub(crate) fn gdt(tss: u64, index: usize) -> [u64; GDT_ENTRIES] {
    let mut table = [0; GDT_ENTRIES];
    table[slot(KERNEL_CODE_SELECTOR)] = KERNEL_CODE;
    table[slot(KERNEL_DATA_SELECTOR)] = KERNEL_DATA;
    table[slot(USER_CODE_32_SELECTOR)] = USER_CODE_32;
    table[slot(USER_DATA_SELECTOR)] = USER_DATA;
    table[slot(USER_CODE_SELECTOR)] = USER_CODE;
    table[slot(TSS_SELECTOR)] =
        TSS_LIMIT | (tss & 0xff_ffff) << 16 | AVAILABLE_TSS | (tss >> 24 & 0xff) << 56;
    table[slot(TSS_SELECTOR) + 1] = tss >> 32;
    table[slot(CPU_NUMBER_SELECTOR)] = CPU_NUMBER | index as u64;
    table
}

/// The two words of the GDT that describe an LDT of `entries` entries at `base`.
pub(crate) fn ldt(base: u64, entries: usize) -> [u64; 2] {
    /// Present, type 2: an LDT.
    const LDT: u64 = 0x82 << 40;
    let limit = entries as u64 * 8 - 1;
    [limit | (base & 0xff_ffff) << 16 | LDT | (base >> 24 & 0xff) << 56, base >> 32]
}

pub(crate) const fn slot(selector: u16) -> usize {
    (selector >> 3) as usize
}

/// Index in the TSS's interrupt stack table, counted from 1, of a vector that lands on a stack of its
/// own.
pub(crate) const fn interrupt_stack(vector: u8) -> Option<u8> {
    match vector {
        2 => Some(1),
        1 => Some(2),
        18 => Some(3),
        8 => Some(4),
        _ => None,
    }
}

/// An interrupt gate. `user`: ring 3 may use it by INT n.
pub(crate) fn gate(vector: u8, address: u64, user: bool) -> [u64; 2] {
    /// Present, type 14: a 64-bit interrupt gate.
    const INTERRUPT_GATE: u64 = 0x8e << 40;
    /// Descriptor privilege level 3.
    const USER: u64 = 0x60 << 40;
    let stack = u64::from(interrupt_stack(vector).unwrap_or(0)) << 32;
    let low = address & 0xffff
        | u64::from(KERNEL_CODE_SELECTOR) << 16
        | stack
        | INTERRUPT_GATE
        | if user { USER } else { 0 }
        | (address >> 16 & 0xffff) << 48;
    [low, address >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type and other bits of the access byte.
    fn access(table: &[u64; GDT_ENTRIES]) -> u64 {
        table[slot(TSS_SELECTOR)] >> 40 & 0xff
    }

    #[test]
    fn a_tss_that_ltr_has_made_busy_is_available_again() {
        let fresh = gdt(0xffff_fe00_1234_5080, 5);
        assert_eq!(access(&fresh), 0x89);
        let mut table = fresh;
        make_tss_available(&mut table);
        assert_eq!(table, fresh, "one that was never loaded stays as it is");
        // What LTR does (SDM vol. 2, LTR).
        table[slot(TSS_SELECTOR)] |= 1 << 41;
        assert_eq!(access(&table), 0x8b);
        make_tss_available(&mut table);
        assert_eq!(table, fresh);
    }
}
