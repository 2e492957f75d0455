//! Which CPUs the machine has, by ACPI's table of interrupt controllers (MADT; ACPI 5.2.12).
//!
//! Numbers are given at boot: 0 to the boot CPU, the others as the table lists them.

use super::acpi::DirectMap;
use super::cpu;
use crate::println;
use crate::sync::Once;
use acpi::AcpiTables;
use acpi::madt::Madt;
use ringwall_rules::processors::{self, Damaged};

/// APIC identifiers, by CPU number.
#[derive(Clone, Copy, Debug)]
struct Found {
    ids: [u32; cpu::MAXIMUM],
    count: usize,
    /// There were more than the kernel has room for.
    more: usize,
}

static FOUND: Once<Found> = Once::new();

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
        let length = table.region_length();
        // SAFETY: `find_table` has added up so many bytes from there; nobody writes them.
        let bytes =
            unsafe { core::slice::from_raw_parts(table.virtual_start().as_ptr().cast(), length) };
        if let Err(Damaged) = processors::for_each(bytes, wide, |id| found.add(id)) {
            println!("ringwall: ACPI's table of processors is damaged: some may be missing");
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
