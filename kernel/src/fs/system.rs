//! /sys: what programs ask about CPUs.

use super::generated::{self, Entry, Node, Subject};
use crate::errno::Result;
use alloc::{format, string::String, sync::Arc, vec::Vec};
use linux_raw_sys::general::SYSFS_MAGIC;
use spin::Once;

/// What /sys/devices/system/cpu/vulnerabilities/meltdown says, set at boot.
pub static MELTDOWN: Once<String> = Once::new();

/// A new instance.
pub fn create() -> Arc<Node> {
    static ROOT: Entry = Entry::directory("", TOP);
    generated::create(&ROOT, SYSFS_MAGIC, 4096)
}

static TOP: &[Entry] = &[
    Entry::directory("block", &[]),
    Entry::directory("bus", &[]),
    Entry::directory("class", &[]),
    Entry::directory("dev", &[]),
    Entry::directory("devices", &[Entry::directory("system", &[Entry::directory("cpu", CPU)])]),
    Entry::directory("firmware", &[]),
    Entry::directory("fs", &[]),
    Entry::directory("kernel", &[]),
    Entry::directory("module", &[]),
    Entry::directory("power", &[]),
];

static CPU: &[Entry] = &[
    Entry::directory("cpu0", &[]),
    Entry::text("kernel_max", last),
    Entry::text("offline", none),
    Entry::text("online", numbers),
    Entry::text("possible", numbers),
    Entry::text("present", numbers),
    Entry::directory("vulnerabilities", &[Entry::text("meltdown", meltdown)]),
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
