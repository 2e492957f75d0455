//! A core of 16 GiB, looked at in little memory. A test program of its own: what it used at most is the process's.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;

use ringwall_emulator::{Core, Memory};

const GIB: u64 = 1 << 30;
const SIZE: u64 = 16 * GIB;
/// Where the file's memory begins.
const OFFSET: u64 = 4096;
const MOST_KIB: u64 = 64 << 10;

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

#[test]
fn a_core_of_16_gib_is_read_where_it_is_wanted() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    head.resize(16, 0);
    head.extend([4_u16, 62].map(u16::to_le_bytes).concat());
    head.extend(1_u32.to_le_bytes());
    head.extend([0_u64, 64, 0].map(u64::to_le_bytes).concat());
    head.extend(0_u32.to_le_bytes());
    head.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    head.extend([1_u32, 0].map(u32::to_le_bytes).concat());
    head.extend([OFFSET, 0, 0, SIZE, SIZE, 0].map(u64::to_le_bytes).concat());
    let write = |bytes: &[u8], offset: u64| {
        File::write_all_at(file.as_file(), bytes, offset).expect("a write");
    };
    write(&head, 0);
    // Sparse: a table each GiB, and the last one at the very end.
    file.as_file().set_len(OFFSET + SIZE).expect("a long file");
    for index in 0..16 {
        write(&[index as u8 + 1; 4096], OFFSET + (index + 1) * GIB - 4096);
    }

    let core = Core::open(file.path()).expect("a core");
    assert!(core.holds(0, SIZE) && !core.holds(SIZE, 1));
    for index in 0..16 {
        let mut table = [0; 4096];
        assert!(core.read((index + 1) * GIB - 4096, &mut table));
        assert_eq!(table, [index as u8 + 1; 4096]);
    }
    assert!(peak() < MOST_KIB, "{} KiB", peak());
}
