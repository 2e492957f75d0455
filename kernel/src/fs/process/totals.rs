//! What /proc tells of the machine as a whole.

use crate::arch::cpu::{self, CpuLocal};
use crate::errno::Result;
use crate::fs::generated::Subject;
use crate::mm::frame;
use crate::{task, time};
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};

type Text = Result<Vec<u8>>;

const SECOND: u64 = 1_000_000_000;
const TICK: u64 = SECOND / 100;

/// Nanoseconds that CPUs had nothing to run, all of them added up.
fn idle() -> u64 {
    task::cpus::ready().iter().filter_map(task::cpus::times).map(|(_, idle)| idle).sum()
}

pub fn uptime(_: &Subject) -> Text {
    let hundredths = time::now() / TICK;
    let idle = idle() / TICK;
    Ok(format!("{}.{:02} {}.{:02}\n", hundredths / 100, hundredths % 100, idle / 100, idle % 100)
        .into_bytes())
}

pub fn load(_: &Subject) -> Text {
    let (_, threads, _, last) = task::table::counts();
    let running = task::cpus::runnable();
    Ok(format!("0.00 0.00 0.00 {running}/{threads} {last}\n").into_bytes())
}

pub fn memory(_: &Subject) -> Text {
    let (total, free) = frame::totals();
    let mut text = String::new();
    let mut line = |name: &str, pages: usize| {
        text.push_str(&format!("{:<16}{:8} kB\n", format!("{name}:"), pages * 4));
    };
    line("MemTotal", total);
    line("MemFree", free);
    line("MemAvailable", free);
    for name in ["Buffers", "Cached", "SwapCached", "Active", "Inactive", "SwapTotal", "SwapFree"] {
        line(name, 0);
    }
    for name in ["Dirty", "Writeback", "AnonPages", "Mapped", "Shmem", "KReclaimable", "Slab"] {
        line(name, 0);
    }
    for name in ["SReclaimable", "SUnreclaim", "KernelStack", "PageTables", "Committed_AS"] {
        line(name, 0);
    }
    Ok(text.into_bytes())
}

pub fn statistics(_: &Subject) -> Text {
    let (_, _, forks, _) = task::table::counts();
    let boot = time::realtime().saturating_sub(time::now()) / SECOND;
    let (mut busy, mut idle) = (0, 0);
    let mut each = String::new();
    for cpu in task::cpus::ready().iter() {
        let times = task::cpus::times(cpu).unwrap_or_default();
        let line = format!("cpu{cpu} {} 0 0 {} 0 0 0 0 0 0\n", times.0 / TICK, times.1 / TICK);
        each.push_str(&line);
        (busy, idle) = (busy + times.0, idle + times.1);
    }
    Ok(format!(
        "cpu  {} 0 0 {} 0 0 0 0 0 0\n{each}intr 0\n\
         ctxt {}\nbtime {boot}\nprocesses {forks}\nprocs_running {}\nprocs_blocked 0\nsoftirq 0\n",
        busy / TICK,
        idle / TICK,
        task::cpus::switches(),
        task::cpus::runnable(),
    )
    .into_bytes())
}

pub fn interrupts(_: &Subject) -> Text {
    type Count = fn(&CpuLocal) -> &AtomicU64;
    let rows: [(&str, Count, &str); 5] = [
        ("NMI", |local| &local.nmis, "Non-maskable interrupts"),
        ("LOC", |local| &local.timers, "Local timer interrupts"),
        ("RES", |local| &local.reschedules, "Rescheduling interrupts"),
        ("TLB", |local| &local.flushes, "TLB shootdowns"),
        ("MCE", |local| &local.machine_checks, "Machine check exceptions"),
    ];
    let online: Vec<usize> = cpu::online().iter().collect();
    let mut text = String::from("     ");
    for cpu in &online {
        text.push_str(&format!("{:<11}", format!("      CPU{cpu}")));
    }
    for (name, count, what) in rows {
        text.push_str(&format!("\n{name}:"));
        for &cpu in &online {
            text.push_str(&format!(" {:10}", count(cpu::of(cpu)).load(Ordering::Relaxed)));
        }
        text.push_str(&format!("   {what}"));
    }
    text.push('\n');
    Ok(text.into_bytes())
}

pub fn virtual_memory(_: &Subject) -> Text {
    Ok(format!("nr_free_pages {}\n", frame::totals().1).into_bytes())
}
