//! Power-off and reset, as ACPI describes them; the tables for whoever else wants to know.

use crate::mm::layout::direct;
use crate::sync::Once;
use crate::{BOOT_MAPPED, give_up, println};
use acpi::fadt::Fadt;
use acpi::{AcpiHandler, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;
use x86_64::instructions::port::Port;

/// How to enter S5: write `value` to the 16-bit port `port`.
#[derive(Clone, Copy)]
struct PowerOff {
    port: u16,
    value: u16,
}

static POWER_OFF: Once<PowerOff> = Once::new();

/// Bochs's (and older QEMU's) shutdown port, for machines without ACPI tables.
const BOCHS_SHUTDOWN: u16 = 0x8900;
/// Turns of an empty loop: about a tenth of a second, or more.
const PATIENCE: u32 = 100_000_000;
/// SLP_EN of PM1_CNT (ACPI 4.8.3.2.1).
const SLEEP_ENABLE: u16 = 1 << 13;

/// The tables, through the direct map.
#[derive(Clone)]
pub(super) struct DirectMap;

impl AcpiHandler for DirectMap {
    unsafe fn map_physical_region<T>(
        &self,
        physical: usize,
        size: usize,
    ) -> PhysicalMapping<Self, T> {
        let end = (physical as u64).checked_add(size as u64);
        let start = NonNull::new(direct(physical as u64).cast());
        let (Some(start), Some(..=BOOT_MAPPED)) = (start, end) else {
            give_up(format_args!(
                "the firmware's ACPI tables are damaged: one is said to be at {physical:#x}, not below 4 GiB"
            ));
        };
        // SAFETY: the boot's direct map reaches it; the caller says that a `T` is there.
        unsafe { PhysicalMapping::new(physical, start, size, size, DirectMap) }
    }

    fn unmap_physical_region<T>(_region: &PhysicalMapping<Self, T>) {}
}

/// Finds out how to power off, and which CPUs there are. `rsdp`: physical address of ACPI's root pointer, 0 if unknown.
pub fn find(rsdp: u64) {
    let tables = match rsdp {
        0 => None,
        // SAFETY: the boot loader says that the root pointer is there.
        _ => unsafe { AcpiTables::from_rsdp(DirectMap, rsdp as usize) }.ok(),
    };
    if let Some(tables) = &tables {
        super::processors::note(tables);
    }
    match tables.and_then(|tables| power_off_from(&tables)) {
        Some(power_off) => {
            POWER_OFF.call_once(|| power_off);
        }
        None => println!("ringwall: ACPI does not say how to power off"),
    }
}

fn power_off_from(tables: &AcpiTables<DirectMap>) -> Option<PowerOff> {
    let port = tables.find_table::<Fadt>().ok()?.pm1a_control_block().ok()?.address;
    let dsdt = tables.dsdt().ok()?;
    // A header that says less than its own length gives a length near 4 GiB here.
    (dsdt.address as u64).checked_add(dsdt.length.into()).filter(|end| *end <= BOOT_MAPPED)?;
    // SAFETY: the boot's direct map reaches the table.
    let code =
        unsafe { core::slice::from_raw_parts(direct(dsdt.address as u64), dsdt.length as usize) };
    let sleep_type = sleep_type_5(code)?;
    Some(PowerOff { port: port as u16, value: SLEEP_ENABLE | u16::from(sleep_type) << 10 })
}

/// The first element of the package named `_S5_` in AML: SLP_TYPa (ACPI 7.4.2, 20.2.5).
fn sleep_type_5(code: &[u8]) -> Option<u8> {
    const PACKAGE: u8 = 0x12;
    const BYTE: u8 = 0x0a;
    let name = code.windows(5).position(|window| window == b"_S5_\x12")?;
    let package = &code[name + 4..];
    debug_assert!(package[0] == PACKAGE);
    // The package's length: the top two bits of its first byte count the bytes that follow it.
    let length_bytes = 1 + usize::from(package.get(1)? >> 6);
    match package.get(1 + length_bytes + 1..)? {
        [BYTE, value, ..] => Some(*value),
        [value @ (0 | 1), ..] => Some(*value),
        _ => None,
    }
}

/// Powers the machine off.
pub fn power_off() -> ! {
    if let Some(PowerOff { port, value }) = POWER_OFF.get() {
        // SAFETY: ACPI's register for it.
        unsafe { Port::<u16>::new(*port).write(*value) };
    }
    for byte in b"Shutdown" {
        // SAFETY: a port that only emulators answer.
        unsafe { Port::<u8>::new(BOCHS_SHUTDOWN).write(*byte) };
    }
    // The machine takes a moment to go. (The clock may not run yet.)
    for _ in 0..PATIENCE {
        core::hint::spin_loop();
    }
    println!("ringwall: this machine cannot be powered off from here; resetting it");
    reset()
}

/// Resets the machine.
pub fn reset() -> ! {
    // SAFETY: the chipset's reset control: a full reset.
    unsafe { Port::<u8>::new(0xcf9).write(0x0e) };
    // SAFETY: the keyboard controller's reset line.
    unsafe { Port::<u8>::new(0x64).write(0xfe_u8) };
    stop()
}

/// Stops this CPU for good.
pub fn stop() -> ! {
    loop {
        x86_64::instructions::interrupts::disable();
        x86_64::instructions::hlt();
    }
}
