//! What /proc tells of a process.

use super::process;
use crate::arch::{isolation, processors};
use crate::errno::{Errno, Result};
use crate::fs::generated::Subject;
use crate::fs::{current, terminal};
use crate::mm::Mm;
use crate::task::credentials::Credentials;
use crate::task::{Process, Thread};
use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::ops::Range;
use core::sync::atomic::Ordering;
use linux_raw_sys::general::RLIMIT_SIGPENDING;
use ringwall_rules::affinity::Cpus;
use ringwall_rules::cpus::Ranges;

type Text = Result<Vec<u8>>;

/// Nanoseconds of one tick as /proc counts them (USER_HZ is 100).
const TICK: u64 = 10_000_000;

/// Longest text of arguments or environment that is shown.
const MOST: u64 = 1 << 20;

/// Copies a range of a process's memory; empty if it has ended, or if it is not there.
fn copy(process: &Process, range: impl FnOnce(&Mm) -> Range<u64>) -> Text {
    let Some(mm) = process.mm.get() else { return Ok(Vec::new()) };
    let range = range(&mm);
    let length = range.end.saturating_sub(range.start).min(MOST) as usize;
    let mut text = Vec::new();
    text.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    text.resize(length, 0);
    if mm.peek(range.start, &mut text).is_err() {
        text.clear();
    }
    Ok(text)
}

pub fn arguments(subject: &Subject) -> Text {
    copy(&*process(subject)?, |mm| mm.arguments().0)
}

pub fn environment(subject: &Subject) -> Text {
    copy(&*process(subject)?, |mm| mm.arguments().1)
}

/// The thread that a file is about, unless it has ended.
fn thread(process: &Process, subject: &Subject) -> Option<Arc<Thread>> {
    process.threads().into_iter().find(|thread| thread.tid() == subject.thread)
}

fn name_of(process: &Process, subject: &Subject) -> String {
    match thread(process, subject) {
        Some(thread) => {
            let name = thread.name();
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            String::from_utf8_lossy(&name[..end]).into_owned()
        }
        None => process.name(),
    }
}

pub fn name(subject: &Subject) -> Text {
    Ok(format!("{}\n", name_of(&*process(subject)?, subject)).into_bytes())
}

pub fn set_name(subject: &Subject, name: &[u8]) -> Result<()> {
    if subject.process != current::pid() {
        return Err(Errno::EINVAL);
    }
    let name = name.strip_suffix(b"\n").unwrap_or(name);
    thread(&*process(subject)?, subject).ok_or(Errno::ESRCH)?.set_name(name);
    Ok(())
}

pub fn maps(subject: &Subject) -> Text {
    Ok(process(subject)?.mm.get().map(|mm| mm.maps().into_bytes()).unwrap_or_default())
}

fn sizes(process: &Process) -> (usize, usize) {
    process.mm.get().map_or((0, 0), |mm| mm.sizes())
}

pub fn memory(subject: &Subject) -> Text {
    let (mapped, present) = sizes(&*process(subject)?);
    Ok(format!("{mapped} {present} 0 0 0 {mapped} 0\n").into_bytes())
}

pub fn limits(subject: &Subject) -> Text {
    /// Names and units, by number.
    const NAMES: [(&str, &str); 16] = [
        ("Max cpu time", "seconds"),
        ("Max file size", "bytes"),
        ("Max data size", "bytes"),
        ("Max stack size", "bytes"),
        ("Max core file size", "bytes"),
        ("Max resident set", "bytes"),
        ("Max processes", "processes"),
        ("Max open files", "files"),
        ("Max locked memory", "bytes"),
        ("Max address space", "bytes"),
        ("Max file locks", "locks"),
        ("Max pending signals", "signals"),
        ("Max msgqueue size", "bytes"),
        ("Max nice priority", ""),
        ("Max realtime priority", ""),
        ("Max realtime timeout", "us"),
    ];
    let limits = *process(subject)?.limits.lock();
    let mut text =
        format!("{:<25} {:<20} {:<20} {:<10}\n", "Limit", "Soft Limit", "Hard Limit", "Units");
    for (number, (name, unit)) in NAMES.into_iter().enumerate() {
        let (soft, hard) = limits.get(number as u32);
        let value = |value: u64| match value {
            u64::MAX => String::from("unlimited"),
            value => format!("{value}"),
        };
        text.push_str(&format!("{name:<25} {:<20} {:<20} ", value(soft), value(hard)));
        if !unit.is_empty() {
            text.push_str(&format!("{unit:<10}"));
        }
        text.push('\n');
    }
    Ok(text.into_bytes())
}

fn state_name(letter: char) -> &'static str {
    match letter {
        'R' => "running",
        'S' => "sleeping",
        'D' => "disk sleep",
        'T' => "stopped",
        't' => "tracing stop",
        'Z' => "zombie",
        _ => "dead",
    }
}

/// State of the thread, or of the whole process.
fn letter(process: &Process, subject: &Subject) -> char {
    match thread(process, subject) {
        Some(thread) if !process.is_zombie() => thread.state_letter(),
        _ => process.state_letter(),
    }
}

pub fn statistics(subject: &Subject) -> Text {
    let process = process(subject)?;
    let (device, foreground) = terminal::of_session(process.session());
    let (mapped, present) = sizes(&process);
    let (pending, ignored, caught) = process.signal_sets();
    let (nice, blocked) = (process.nice(), thread(&process, subject).map_or(0, |it| it.blocked()));
    let whole_time = process.cpu_time();
    let time = match thread(&process, subject) {
        Some(thread) if process.thread_count() > 1 && subject.is_thread => thread.cpu_time(),
        _ => whole_time,
    };
    let mut text = format!(
        "{} ({}) {} {} {} {} {} {} 0 {} 0 0 0 {} 0 {} 0 {} {} {} 0 {} {} {} 18446744073709551615",
        subject.thread,
        name_of(&process, subject),
        letter(&process, subject),
        process.parent_id(),
        process.group(),
        process.session(),
        device,
        foreground,
        process.faults.load(Ordering::Relaxed),
        time / TICK,
        process.children_time() / TICK,
        20 + nice,
        nice,
        process.thread_count(),
        process.start_time / TICK,
        mapped * 4096,
        present,
    );
    // Addresses are not told; nor is what follows the signal sets.
    text.push_str(" 0 0 0 0 0");
    text.push_str(&format!(" {pending} {blocked} {ignored} {caught}"));
    let cpu = thread(&process, subject).map_or(0, |thread| thread.cpu());
    text.push_str(&format!(" 0 0 0 17 {cpu} 0 0 0 0 0 0 0 0 0 0 0 0 0\n"));
    Ok(text.into_bytes())
}

pub fn status(subject: &Subject) -> Text {
    let process = process(subject)?;
    let (pending, ignored, caught) = process.signal_sets();
    let (mapped, present) = sizes(&process);
    let letter = letter(&process, subject);
    let blocked = thread(&process, subject).map_or(0, |thread| thread.blocked());
    let switches = thread(&process, subject).map_or(0, |thread| thread.switches());
    let credentials = process.credentials.lock().clone();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text.push_str(name);
        text.push_str(":\t");
        text.push_str(&value);
        text.push('\n');
    };
    line("Name", name_of(&process, subject));
    line("Umask", format!("{:04o}", process.paths.get().map_or(0, |paths| paths.umask())));
    line("State", format!("{letter} ({})", state_name(letter)));
    line("Tgid", format!("{}", process.pid));
    line("Ngid", String::from("0"));
    line("Pid", format!("{}", subject.thread));
    line("PPid", format!("{}", process.parent_id()));
    let tracer = thread(&process, subject).map_or(0, |thread| thread.tracer());
    line("TracerPid", format!("{tracer}"));
    let four = |real, effective, saved| format!("{real}\t{effective}\t{saved}\t{effective}");
    let Credentials { real_user, effective_user, saved_user, .. } = credentials;
    line("Uid", four(real_user, effective_user, saved_user));
    let Credentials { real_group, effective_group, saved_group, .. } = credentials;
    line("Gid", four(real_group, effective_group, saved_group));
    let slots = process.files.get().map_or(0, |files| files.descriptors().len());
    line("FDSize", format!("{}", slots.next_power_of_two().max(64)));
    line("Groups", credentials.groups.iter().map(|group| format!("{group} ")).collect());
    if process.mm.get().is_some() {
        for (name, pages) in
            [("VmPeak", mapped), ("VmSize", mapped), ("VmHWM", present), ("VmRSS", present)]
        {
            line(name, format!("{:8} kB", pages * 4));
        }
    }
    line("Threads", format!("{}", process.thread_count()));
    let (most, _) = process.limits.lock().get(RLIMIT_SIGPENDING);
    line("SigQ", format!("0/{most}"));
    let sets = [
        ("SigPnd", 0),
        ("ShdPnd", pending),
        ("SigBlk", blocked),
        ("SigIgn", ignored),
        ("SigCgt", caught),
    ];
    for (name, set) in sets {
        line(name, format!("{set:016x}"));
    }
    /// Capabilities 0 to 40.
    const ALL: u64 = (1 << 41) - 1;
    let effective = if effective_user == 0 { ALL } else { 0 };
    let sets = [
        ("CapInh", 0),
        ("CapPrm", effective),
        ("CapEff", effective),
        ("CapBnd", ALL),
        ("CapAmb", 0),
    ];
    for (name, set) in sets {
        line(name, format!("{set:016x}"));
    }
    line("NoNewPrivs", format!("{}", u32::from(process.no_new_privileges())));
    line("Seccomp", String::from("0"));
    if let Some(mm) = process.mm.get() {
        let state = if mm.is_open() || !isolation::switchable() { "off" } else { "on" };
        line("Page_Table_Isolation", String::from(state));
    }
    let possible = processors::count();
    let all = Cpus::below(possible);
    let allowed = thread(&process, subject).map_or(all, |it| it.affinity() & all);
    line("Cpus_allowed", allowed.mask(possible));
    line("Cpus_allowed_list", format!("{}", Ranges(allowed.iter())));
    line("voluntary_ctxt_switches", format!("{switches}"));
    line("nonvoluntary_ctxt_switches", String::from("0"));
    Ok(text.into_bytes())
}
