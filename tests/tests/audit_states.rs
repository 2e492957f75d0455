//! The audit of Debian's Linux in states that are none of a busy machine: CPUs that idle in the kernel, 32-bit programs,
//! any moment of the boot before there is a program.

use std::time::Duration;

use ringwall_audit::document::{Audit, Caught};
use ringwall_audit::{Error, Subject, look};
use ringwall_emulator::{GuestMemory, INTEL_CPU};
use ringwall_tests::looking::{audit, cpus};
use ringwall_tests::{Boot, Library, Running, linux_or_skip, program};

const BOOT_LIMIT: Duration = Duration::from_secs(80);
const CATCH_LIMIT: Duration = Duration::from_secs(80);

fn boot() -> Option<Boot> {
    let kernel = linux_or_skip()?;
    let boot = Boot::new().kernel(kernel).limit(2 * BOOT_LIMIT).append("cryptomgr.notests");
    Some(boot.cpu(&format!("{INTEL_CPU},-la57")).memory(256))
}

fn has(audit: &Audit, id: &str) -> bool {
    audit.findings.iter().any(|finding| finding.id == id)
}

/// Every page that user mode sees has a name, and isolation is not called off.
fn check(audit: &Audit) {
    for region in audit.views.iter().flat_map(|view| &view.visible) {
        assert!(region.name.is_some(), "{region:x?} has no name");
    }
    assert!(!has(audit, "kernel-mapped-whole"), "{:#?}", audit.findings);
    assert!(audit.views.iter().all(|view| view.kernel_root.is_some()), "no pair was found");
}

/// What `caught` accepts, at a moment when the guest is stopped.
fn when(running: &mut Running, count: u32, caught: impl Fn(&Audit) -> bool) -> Audit {
    for pause in (1..=37).cycle().take(500) {
        running.guest.monitor.stop().expect("a monitor that answers");
        let cpus = cpus(&mut running.guest, count);
        let audit = audit(&running.guest.memory, &cpus);
        running.guest.monitor.resume().expect("a monitor that answers");
        if caught(&audit) {
            return audit;
        }
        std::thread::sleep(Duration::from_millis(pause));
    }
    panic!("it was never so; the guest's log:\n{}", running.guest.console.text());
}

/// One busy CPU of four: the areas of all four are visible and have names, whatever roots the idle ones are on.
#[test]
fn idle_cpus_are_named_too() {
    let Some(boot) = boot() else { return };
    let mut running = boot.cpus(4).init(program(Library::Glibc, "spin")).start();
    running.wait_for("READY\n", BOOT_LIMIT);
    let in_ring_3 = |audit: &Audit| audit.cpus.iter().any(|cpu| cpu.caught == Caught::Ring3);
    let audit = when(&mut running, 4, in_ring_3);
    check(&audit);
    assert_eq!(audit.cpus.len() + audit.unseen.len(), 4);
    let names: Vec<_> = audit.views[0].visible.iter().flat_map(|region| &region.name).collect();
    for cpu in 0..4 {
        for text in ["GDT", "entry stack", "TSS", "NMI stack", "#DF stack"] {
            let found = names.iter().any(|name| name.cpu == Some(cpu) && name.text.contains(text));
            assert!(found, "no {text} of CPU {cpu}: {names:#?}");
        }
    }
}

/// Nobody runs: a CPU idles on the kernel root of the last process, and the audit looks at the other one of the pair.
#[test]
fn an_idle_machine_is_looked_at_by_the_pair_of_its_kernel_root() {
    let Some(boot) = boot() else { return };
    let mut running = boot.script("echo ALL READY\nwhile :; do sleep 1; done").start();
    running.wait_for("ALL READY\n", BOOT_LIMIT);
    let idle = |audit: &Audit| {
        audit.cpus.iter().all(|cpu| cpu.caught == Caught::PairInKernel) && !audit.cpus.is_empty()
    };
    let audit = when(&mut running, 1, idle);
    check(&audit);
    assert!(!audit.views[0].user.is_empty() && !audit.views[0].kernel.is_empty());
}

/// A program of 32 bits, made by hand, because few compilers can: writes READY and loops.
fn program_of_32_bits() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let text = BASE + HEADERS;
    let mut code = Vec::new();
    // mov eax, 4 (write); mov ebx, 1; mov ecx, message; mov edx, 6; int 0x80; pause; jmp back to it.
    for (opcode, value) in [(0xb8, 4), (0xbb, 1), (0xb9, text + 26), (0xba, 6)] {
        code.push(opcode);
        code.extend(u32::to_le_bytes(value));
    }
    code.extend([0xcd, 0x80, 0xf3, 0x90, 0xeb, 0xfc]);
    code.extend(b"READY\n");
    let size = HEADERS + code.len() as u32;

    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for the 80386, version 1.
    file.extend([2, 0, 3, 0, 1, 0, 0, 0]);
    for word in [text, 52, 0, 0] {
        file.extend(u32::to_le_bytes(word));
    }
    for half in [52_u16, 32, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    // Load it whole, to be read and executed.
    for word in [1, 0, BASE, BASE, size, size, 5, 0x1000] {
        file.extend(u32::to_le_bytes(word));
    }
    file.extend(code);
    file
}

#[test]
fn a_program_of_32_bits_is_ring_3_like_any_other() {
    let Some(boot) = boot() else { return };
    let mut running = boot.init(program_of_32_bits()).start();
    running.wait_for("READY\n", BOOT_LIMIT);
    let caught = running.guest.stop_in_user_mode(CATCH_LIMIT).expect("a monitor that answers");
    let registers = caught.expect("a CPU in user mode");
    assert_eq!(registers.rip >> 16, 0x804, "{registers:x?}");
    let cpus = cpus(&mut running.guest, 1);
    let audit = audit(&running.guest.memory, &cpus);
    assert_eq!(audit.cpus[0].caught, Caught::Ring3);
    check(&audit);
    assert!(audit.views[0].user.iter().any(|region| region.address == 0x0804_8000));
}

fn try_look(memory: &GuestMemory, cpus: &[ringwall_audit::cpu::Cpu]) -> Result<Audit, Error> {
    look(&Subject {
        memory: &|address: u64, buffer: &mut [u8]| memory.read(address, buffer),
        cpus,
        source: "a scenario".into(),
        symbols: None,
        kernel_cr3: None,
        progress: &|_, _| {},
    })
}

/// From the firmware to the first program: whatever state the CPU is in, the audit ends, and never says that all is well
/// as long as nothing was seen of a user root.
#[test]
fn no_moment_of_the_boot_is_called_clean() {
    let Some(boot) = boot() else { return };
    let mut running = boot.init(program(Library::Glibc, "spin")).start();
    let (mut without_tables, mut in_kernel) = (0, 0);
    while !running.guest.console.text().contains("READY\n") {
        running.guest.monitor.stop().expect("a monitor that answers");
        let cpus = cpus(&mut running.guest, 1);
        match try_look(&running.guest.memory, &cpus) {
            Err(Error::NoTables | Error::Root { .. }) => without_tables += 1,
            Ok(audit) => {
                let sight =
                    |cpu: &ringwall_audit::document::CpuView| cpu.caught != Caught::RootInKernel;
                let seen = audit.cpus.iter().any(sight);
                let told = has(&audit, "not-seen-in-ring-3") || has(&audit, "kernel-mapped-whole");
                assert!(seen || told || audit.cpus.is_empty(), "{:#?}", audit.findings);
                in_kernel += u32::from(!seen);
            }
        }
        running.guest.monitor.resume().expect("a monitor that answers");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{without_tables} moments without page tables, {in_kernel} in the kernel");
    assert!(without_tables > 0 && in_kernel > 0);
}
