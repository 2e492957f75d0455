//! /proc/ringwall: how this kernel is isolated, and what each CPU has counted. `docs/counters.md` has the format.
//!
//! Invariant: `NAME: VALUE...` a line, one value for each CPU of the line `cpu` in its order.

use crate::arch::cpu::{self, CpuLocal};
use crate::arch::frames::KernelFrames;
use crate::arch::isolation::{decision, isolation};
use crate::errno::Result;
use crate::fs::generated::Subject;
use alloc::{format, string::String, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};
use ringwall::Counters;
use ringwall::core::tlb::Event;

fn line(name: &str, values: impl Iterator<Item = u64>) -> String {
    let mut line = format!("{name}:");
    values.for_each(|value| line.push_str(&format!(" {value}")));
    line.push('\n');
    line
}

pub fn counters(_: &Subject) -> Result<Vec<u8>> {
    let isolation = isolation().lock();
    let counted = |cpu| Some((cpu, isolation.counters(cpu, &KernelFrames)?));
    let cpus: Vec<(usize, Counters)> = (0..cpu::MAXIMUM).filter_map(counted).collect();
    let each = || cpus.iter().map(|(_, counters)| counters);

    let is_on = if isolation.isolated() { "on" } else { "off" };
    let status =
        decision().map_or(String::from("unknown"), |decision| format!("{}", decision.status()));
    let features = isolation.tlb();
    let tlb = match (features.pcid, features.invpcid) {
        (false, _) => "flushed by every switch",
        (true, false) => "PCID",
        (true, true) => "PCID, INVPCID",
    };
    let mut text = format!("isolation: {is_on}\nmeltdown: {status}\ntlb: {tlb}\n");
    text.push_str(&line("cpu", cpus.iter().map(|&(cpu, _)| cpu as u64)));
    text.push_str(&line("entries-switched", each().map(Counters::entries_switched)));
    text.push_str(&line("entries-open", each().map(Counters::entries_open)));
    text.push_str(&line("cr3-writes", each().map(Counters::cr3_writes)));
    for event in Event::ALL {
        text.push_str(&line(event.name(), each().map(|counters| counters.of(event))));
    }
    let local = |of: fn(&CpuLocal) -> &AtomicU64| {
        cpus.iter().map(move |&(cpu, _)| of(cpu::of(cpu)).load(Ordering::Relaxed))
    };
    text.push_str(&line("shootdown-sent", local(|local| &local.shootdowns_sent)));
    text.push_str(&line("shootdown-served", local(|local| &local.shootdowns_served)));
    let places = cpus.first().map(|(_, first)| first.nmis()).into_iter().flatten();
    for (number, (place, _)) in places.enumerate() {
        let nmis = each().filter_map(|counters| Some(counters.nmis().nth(number)?.1));
        text.push_str(&line(&format!("nmi in {place}"), nmis));
    }
    Ok(text.into_bytes())
}
