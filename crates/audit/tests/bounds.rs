//! A look at the worst guests stays below 256 MiB, whatever they map.
//!
//! This is a program of its own because it measures itself: the most memory that this process ever had.

use ringwall_audit::cpu::Cpu;
use ringwall_audit::document::AnomalyKind;
use ringwall_audit::{Subject, look};

const P: u64 = 1;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const NX: u64 = 1 << 63;

const KERNEL_ROOT: u64 = 0x2000;
const USER_ROOT: u64 = 0x3000;

/// Frames from which tables of one kind stand; entry `n` of a level names the table `n` frames on.
const SHARED: u64 = 0x10;
const LEVEL_3: u64 = 0x100;
const LEVEL_2: u64 = 0x1000;
const LEVEL_1: u64 = 0x1_0000;
/// So much further on are the tables that only the kernel's root names.
const OF_KERNEL: u64 = 0x8_0000;

/// Level 2 tables below each root's second slot: 2,048 tables of level 1.
const LARGE: u64 = 4;

/// The entry of the table in `frame`, of a guest whose roots disagree about every other page; `half` is the slot of
/// the root that all of it is below.
fn entry(frame: u64, index: u64, half: u64, flags: u64) -> u64 {
    let name = |frame: u64| frame << 12 | P | W | U;
    let kernel = frame >= OF_KERNEL || frame == KERNEL_ROOT >> 12;
    let base = if kernel { OF_KERNEL } else { 0 };
    match frame - if frame >= OF_KERNEL { OF_KERNEL } else { 0 } {
        2 | 3 if index == 0 => name(SHARED),
        2 | 3 if index == half => name(base + LEVEL_3),
        // So that this kernel half is not the other one.
        2 if index == 511 => name(SHARED),
        LEVEL_3 if index < LARGE => name(base + LEVEL_2 + index),
        table @ LEVEL_2..LEVEL_1 => name(base + LEVEL_1 + (table - LEVEL_2) * 512 + index),
        table @ LEVEL_1..OF_KERNEL if index.is_multiple_of(2) => {
            // Nothing follows anything.
            let page = 0x20_0000 + (table * 512 + index) * 3 + u64::from(kernel);
            page << 12 | P | flags
        }
        _ => 0,
    }
}

fn most_memory_in_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Looks at a guest in whose roots the slot `half` leads to pages with these flags.
fn look_at(half: u64, flags: u64) {
    let memory = |address: u64, buffer: &mut [u8]| {
        for (word, at) in buffer.chunks_mut(8).zip((address..).step_by(8)) {
            let value = entry(at >> 12, at % 4096 / 8, half, flags).to_le_bytes();
            word.copy_from_slice(&value[..word.len()]);
        }
        true
    };
    let cpu = Cpu { cpl: 3, cr0: 0x8005_0033, cr3: USER_ROOT, cr4: 0x20, ..Cpu::default() };
    let audit = look(&Subject {
        memory: &memory,
        cpus: &[cpu],
        source: "made up".into(),
        kernel_cr3: None,
        symbols: None,
        progress: &|_, _| {},
    })
    .expect("tables");
    let view = &audit.views[0];
    assert_eq!(view.kernel_root, Some(KERNEL_ROOT), "a pair");
    let cut = view.anomalies.iter().any(|one| one.kind == AnomalyKind::TooMuch);
    assert!(cut, "it is too much, and that is told");
    assert!(!audit.findings.is_empty());
    let most = most_memory_in_kib();
    println!("slot {half}, flags {flags:#x}: {most} KiB so far");
    assert!(most < 256 << 10, "{most} KiB");
}

#[test]
fn the_worst_guests_take_less_than_256_mib() {
    // Each kind of page, and both halves of the root: not each with each, which takes twice as long.
    for (half, flags) in [(1, U), (300, U | W), (1, W), (300, NX | W)] {
        look_at(half, flags);
    }
}
