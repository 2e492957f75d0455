//! Which CPUs the machine has, by ACPI's table of interrupt controllers (MADT; ACPI 5.2.12).
//!
//! Numbers are given at boot: 0 to the boot CPU, the others as the table lists them.

use super::acpi::DirectMap;
use super::cpu;
use crate::sync::Once;
use acpi::AcpiTables;
use acpi::madt::{Madt, MadtEntry};

/// APIC identifiers, by CPU number.
#[derive(Clone, Copy, Debug)]
struct Found {
    ids: [u32; cpu::MAXIMUM],
    count: usize,
    /// There were more than the kernel has room for.
    more: usize,
}

static FOUND: Once<Found> = Once::new();

/// The entry's CPU is there.
const ENABLED: u32 = 1;
/// Identifiers from here on are not for the APIC's old mode: 255 is everybody.
const NARROW: u32 = 255;

impl Found {
    fn add(&mut self, id: u32) {
        if self.ids[..self.count].contains(&id) {
            return;
        }
        match self.ids.get_mut(self.count) {
            Some(place) => {
                *place = id;
                self.count += 1;
            }
            None => self.more += 1,
        }
    }
}

/// Notes what the table says.
pub(super) fn note(tables: &AcpiTables<DirectMap>) {
    let features = raw_cpuid::CpuId::new().get_feature_info();
    let boot = features.as_ref().map_or(0, |leaf| leaf.initial_local_apic_id().into());
    let wide = features.is_some_and(|leaf| leaf.has_x2apic());
    let mut found = Found { ids: [0; cpu::MAXIMUM], count: 0, more: 0 };
    found.add(if wide { wide_id().unwrap_or(boot) } else { boot });
    if let Ok(table) = tables.find_table::<Madt>() {
        for entry in table.get().entries() {
            let (id, flags) = match entry {
                MadtEntry::LocalApic(entry) => (entry.apic_id.into(), entry.flags),
                MadtEntry::LocalX2Apic(entry) => (entry.x2apic_id, entry.flags),
                _ => continue,
            };
            if flags & ENABLED != 0 && (wide || id < NARROW) {
                found.add(id);
            }
        }
    }
    FOUND.call_once(|| found);
}

/// This CPU's identifier, from the leaf that has all of it (SDM vol. 2, CPUID.0BH).
fn wide_id() -> Option<u32> {
    let leaf = raw_cpuid::CpuId::new().get_extended_topology_info()?.next()?;
    Some(leaf.x2apic_id())
}

/// How many CPUs there are that the kernel can run.
pub fn count() -> usize {
    FOUND.get().map_or(1, |found| found.count)
}

/// How many more there are than the kernel has room for.
pub fn left_out() -> usize {
    FOUND.get().map_or(0, |found| found.more)
}

/// The APIC identifier of a CPU, if there is such a one.
pub fn apic_id(cpu: usize) -> Option<u32> {
    let found = FOUND.get()?;
    found.ids[..found.count].get(cpu).copied()
}
