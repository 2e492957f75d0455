//! What /proc tells of the machine as a whole.

use crate::errno::Result;
use crate::fs::current;
use crate::fs::generated::Subject;
use crate::mm::frame;
use crate::{task, time};
use alloc::{format, string::String, vec::Vec};

type Text = Result<Vec<u8>>;

const SECOND: u64 = 1_000_000_000;
const TICK: u64 = SECOND / 100;

pub fn uptime(_: &Subject) -> Text {
    let hundredths = time::now() / TICK;
    let idle = current::totals().idle / TICK;
    Ok(format!("{}.{:02} {}.{:02}\n", hundredths / 100, hundredths % 100, idle / 100, idle % 100)
        .into_bytes())
}

pub fn load(_: &Subject) -> Text {
    let all = task::all();
    let threads: usize = all.iter().map(|process| process.thread_ids().len()).sum();
    let running = all.iter().filter(|process| process.state_letter() == 'R').count();
    let last = current::totals().last_pid;
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
    let totals = current::totals();
    let idle = totals.idle / TICK;
    let user = (time::now() / TICK).saturating_sub(idle);
    let boot = time::realtime().saturating_sub(time::now()) / SECOND;
    Ok(format!(
        "cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {user} 0 0 {idle} 0 0 0 0 0 0\nintr 0\n\
         ctxt {}\nbtime {boot}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\nsoftirq 0\n",
        totals.switches,
        totals.forks,
        totals.running.max(1),
    )
    .into_bytes())
}

pub fn interrupts(_: &Subject) -> Text {
    Ok(b"           CPU0       \n".to_vec())
}

pub fn virtual_memory(_: &Subject) -> Text {
    Ok(format!("nr_free_pages {}\n", frame::totals().1).into_bytes())
}
