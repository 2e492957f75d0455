//! Guests that were started by somebody else, looked at by their monitor and by their cores, and left as they were.

use std::time::{Duration, Instant};

use ringwall_emulator::{Core, Memory, Registers};
use ringwall_tests::{Boot, Library, Other, linux, program};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(240);
/// For catching ring 3: generous, because it is over as soon as all CPUs are there.
const CATCH: Duration = Duration::from_secs(80);
/// More than a look at an idle guest takes on a slow host, and less than [`CATCH`].
const SOON: Duration = Duration::from_secs(60);
const PAGE: u64 = 4096;
/// The local APIC, and VGA's window: devices, on every PC.
const DEVICES: [u64; 2] = [0xfee0_0000, 0xa_0000];

/// Programs that stay in ring 3.
fn spinning(boot: Boot, more: &[&str], memory: u64) -> Other {
    let boot = boot.memory(memory).limit(3 * LIMIT).arguments("5");
    Other::start(&boot.init(program(Library::Glibc, "spin")), more, "READY\n")
}

/// Whether QEMU has a gdb stub.
fn has_stub(guest: &Other) -> bool {
    let mut monitor = guest.launched.attached.monitor();
    let devices = monitor.execute("query-chardev", json!({})).expect("a list");
    devices.as_array().expect("a list").iter().any(|device| device["label"] == "gdb")
}

fn bytes(memory: &dyn Memory, address: u64, length: usize) -> Vec<u8> {
    let mut buffer = vec![0; length];
    assert!(memory.read(address, &mut buffer), "{address:#x} is not in memory");
    buffer
}

/// What only a live guest tells.
fn without_what_cores_lack(registers: &Registers) -> Registers {
    Registers { efer: None, lstar: None, halted: false, ..*registers }
}

fn core_and_monitor_agree(boot: Boot, more: &[&str], memory: u64) {
    let running = spinning(boot, more, memory);
    let mut attached = running.attach();
    let held = attached.hold(CATCH).expect("a guest that is held");
    assert!(!running.runs());
    assert!(held.registers.iter().any(Registers::in_ring_3), "{:x?}", held.registers);

    let file = running.directory().join("core");
    let place = json!({ "paging": false, "protocol": format!("file:{}", file.display()) });
    let dumped = held.monitor().execute_within("dump-guest-memory", place, 2 * LIMIT);
    dumped.expect("a core");
    let core = Core::open(&file).expect("QEMU's own core");
    assert_eq!(core.missing(), 0);
    let expected: Vec<_> = held.registers.iter().map(without_what_cores_lack).collect();
    assert_eq!(core.registers().expect("notes"), expected);

    for cpu in &held.registers {
        assert!(cpu.lstar.is_some_and(|address| address >> 47 == 0x1ffff), "{cpu:x?}");
        assert!(cpu.kernel_gs_base.is_some());
        let root = cpu.cr3 & !(PAGE - 1);
        assert_eq!(bytes(&core, root, 4096), bytes(held.memory(), root, 4096));
    }
    for range in held.memory().ranges().iter().filter(|range| range.name.contains("ram")) {
        // The ends of each range, and blocks on the way.
        let length = (range.end - range.start).min(0x3000);
        for address in (range.start..range.end - length).step_by(99 << 20) {
            let same = bytes(&core, address, 0x800) == bytes(held.memory(), address, 0x800);
            assert!(same, "{address:#x} differs");
        }
        let last = range.end - length;
        let there = bytes(held.memory(), last, length as usize);
        assert!(bytes(&core, last, length as usize) == there, "the end of {range:x?} differs");
    }
    for device in DEVICES {
        assert!(!held.memory().holds(device, 8) && !held.memory().read(device, &mut [0; 8]));
    }
    assert!(held.memory().trouble().is_none());

    held.release().expect("a guest that goes on");
    assert!(running.runs());
    let before = running.registers();
    let deadline = Instant::now() + LIMIT;
    while running.registers() == before {
        assert!(Instant::now() < deadline, "the guest says that it runs, and does nothing");
    }
}

#[test]
fn a_core_and_the_monitor_show_the_same() {
    // Memory that is not shared: `-object` of the user's own is left alone, so all goes through the monitor.
    let backend = ["-object", "memory-backend-ram,id=pc.ram,size=192M"];
    let more = [&backend[..], &["-machine", "memory-backend=pc.ram"]].concat();
    core_and_monitor_agree(Boot::new(), &more, 192);
}

#[test]
fn a_core_and_the_monitor_show_the_same_of_linux() {
    match linux() {
        Some(kernel) => core_and_monitor_agree(Boot::new().kernel(kernel).cpus(2), &[], 512),
        None => println!("Debian's Linux was not fetched"),
    }
}

#[test]
fn memory_above_4_gib_is_found_where_the_machine_has_it() {
    // q35 has 2 GiB below; what is above is read by its own address.
    let running = spinning(Boot::new(), &["-machine", "q35"], 3072);
    let mut attached = running.attach();
    let held = attached.hold(CATCH).expect("a guest that is held");
    let high = held.memory().ranges().iter().find(|range| range.start == 4 << 30);
    assert_eq!(high.map(|range| range.end), Some(5 << 30));
    assert!(held.memory().holds((5 << 30) - PAGE, PAGE) && !held.memory().holds(2 << 30, 1));
    let root = held.registers[0].cr3 & !(PAGE - 1);
    let fetched = bytes(held.memory(), root, 4096);
    drop(held);
    // The same page, by the memory that is shared with the guest.
    let mut launched = running.launched;
    let held = launched.hold(CATCH).expect("a guest that is held");
    assert_eq!(bytes(held.memory(), root, 4096), fetched);
}

#[test]
fn a_stopped_guest_stays_stopped_and_a_running_one_runs() {
    let running = spinning(Boot::new(), &[], 192);
    running.launched.attached.monitor().stop().expect("a monitor that answers");
    let mut attached = running.attach();
    assert!(!attached.found_running());
    drop(attached.hold(CATCH).expect("a look at a stopped guest"));
    drop(attached);
    assert!(!running.runs(), "it was stopped when it was found");

    running.launched.attached.monitor().resume().expect("a monitor that answers");
    let mut attached = running.attach();
    let restorer = attached.restorer();
    let held = attached.hold(CATCH).expect("a guest that is held");
    assert!(!running.runs());
    restorer.restore().expect("a guest that goes on");
    assert!(running.runs(), "as after Ctrl-C");
    assert!(held.monitor().stop().is_err(), "nobody may stop it again after that");
    drop(held);
    assert!(running.runs());
}

#[test]
fn an_idle_guest_does_not_hold_anybody_up() {
    let boot = Boot::new().limit(2 * LIMIT).script("echo IDLE; sleep 1000");
    let running = Other::start(&boot, &[], "IDLE\n");
    let mut attached = running.attach();
    // Until then, the shell may still be on its way.
    running.falls_asleep();
    let start = Instant::now();
    let held = attached.hold(Duration::from_secs(2)).expect("a look at an idle guest");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(held.registers.iter().all(|cpu| cpu.cr3 != 0 && !cpu.in_ring_3()));
    drop(held);
    assert!(running.runs());

    // Nobody calls the kernel, so the way out of a call does not come.
    let start = Instant::now();
    let held = attached.chase(None, Duration::from_secs(2)).expect("a look at an idle guest");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop(held);
    assert!(running.runs());
    assert!(!has_stub(&running));
}

#[test]
fn a_guest_that_is_hardly_ever_in_ring_3_is_caught_on_the_way_out_of_a_call() {
    let script = "echo IDLE; while true; do usleep 50000; done";
    let running = Other::start(&Boot::new().limit(2 * LIMIT).script(script), &[], "IDLE\n");
    let mut attached = running.attach();
    let held = attached.chase(None, CATCH).expect("a guest that is held");
    let caught: Vec<_> = held.registers.iter().filter(|cpu| cpu.in_ring_3()).collect();
    assert_eq!(caught.len(), 1, "{:x?}", held.registers);
    let root = caught[0].cr3 & !(PAGE - 1);
    assert_eq!(bytes(held.memory(), root, 4096).len(), 4096);
    assert!(!running.runs() && has_stub(&running));
    held.release().expect("a guest that goes on");
    assert!(running.runs() && !has_stub(&running));

    // No breakpoint is left behind: the guest makes calls and goes on.
    std::thread::sleep(Duration::from_secs(1));
    assert!(running.runs());

    // A second time, by looking first, and let go by the handler of Ctrl-C.
    let restorer = attached.restorer();
    let held = attached.catch(None, CATCH).expect("a guest that is held");
    assert!(held.registers[0].in_ring_3());
    restorer.restore().expect("a guest that goes on");
    std::thread::sleep(Duration::from_secs(1));
    assert!(running.runs() && !has_stub(&running));
    drop(held);
}

#[test]
fn a_stub_that_was_there_is_used_and_left_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().join("gdb").display().to_string();
    let stub = format!("unix:{place},server=on,wait=off");
    let boot = Boot::new().limit(2 * LIMIT).script("echo IDLE; while true; do usleep 50000; done");
    let running = Other::start(&boot, &["-gdb", &stub], "IDLE\n");
    let mut attached = running.attach();
    let refused = attached.chase(None, CATCH).expect_err("a stub that is somebody's");
    assert!(refused.to_string().contains("name its socket"), "{refused}");
    assert!(running.runs() && has_stub(&running));
    for _ in 0..2 {
        let held = attached.chase(Some(&place), CATCH).expect("a guest that is held");
        assert!(held.registers[0].in_ring_3());
        drop(held);
        assert!(running.runs() && has_stub(&running));
    }
}

#[test]
fn an_early_end_is_told_in_qemus_words() {
    let (mut launched, _image) = Boot::new().script("echo this is the end").launch(&[]);
    assert!(launched.console.wait_for("this is the end", LIMIT));
    let deadline = Instant::now() + LIMIT;
    while launched.ended().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let error = launched.hold(CATCH).expect_err("nobody there").to_string();
    assert!(error.contains("QEMU ended") && error.contains("this is the end"), "{error}");
}
