//! The audit tells the truth about a kernel that we did not write: Debian's Linux 6.1, page for page against QEMU's own
//! walk (`info tlb`) and a translation of each address by hand.
//!
//! With isolation and without, one CPU and four, with and without a random kernel address, four and five levels of
//! tables. All eight boots together hold every combination of any three of these.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use ringwall_audit::cpu::Cpu;
use ringwall_audit::document::{Audit, Region, Rights};
use ringwall_audit::{Page, TableCache, Tables, USER_ROOT};
use ringwall_emulator::{GuestMemory, INTEL_CPU};
use ringwall_tests::independent::{Listed, Raw, listing};
use ringwall_tests::looking::{audit, cpus};
use ringwall_tests::{Boot, Library, Running, linux, program};

const KERNEL_HALF: u64 = 1 << 63;
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
    let mut running = boot.start();
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
        let cpus = cpus(guest, setting.cpus);
        let audit = audit(&guest.memory, &cpus);
        for cpu in cpus {
            assert_eq!(cpu.paging().levels, setting.levels);
            if seen.contains(&cpu.cr3) {
                continue;
            }
            // A hundred roots of as many processes would tell nothing new.
            let of_ring_3 = cpu.cpl == 3;
            let of_kernel = cpu.cpl == 0 && (!setting.isolated || cpu.cr3 & USER_ROOT == 0);
            let wanted = of_ring_3 && !user || of_kernel && !kernel;
            if !wanted && seen.len() >= 2 {
                continue;
            }
            seen.push(cpu.cr3);
            let text = guest.monitor.human("info tlb", cpu.index as usize).expect("a listing");
            let pages = compare_root(&guest.memory, &cpu, &audit, &text);
            compared.insert(format!("CPU {} in ring {}", cpu.index, cpu.cpl), pages);
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

/// Compares the root that a CPU is on with QEMU's listing of it: a translation of each page, and the runs in the audit,
/// as far as they speak of that root. Returns how many pages there are.
fn compare_root(memory: &GuestMemory, cpu: &Cpu, audit: &Audit, text: &str) -> usize {
    let theirs = listing(text);
    assert!(!theirs.is_empty(), "QEMU lists nothing for {:#x}", cpu.cr3);
    let raw = Raw::new(memory, cpu.cr3, cpu.paging().levels);
    let mut pages: Vec<Page> = theirs.iter().map(|page| expected(&raw, page)).collect();
    pages.sort_by_key(|page| page.address);

    let read = |address: u64, buffer: &mut [u8]| memory.read(address, buffer);
    let cache = TableCache::new(&read);
    let tables = Tables::new(&cache, cpu.cr3, cpu.paging());
    for page in &pages {
        assert_eq!(tables.translate(page.address).map(plain).as_ref(), Some(page));
    }

    let root = cpu.root();
    let view = audit.cpus.iter().find(|seen| seen.cpu.index == cpu.index).expect("this CPU").view;
    let view = &audit.views[view];
    let runs: Vec<&Region> = if root == view.user_root {
        view.user.iter().chain(&view.visible).collect()
    } else {
        assert_eq!(view.kernel_root, Some(root), "CPU {} is on another root", cpu.index);
        pages.retain(|page| page.address >= KERNEL_HALF);
        view.kernel.iter().collect()
    };
    compare_runs(runs, &pages);
    assert_eq!(view.anomalies, [], "Linux's tables are sound");
    theirs.len()
}

/// Every page is in one run and every run holds nothing but its pages.
fn compare_runs(mut runs: Vec<&Region>, pages: &[Page]) {
    runs.sort_by_key(|run| run.address);
    let shown: HashSet<u64> = pages.iter().map(|page| page.physical).collect();
    let mut rest = pages;
    for run in runs {
        let count = rest.iter().take_while(|page| page.address <= run.last()).count();
        let (here, later) = rest.split_at(count);
        rest = later;
        let last = here.last().unwrap_or_else(|| panic!("QEMU sees nothing of {run:x?}"));
        assert_eq!(here[0].address, run.address, "{run:x?}");
        assert_eq!(last.address + (last.size - 1), run.last(), "{run:x?}");
        assert_eq!(here.len() as u64, run.pages, "{run:x?}");
        assert_eq!(here[0].physical, run.physical, "{run:x?}");
        for page in here {
            assert_eq!(rights(page), rights_of_run(run), "{page:x?} of {run:x?}");
            match run.repeats {
                Some(first) => {
                    assert!(first < run.address && shown.contains(&page.physical), "{run:x?}");
                }
                None => assert_eq!(page.size, run.page_size, "{page:x?} of {run:x?}"),
            }
            let offset = page.address - run.address;
            assert!(!run.contiguous || page.physical == run.physical + offset, "{run:x?}");
        }
    }
    assert_eq!(rest.first(), None, "{} pages are in no run", rest.len());
}

fn rights(page: &Page) -> (bool, bool, bool, bool) {
    (page.rights.user, page.rights.writable, page.rights.executable, page.rights.global)
}

fn rights_of_run(run: &Region) -> (bool, bool, bool, bool) {
    (run.rights.user, run.rights.writable, run.rights.executable, run.rights.global)
}

/// A page without its protection key, of which QEMU says nothing.
fn plain(page: Page) -> Page {
    Page { rights: Rights { key: 0, ..page.rights }, ..page }
}

/// The page that QEMU has listed, with its size and the rights that all levels leave.
fn expected(raw: &Raw, listed: &Listed) -> Page {
    let found = raw.translate(listed.address);
    let found = found.unwrap_or_else(|| panic!("{listed:x?} is not there by hand"));
    assert_eq!(found.physical, listed.physical, "{listed:x?}");
    assert_eq!(found.size > 4096, listed.large, "{listed:x?}");
    assert_eq!(found.leaf >> 63 == 1, listed.no_execute, "{listed:x?}");
    assert_eq!(found.leaf & 6, u64::from(listed.user) << 2 | u64::from(listed.writable) << 1);
    let rights = Rights {
        user: found.user,
        writable: found.writable,
        executable: found.executable,
        global: listed.global,
        key: 0,
    };
    Page { address: listed.address, physical: listed.physical, size: found.size, rights }
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
