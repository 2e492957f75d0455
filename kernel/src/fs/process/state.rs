//! What /proc tells of a process.

use super::process;
use crate::errno::{Errno, Result};
use crate::fs::generated::Subject;
use crate::fs::{current, terminal};
use crate::task::Process;
use alloc::{format, string::String, vec::Vec};

type Text = Result<Vec<u8>>;

/// Nanoseconds of one tick as /proc counts them (USER_HZ is 100).
const TICK: u64 = 10_000_000;

pub fn arguments(subject: &Subject) -> Text {
    current::arguments_of(&*process(subject)?)
}

pub fn environment(subject: &Subject) -> Text {
    process(subject).map(|_| Vec::new())
}

pub fn name(subject: &Subject) -> Text {
    Ok(format!("{}\n", current::name_of(&*process(subject)?, subject.thread)).into_bytes())
}

pub fn set_name(subject: &Subject, name: &[u8]) -> Result<()> {
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    current::set_name(&*process(subject)?, subject.thread, name)
}

pub fn maps(subject: &Subject) -> Text {
    let process = process(subject)?;
    Ok(current::memory_of(&process).map(|mm| mm.maps().into_bytes()).unwrap_or_default())
}

pub fn limits(subject: &Subject) -> Text {
    Ok(current::limits_of(&*process(subject)?).into_bytes())
}

fn sizes(process: &Process) -> (usize, usize) {
    current::memory_of(process).map_or((0, 0), |mm| mm.sizes())
}

pub fn memory(subject: &Subject) -> Text {
    let (mapped, present) = sizes(&*process(subject)?);
    Ok(format!("{mapped} {present} 0 0 0 {mapped} 0\n").into_bytes())
}

fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        'Z' => "zombie",
        _ => "dead",
    }
}

pub fn statistics(subject: &Subject) -> Text {
    let process = process(subject)?;
    let numbers = current::numbers_of(&process);
    let (device, foreground) = terminal::of_session(process.session());
    let (mapped, present) = sizes(&process);
    let (nice, threads) = (numbers.nice, process.thread_ids().len());
    let mut text = format!(
        "{} ({}) {} {} {} {} {} {} 0 {} 0 0 0 {} {} {} 0 {} {} {} 0 {} {} {} 18446744073709551615",
        subject.thread,
        current::name_of(&process, subject.thread),
        process.state_letter(),
        process.parent_id(),
        process.group(),
        process.session(),
        device,
        foreground,
        numbers.faults,
        numbers.user_time / TICK,
        numbers.system_time / TICK,
        numbers.children_time / TICK,
        20 + nice,
        nice,
        threads,
        numbers.start_time / TICK,
        mapped * 4096,
        present,
    );
    // Addresses, sets of signals, and what follows: not told.
    text.push_str(" 0 0 0 0 0");
    text.push_str(&format!(
        " {} {} {} {}",
        numbers.pending, numbers.blocked, numbers.ignored, numbers.caught
    ));
    text.push_str(" 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n");
    Ok(text.into_bytes())
}

pub fn status(subject: &Subject) -> Text {
    let process = process(subject)?;
    let numbers = current::numbers_of(&process);
    let (mapped, present) = sizes(&process);
    let letter = process.state_letter();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text.push_str(name);
        text.push_str(":\t");
        text.push_str(&value);
        text.push('\n');
    };
    line("Name", current::name_of(&process, subject.thread));
    line("Umask", format!("{:04o}", current::paths_of(process.pid).map_or(0, |it| it.umask())));
    line("State", format!("{letter} ({})", state_name(letter)));
    line("Tgid", format!("{}", process.pid));
    line("Ngid", String::from("0"));
    line("Pid", format!("{}", subject.thread));
    line("PPid", format!("{}", process.parent_id()));
    line("TracerPid", String::from("0"));
    let quadruple = |one: [u32; 4]| format!("{}\t{}\t{}\t{}", one[0], one[1], one[2], one[3]);
    line("Uid", quadruple(numbers.users));
    line("Gid", quadruple(numbers.groups));
    let slots = current::files_of(process.pid).map_or(0, |files| files.descriptors().len());
    line("FDSize", format!("{}", slots.next_power_of_two().max(64)));
    line("Groups", String::from(" "));
    if letter != 'Z' {
        for (name, pages) in
            [("VmPeak", mapped), ("VmSize", mapped), ("VmHWM", present), ("VmRSS", present)]
        {
            line(name, format!("{:8} kB", pages * 4));
        }
    }
    line("Threads", format!("{}", process.thread_ids().len()));
    line("SigPnd", format!("{:016x}", 0));
    line("ShdPnd", format!("{:016x}", numbers.pending));
    line("SigBlk", format!("{:016x}", numbers.blocked));
    line("SigIgn", format!("{:016x}", numbers.ignored));
    line("SigCgt", format!("{:016x}", numbers.caught));
    let capabilities: u64 = if numbers.users[1] == 0 { 0x1ff_ffff_ffff } else { 0 };
    line("CapInh", format!("{:016x}", 0));
    line("CapPrm", format!("{capabilities:016x}"));
    line("CapEff", format!("{capabilities:016x}"));
    line("CapBnd", format!("{:016x}", 0x1ff_ffff_ffffu64));
    line("CapAmb", format!("{:016x}", 0));
    line("NoNewPrivs", String::from("0"));
    line("Seccomp", String::from("0"));
    line("Cpus_allowed", String::from("1"));
    line("Cpus_allowed_list", String::from("0"));
    line("voluntary_ctxt_switches", String::from("0"));
    line("nonvoluntary_ctxt_switches", String::from("0"));
    if text.is_empty() { Err(Errno::ESRCH) } else { Ok(text.into_bytes()) }
}
