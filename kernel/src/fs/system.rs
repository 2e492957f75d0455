//! /sys: what programs ask about CPUs.

use super::generated::{self, Content, Entry, Node, Subject};
use crate::errno::Result;
use crate::sync::Once;
use alloc::{format, string::String, sync::Arc, vec::Vec};
use linux_raw_sys::general::SYSFS_MAGIC;

/// What /sys/devices/system/cpu/vulnerabilities/meltdown says, set at boot.
pub static MELTDOWN: Once<String> = Once::new();

/// A new instance.
pub fn create() -> Arc<Node> {
    static ROOT: Entry = Entry::directory("", TOP);
    generated::create(&ROOT, SYSFS_MAGIC, 4096)
}

const fn directory(name: &'static str, entries: &'static [Entry]) -> Entry {
    Entry { name, mode: 0o755, content: Content::Directory(entries) }
}

static TOP: &[Entry] = &[
    directory("block", &[]),
    directory("bus", &[]),
    directory("class", &[]),
    directory("dev", &[]),
    directory("devices", &[directory("system", &[directory("cpu", CPU)])]),
    directory("firmware", &[]),
    directory("fs", &[]),
    directory("kernel", &[]),
    directory("module", &[]),
    directory("power", &[]),
];

static CPU: &[Entry] = &[
    directory("cpu0", &[]),
    Entry::text("kernel_max", last),
    Entry::text("offline", none),
    Entry::text("online", numbers),
    Entry::text("possible", numbers),
    Entry::text("present", numbers),
    directory("vulnerabilities", &[Entry::text("meltdown", meltdown)]),
];

fn numbers(_: &Subject) -> Result<Vec<u8>> {
    Ok(b"0\n".to_vec())
}

fn none(_: &Subject) -> Result<Vec<u8>> {
    Ok(b"\n".to_vec())
}

fn last(_: &Subject) -> Result<Vec<u8>> {
    Ok(b"63\n".to_vec())
}

fn meltdown(_: &Subject) -> Result<Vec<u8>> {
    Ok(format!("{}\n", MELTDOWN.get().map_or("Vulnerable", String::as_str)).into_bytes())
}
