//! The text of /proc/PID/maps, as Linux writes it.
//!
//! ```text
//! 00400000-00401000 r--p 00000000 00:02 17                                 /bin/busybox
//! ```

use super::Mm;
use super::mapping::{Mapping, Protection, RegionFlags};
use super::space::Space;
use alloc::string::String;
use core::fmt::Write;
use ringwall_regions::Region;

/// The column that names start in.
const NAME_COLUMN: usize = 73;

impl Mm {
    /// The text of /proc/PID/maps.
    pub fn maps(&self) -> String {
        let space = self.space.lock();
        let mut text = String::new();
        for region in space.regions.iter() {
            let name = space.name(region);
            // A byte of a name that is no text takes three.
            if text.try_reserve(2 * NAME_COLUMN + 3 * name.len()).is_err() {
                return text;
            }
            let line = text.len();
            let _ = write_line(&mut text, region);
            if !name.is_empty() {
                while text.len() < line + NAME_COLUMN {
                    text.push(' ');
                }
                push_name(&mut text, name);
            }
            text.push('\n');
        }
        text
    }
}

fn write_line(text: &mut String, region: &Region<Mapping>) -> core::fmt::Result {
    let mapping = &region.attributes;
    let has = |right, letter| if mapping.protection.contains(right) { letter } else { '-' };
    let (device, number) = mapping.file.as_ref().map_or((0, 0), |file| file.inode.identity());
    write!(
        text,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        region.start,
        region.end,
        has(Protection::READ, 'r'),
        has(Protection::WRITE, 'w'),
        has(Protection::EXECUTE, 'x'),
        if mapping.flags.contains(RegionFlags::SHARED) { 's' } else { 'p' },
        mapping.offset,
        major(device),
        minor(device),
        number,
    )
}

/// Major device number, as stat packs it.
fn major(device: u64) -> u64 {
    (device >> 8) & 0xfff | (device >> 32) & !0xfff
}

/// Minor device number, as stat packs it.
fn minor(device: u64) -> u64 {
    device & 0xff | (device >> 12) & !0xff
}

/// Appends a path; a line feed in it is written as Linux does.
fn push_name(text: &mut String, name: &[u8]) {
    for part in name.utf8_chunks() {
        for letter in part.valid().chars() {
            match letter {
                '\n' => text.push_str("\\012"),
                _ => text.push(letter),
            }
        }
        if !part.invalid().is_empty() {
            text.push('\u{fffd}');
        }
    }
}

impl Space {
    fn name<'a>(&self, region: &'a Region<Mapping>) -> &'a [u8] {
        if let Some(file) = &region.attributes.file {
            return &file.path;
        }
        if region.start < self.heap.end && region.end > self.heap.start {
            return b"[heap]";
        }
        if (region.start..region.end).contains(&self.stack) {
            return b"[stack]";
        }
        b""
    }
}
