//! Bochs's settings file: a PC with a CD, a serial port, no display, and every problem an end.

use super::{Bochs, Tools};

/// Where Bochs writes what it has to say.
pub const LOG: &str = "log";
/// Where the first serial port goes.
pub const SERIAL: &str = "serial";
/// The CD that it boots from.
pub const CD: &str = "cd.iso";
/// Firmware, below `usr/share`.
pub const BIOS: &str = "bochs/BIOS-bochs-latest";
/// The display adapter's firmware.
pub const VGA_BIOS: &str = "bochs/VGABIOS-lgpl-latest";

/// Emulated instructions in a second of the guest's devices' time.
const INSTRUCTIONS_PER_SECOND: u64 = 50_000_000;

/// The contents of the settings file. Paths in it are relative to Bochs's own directory, but for the
/// firmware's. A triple fault and a panic of Bochs's own end it. An MSR that Bochs does not know is #GP, as on a
/// CPU, unless the guest `expects_msrs` that its CPU model should have.
pub fn file(tools: &Tools, guest: &Bochs, expects_msrs: bool) -> String {
    let lines = [
        "plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, \
         gameport=0, iodebug=0"
            .into(),
        "config_interface: textconfig".into(),
        // A display server that waits for nobody: the only one that needs no display.
        "display_library: rfb, options=\"timeout=0\"".into(),
        format!(
            "cpu: model={}, count={}, ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0, \
             ignore_bad_msrs={}",
            guest.model.name(),
            guest.cpus,
            u8::from(expects_msrs)
        ),
        format!("megs: {}", guest.memory_mib),
        format!("romimage: file={}", tools.share(BIOS).display()),
        format!("vgaromimage: file={}", tools.share(VGA_BIOS).display()),
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14".into(),
        format!("ata0-master: type=cdrom, path={CD}, status=inserted"),
        "boot: cdrom".into(),
        format!("log: {LOG}"),
        "panic: action=fatal".into(),
        "error: action=report".into(),
        "info: action=report".into(),
        "debug: action=ignore".into(),
        // The guest's time is its own: no waiting for the host's.
        "clock: sync=none, time0=1704067200".into(),
        format!("com1: enabled=1, mode=file, dev={SERIAL}"),
        "sound: waveoutdrv=dummy".into(),
    ];
    lines.map(|line: String| line + "\n").concat()
}
