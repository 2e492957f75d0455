//! The audit tells the truth about a kernel that we did not write: Debian's Linux 6.1, page for page against QEMU's own
//! walk (`info tlb`) and a translation of each address by hand.
//!
//! With isolation and without, one CPU and four, with and without a random kernel address, four and five levels of
//! tables. All eight boots together hold every combination of any three of these.

use std::collections::BTreeMap;
use std::time::Duration;

use ringwall_audit::{Leaf, USER_ROOT, leaves};
use ringwall_emulator::{GuestMemory, INTEL_CPU, Registers};
use ringwall_tests::independent::{Listed, Raw, listing};
use ringwall_tests::{Boot, Library, Running, linux, program};

/// How long a boot may take when others run beside it.
const BOOT_LIMIT: Duration = Duration::from_secs(80);
/// Something in ring 3 and something in ring 0, on as many CPUs as there may be.
const BUSY: &str = "mount -t devtmpfs dev /dev\nfor i in 1 2 3; do /bin/spin & dd if=/dev/zero of=/dev/null bs=1 & done\n\
                    echo ALL READY\nexec /bin/spin";

#[derive(Clone, Copy, Debug)]
struct Setting {
    isolated: bool,
    cpus: u32,
    random: bool,
    levels: u8,
}

/// `isolated`, `cpus`, `random`; the levels follow.
fn compare(isolated: bool, cpus: u32, random: bool) {
    let levels = if isolated ^ (cpus > 1) ^ random { 5 } else { 4 };
    let setting = Setting { isolated, cpus, random, levels };
    let Some(mut running) = start(setting) else { return };
    let pages = compare_all_cpus(&mut running, setting);
    println!("{setting:?}: {pages:?}");
}

fn start(setting: Setting) -> Option<Running> {
    let Some(kernel) = linux() else {
        println!("skipped: Debian's Linux was not fetched");
        return None;
    };
    let width = if setting.levels == 4 { ",-la57" } else { "" };
    let boot = Boot::new()
        .kernel(kernel)
        .limit(BOOT_LIMIT * 2)
        .pti(if setting.isolated { "on" } else { "off" })
        .append(if setting.random { "cryptomgr.notests" } else { "nokaslr cryptomgr.notests" })
        .cpu(&format!("{INTEL_CPU}{width}"))
        .cpus(setting.cpus)
        .memory(256)
        .file("/bin/spin", 0o755, program(Library::Glibc, "spin"))
        .script(BUSY);
    let running = boot.start();
    running.wait_for("ALL READY\n", BOOT_LIMIT);
    Some(running)
}

/// Stops the guest again and again and compares every root that a CPU is on, until one was met in ring 3 and one in
/// ring 0; with isolation, that one is the kernel root of a pair. Returns how many pages were compared, by ring and CPU.
fn compare_all_cpus(running: &mut Running, setting: Setting) -> BTreeMap<String, usize> {
    let guest = &mut running.guest;
    let mut compared = BTreeMap::new();
    let mut seen = Vec::new();
    let (mut user, mut kernel) = (false, false);
    for pause in (1..200).cycle().take(1000) {
        guest.monitor.stop().expect("a monitor that answers");
        for cpu in 0..setting.cpus as usize {
            let registers = guest.monitor.registers(cpu).expect("registers");
            assert_eq!(registers.levels(), setting.levels);
            if seen.contains(&registers.cr3) {
                continue;
            }
            // A hundred roots of as many processes would tell nothing new.
            let of_ring_3 = registers.cpl == 3;
            let of_kernel =
                registers.cpl == 0 && (!setting.isolated || registers.cr3 & USER_ROOT == 0);
            let wanted = of_ring_3 && !user || of_kernel && !kernel;
            if !wanted && seen.len() >= 2 {
                continue;
            }
            seen.push(registers.cr3);
            let text = guest.monitor.human("info tlb", cpu).expect("a listing");
            let pages = compare_root(&guest.memory, &registers, &text);
            compared.insert(format!("CPU {cpu} in ring {}", registers.cpl), pages);
            user |= of_ring_3;
            kernel |= of_kernel;
        }
        // One root for both rings: whichever is met.
        if user && kernel || !setting.isolated && !seen.is_empty() {
            return compared;
        }
        guest.monitor.resume().expect("a monitor that answers");
        std::thread::sleep(Duration::from_millis(pause % 17));
    }
    panic!("{setting:?}: only these were met: {compared:?}\n{}", guest.console.text());
}

/// Compares one root with QEMU's listing of it; returns how many pages both have.
fn compare_root(memory: &GuestMemory, registers: &Registers, text: &str) -> usize {
    let theirs = listing(text);
    assert!(!theirs.is_empty(), "QEMU lists nothing for {:#x}", registers.cr3);
    let raw = Raw::new(memory, registers.cr3, registers.levels());
    let read = |address: u64, buffer: &mut [u8]| memory.read(address, buffer);
    let ours = leaves(&read, registers.cr3, registers.levels()).expect("sane tables");
    let mut expected: Vec<Leaf> = theirs.iter().map(|page| expected(&raw, page)).collect();
    expected.sort_by_key(|leaf| leaf.address);
    for (ours, expected) in ours.iter().zip(&expected) {
        assert_eq!(ours, expected, "CR3 is {:#x}", registers.cr3);
    }
    assert_eq!(ours.len(), expected.len(), "pages below {:#x}", registers.cr3);
    ours.len()
}

/// The page that QEMU has listed, with its size and the rights that all levels leave.
fn expected(raw: &Raw, listed: &Listed) -> Leaf {
    let found = raw.translate(listed.address);
    let found = found.unwrap_or_else(|| panic!("{listed:x?} is not there by hand"));
    assert_eq!(found.physical, listed.physical, "{listed:x?}");
    assert_eq!(found.size > 4096, listed.large, "{listed:x?}");
    assert_eq!(found.leaf >> 63 == 1, listed.no_execute, "{listed:x?}");
    assert_eq!(found.leaf & 6, u64::from(listed.user) << 2 | u64::from(listed.writable) << 1);
    Leaf {
        address: listed.address,
        physical: listed.physical,
        size: found.size,
        writable: found.writable,
        user: found.user,
        executable: found.executable,
    }
}

#[test]
fn isolated_on_one_cpu() {
    compare(true, 1, false);
}

#[test]
fn isolated_on_one_cpu_at_a_random_address() {
    compare(true, 1, true);
}

#[test]
fn isolated_on_four_cpus() {
    compare(true, 4, false);
}

#[test]
fn isolated_on_four_cpus_at_a_random_address() {
    compare(true, 4, true);
}

#[test]
fn not_isolated_on_one_cpu() {
    compare(false, 1, false);
}

#[test]
fn not_isolated_on_one_cpu_at_a_random_address() {
    compare(false, 1, true);
}

#[test]
fn not_isolated_on_four_cpus() {
    compare(false, 4, false);
}

#[test]
fn not_isolated_on_four_cpus_at_a_random_address() {
    compare(false, 4, true);
}
