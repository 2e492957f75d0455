//! /sys: what programs ask about CPUs.

use super::generated::{self, Content, Entry, Node, Numbers, Subject};
use crate::arch::{cpu, processors, smp};
use crate::errno::{Errno, Result};
use crate::sync::Once;
use crate::task::way;
use alloc::{format, string::String, sync::Arc, vec::Vec};
use linux_raw_sys::general::SYSFS_MAGIC;
use ringwall::policy::Status;
use ringwall_rules::cpus::Ranges;

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
    directory("devices", &[directory("system", &[CPUS])]),
    directory("firmware", &[]),
    directory("fs", &[]),
    directory("kernel", &[]),
    directory("module", &[]),
    directory("power", &[]),
];

const CPUS: Entry = Entry { name: "cpu", mode: 0o755, content: Content::Numbered(CPU, &OTHERS) };

static CPU: &[Entry] = &[
    // The boot CPU has nothing to switch.
    directory("cpu0", &[]),
    Entry::text("kernel_max", last),
    Entry::text("offline", offline),
    Entry::text("online", online),
    Entry::text("possible", possible),
    Entry::text("present", possible),
    directory("vulnerabilities", &[Entry::text("meltdown", meltdown)]),
];

static OTHERS: Numbers = Numbers {
    prefix: "cpu",
    template: directory("", &[SWITCH]),
    list: |_| (1..processors::count() as u32).collect(),
    find: |_, cpu| {
        let there = (1..processors::count() as u32).contains(&cpu);
        there.then(|| Subject { cpu, ..Subject::default() })
    },
};

const SWITCH: Entry =
    Entry { name: "online", mode: 0o644, content: Content::Setting(is_online, set_online) };

fn list(cpus: impl Iterator<Item = usize> + Clone) -> Result<Vec<u8>> {
    Ok(format!("{}\n", Ranges(cpus)).into_bytes())
}

fn online(_: &Subject) -> Result<Vec<u8>> {
    list((0..cpu::MAXIMUM).filter(|cpu| cpu::online().contains(*cpu)))
}

fn offline(_: &Subject) -> Result<Vec<u8>> {
    list((0..processors::count()).filter(|cpu| !cpu::online().contains(*cpu)))
}

fn possible(_: &Subject) -> Result<Vec<u8>> {
    list(0..processors::count())
}

fn last(_: &Subject) -> Result<Vec<u8>> {
    Ok(format!("{}\n", cpu::MAXIMUM - 1).into_bytes())
}

fn is_online(subject: &Subject) -> Result<Vec<u8>> {
    let online = cpu::online().contains(subject.cpu as usize);
    Ok(if online { b"1\n" } else { b"0\n" }.to_vec())
}

/// Brings a CPU up. None is ever taken down.
fn set_online(subject: &Subject, text: &[u8]) -> Result<()> {
    match text.trim_ascii() {
        b"1" | b"y" | b"Y" => smp::add(subject.cpu as usize),
        b"0" | b"n" | b"N" => match cpu::online().contains(subject.cpu as usize) {
            true => Err(Errno::EOPNOTSUPP),
            false => Ok(()),
        },
        _ => Err(Errno::EINVAL),
    }
}

fn meltdown(_: &Subject) -> Result<Vec<u8>> {
    let at_boot = MELTDOWN.get().map_or(Status::Vulnerable.as_str(), String::as_str);
    let switched_off = at_boot == Status::Mitigated.as_str() && !way::machine_is_isolated();
    let now = if switched_off { Status::Vulnerable.as_str() } else { at_boot };
    Ok(format!("{now}\n").into_bytes())
}
