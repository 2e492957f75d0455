//! Kernels that are made otherwise than ours and Linux: each a few hand-made tables, looked at as the command does.
//!
//! - one root for both rings, as in small teaching kernels, with a page of a device and no NX at all;
//! - the same with its root mapped into itself, as many hobby kernels have it;
//! - two roots that are no neighbours, with a trampoline page in both;
//! - one whose tables, descriptor tables and registers are made to confuse.

use ringwall_audit::cpu::{Cpu, Table};
use ringwall_audit::document::{AnomalyKind, Audit, Region, Severity};
use ringwall_audit::{Subject, look};

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NX: u64 = 1 << 63;

const PAGE: u64 = 0x1000;
const MIB2: u64 = 0x20_0000;
/// The guest's memory.
const BYTES: u64 = 4 * MIB2;
/// Tables are taken from here on; all below is the kernel.
const TABLES: u64 = 3 * MIB2;

const KERNEL: u64 = 0xffff_ffff_8000_0000;
const PROGRAM: u64 = 0x40_0000;
const DEVICE: u64 = 0xfee0_0000;

struct Guest {
    memory: Vec<u8>,
    next: u64,
}

impl Guest {
    fn new() -> Guest {
        Guest { memory: vec![0; BYTES as usize], next: TABLES }
    }

    /// A new table.
    fn table(&mut self) -> u64 {
        self.next += PAGE;
        self.next - PAGE
    }

    fn word(&self, at: u64) -> u64 {
        let at = at as usize;
        u64::from_le_bytes(self.memory[at..at + 8].try_into().expect("eight bytes"))
    }

    fn write(&mut self, at: u64, word: u64) {
        self.memory[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
    }

    /// Maps a page of 4 KiB, or of 2 MiB if the flags say so.
    fn map(&mut self, root: u64, address: u64, physical: u64, flags: u64) {
        let last = if flags & LARGE != 0 { 21 } else { 12 };
        let mut table = root;
        let mut shift = 39;
        while shift > last {
            let at = table + ((address >> shift) & 511) * 8;
            if self.word(at) & P == 0 {
                let new = self.table();
                self.write(at, new | P | W | U);
            }
            table = self.word(at) & !(PAGE - 1);
            shift -= 9;
        }
        self.write(table + ((address >> last) & 511) * 8, physical | flags);
    }

    /// All memory at its place from [`KERNEL`] on, writable and executable.
    fn map_kernel(&mut self, root: u64) {
        for start in (0..BYTES).step_by(MIB2 as usize) {
            self.map(root, KERNEL + start, start, P | W | LARGE);
        }
    }

    fn look(&self, cpu: Cpu, kernel_cr3: Option<u64>) -> Audit {
        let memory = |address: u64, buffer: &mut [u8]| {
            let start = usize::try_from(address).unwrap_or(usize::MAX);
            let bytes = self.memory.get(start..start.saturating_add(buffer.len()));
            bytes.map(|bytes| buffer.copy_from_slice(bytes)).is_some()
        };
        let subject = Subject {
            memory: &memory,
            cpus: &[cpu],
            source: "made up".into(),
            symbols: None,
            kernel_cr3,
            progress: &|_, _| {},
        };
        look(&subject).expect("there are tables")
    }
}

/// A CPU in ring 3 on this root.
fn in_ring_3(root: u64) -> Cpu {
    let cpu = Cpu { cpl: 3, rip: PROGRAM, cr0: 0x8005_0033, cr3: root, ..Cpu::default() };
    Cpu { cr4: 0x20, efer: Some(0xd01), ..cpu }
}

fn ids(audit: &Audit) -> Vec<&str> {
    audit.findings.iter().map(|finding| &finding.id[..]).collect()
}

fn bytes(regions: &[Region]) -> u64 {
    regions.iter().map(|region| region.bytes).sum()
}

#[test]
fn one_root_for_both_rings_shows_all_of_the_kernel() {
    let mut guest = Guest::new();
    let root = guest.table();
    guest.map(root, PROGRAM, 0x5000, P | W | U);
    guest.map_kernel(root);
    guest.map(root, 0xffff_ffff_fee0_0000, DEVICE, P | W);
    let audit = guest.look(in_ring_3(root), None);

    let view = &audit.views[0];
    assert_eq!(view.kernel_root, None);
    assert_eq!(
        bytes(&view.visible),
        BYTES + PAGE,
        "the kernel and the device: {:x?}",
        view.visible
    );
    assert_eq!(bytes(&view.user), PAGE);
    assert_eq!(audit.findings[0].id, "kernel-mapped-whole");
    assert_eq!(audit.findings[0].severity, Severity::Critical);
    assert!(ids(&audit).contains(&"writable-and-executable"), "{:?}", ids(&audit));
}

#[test]
fn a_root_that_is_mapped_into_itself_ends_and_is_told() {
    let mut guest = Guest::new();
    let root = guest.table();
    guest.map(root, PROGRAM, 0x5000, P | W | U);
    guest.map_kernel(root);
    guest.write(root + 510 * 8, root | P | W);
    let audit = guest.look(in_ring_3(root), None);

    let view = &audit.views[0];
    let is_loop = |kind| kind == AnomalyKind::Loop;
    assert!(view.anomalies.iter().any(|anomaly| is_loop(anomaly.kind)), "{:x?}", view.anomalies);
    assert_eq!(audit.findings[0].id, "kernel-mapped-whole");
    // The CPU translates the tables' addresses, so they are visible memory too.
    assert!(view.visible.iter().any(|region| (region.address >> 39) & 511 == 510));
}

#[test]
fn roots_that_are_no_neighbours_are_compared_if_the_kernels_is_named() {
    let mut guest = Guest::new();
    let (user, _unused, kernel) = (guest.table(), guest.table(), guest.table());
    let trampoline = 0xffff_ff80_0000_0000;
    guest.map(user, PROGRAM, 0x5000, P | W | U);
    guest.map(user, trampoline, 0x6000, P);
    guest.map(kernel, trampoline, 0x6000, P);
    guest.map_kernel(kernel);
    // A pointer into the kernel, in the page that both show.
    guest.write(0x6800, KERNEL + 0x1234);
    let mut cpu = in_ring_3(user);
    cpu.lstar = Some(trampoline);

    let named = guest.look(cpu.clone(), Some(kernel));
    let view = &named.views[0];
    assert_eq!((view.kernel_root, bytes(&view.visible)), (Some(kernel), PAGE));
    assert_eq!(view.kernel.iter().map(|region| region.bytes).sum::<u64>(), BYTES + PAGE);
    let pointers = named.findings.iter().find(|finding| finding.id == "kernel-pointer");
    let places = &pointers.expect("the pointer is found").places;
    assert_eq!((places[0].address, places[0].value), (trampoline + 0x800, Some(KERNEL + 0x1234)));

    // Nothing is said of pointers if nobody says what is secret.
    let alone = guest.look(cpu, None);
    assert_eq!(alone.views[0].kernel_root, None);
    assert!(!ids(&alone).contains(&"kernel-mapped-whole"), "{:?}", ids(&alone));
    assert!(ids(&alone).contains(&"kernel-root-unknown"), "{:?}", ids(&alone));
}

/// Tables that name each other and themselves at every level, with registers that lead to the ends of the address space.
#[test]
fn what_is_made_to_confuse_comes_to_an_end() {
    for seed in 1..=6_u64 {
        let mut guest = Guest::new();
        let tables: Vec<u64> = (0..16).map(|_| guest.table()).collect();
        let mut state = seed;
        for table in &tables {
            for index in 0..512 {
                // Knuth's linear congruential generator.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (random, flags) = (state >> 33, state >> 20);
                let target = match random % 8 {
                    0..=4 => tables[(random >> 8) as usize % tables.len()],
                    5 => (random << 20) & 0x000f_ffff_ffff_f000,
                    _ => (random << 12) % BYTES,
                };
                let flags = flags & (P | W | U | LARGE | 1 << 8) | (random & 1) << 63 & NX;
                guest.write(table + index * 8, target | flags);
            }
        }
        let end = Table { base: u64::MAX - 3, limit: u32::MAX };
        let start = Table { base: KERNEL - 8, limit: u32::MAX };
        let cpu = Cpu { idt: end, gdt: start, tss: end, ldt: end, ..in_ring_3(tables[1]) };
        let cpu = Cpu { gs_base: Some(u64::MAX), lstar: Some(u64::MAX), rsp: 3, ..cpu };
        let audit = guest.look(cpu, Some(tables[2]));
        assert!(!audit.views[0].anomalies.is_empty(), "nothing was told of seed {seed}");
        assert!(!audit.findings.is_empty(), "nothing was found in seed {seed}");
    }
}
