//! Several CPUs: all come up, those that are left out at first come up later, and each brings 8 KiB into user mode's
//! sight and no more.

use std::time::Duration;

use ringwall_tests::{Boot, Library, elf, expect_broken, kernel_file, other_kernel, program};

const LIMIT: Duration = Duration::from_secs(60);

/// What user mode sees of the kernel on a machine with so many CPUs online.
const fn visible(online: u64) -> u64 {
    (8 << 10) + online * (8 << 10)
}

/// A script that ends in ring 3, for looks from outside.
fn ending_in_ring_3(script: &str) -> Boot {
    Boot::new()
        .limit(LIMIT)
        .file("/bin/spin", 0o755, program(Library::Glibc, "spin"))
        .script(&format!("{script}\nexec /bin/spin"))
}

#[test]
fn four_come_up() {
    let boot = ending_in_ring_3(
        "cd /sys/devices/system/cpu\necho online $(cat online) of $(cat present)\n\
         echo $(grep -c ^processor /proc/cpuinfo) in cpuinfo, $(grep -c ^cpu[0-9] /proc/stat) in stat",
    );
    let mut running = boot.cpus(4).start();
    running.wait_for("online 0-3 of 0-3\n", LIMIT);
    running.wait_for("4 in cpuinfo, 4 in stat\n", LIMIT);
    running.wait_for("READY\n", LIMIT);
    if !other_kernel() {
        running.look().shows(visible(4));
    }
}

#[test]
fn a_cpu_comes_up_after_boot() {
    let boot = ending_in_ring_3(
        "cd /sys/devices/system/cpu\necho first $(cat online) not $(cat offline)\n\
         echo 1 >cpu3/online\necho then $(cat online) not $(cat offline), $(cat cpu2/online) $(cat cpu3/online)\n\
         echo 1 >cpu3/online && echo again\n\
         echo on $(taskset 8 cat /proc/self/stat | cut -d' ' -f39)",
    );
    let mut running = boot.append("maxcpus=2").cpus(4).start();
    running.wait_for("first 0-1 not 2-3\n", LIMIT);
    running.wait_for("then 0-1,3 not 2, 0 1\n", LIMIT);
    // It runs programs, too.
    running.wait_for("on 3\n", LIMIT);
    running.wait_for("READY\n", LIMIT);
    if !other_kernel() {
        assert!(
            running.guest.console.text().contains("again\n"),
            "once is enough, twice is none too many"
        );
        running.look().shows(visible(3));
    }
}

#[test]
fn nosmp_leaves_the_others_alone() {
    let boot = ending_in_ring_3("cat /sys/devices/system/cpu/online");
    let mut running = boot.append("nosmp").cpus(4).start();
    running.wait_for("\n0\n", LIMIT);
    running.wait_for("READY\n", LIMIT);
    if !other_kernel() {
        running.look().shows(visible(1));
    }
}

/// As many as the reference kernel has room for.
#[test]
fn sixty_four_come_up() {
    if other_kernel() {
        println!("not our kernel: with so many CPUs it takes minutes");
        return;
    }
    let mut running = ending_in_ring_3("cat /sys/devices/system/cpu/online").cpus(64).start();
    running.wait_for("\n0-63\n", LIMIT);
    running.wait_for("READY\n", LIMIT);
    running.look().shows(visible(64));
}

/// A CPU whose host lets it rest behind its LTR, for longer than the kernel waits, is reset; asked again, it comes up,
/// although its TSS's descriptor is busy from before.
#[test]
#[ignore = "the kernel waits for ten seconds: part of the campaign"]
fn a_cpu_that_came_too_late_comes_up_when_asked_again() {
    /// LTR of AX; behind it the TSS is busy.
    const LTR: [u8; 3] = [0x0f, 0x00, 0xd8];
    const REST: Duration = Duration::from_secs(12);
    let Some(file) = kernel_file() else {
        println!("not our kernel: nobody knows where it loads its TSS");
        return;
    };
    let address = elf::address_of(&file, &LTR).expect("one LTR") + LTR.len() as u64;
    let script = "add() { echo 1 >/sys/devices/system/cpu/cpu1/online; }\n\
                  echo ask; read line\nadd || echo late\n\
                  echo again; read line\nadd && echo now $(cat /sys/devices/system/cpu/online)";
    let boot = Boot::new().limit(LIMIT).cpus(2).append("maxcpus=1 nokaslr").stub();
    let mut running = boot.script(script).start();
    running.wait_for("ask\n", LIMIT);
    running.type_line("now");
    let stub = running.guest.stub.as_mut().expect("a gdb stub");
    stub.stop().expect("a guest that stops");
    stub.look_at(1).expect("a second CPU");
    stub.set_breakpoint(address).expect("a breakpoint");
    assert!(stub.run(LIMIT).expect("a stub that answers"), "the second CPU loads its TSS");
    stub.clear_breakpoint(address).expect("a breakpoint");
    stub.run_alone(0, REST).expect("a stub that answers");
    stub.resume().expect("a stub that answers");
    running.wait_for("late\n", LIMIT);
    running.wait_for("again\n", LIMIT);
    running.type_line("now");
    running.wait_for("now 0-1\n", LIMIT);
    running.finish().says("CPU 1 stays off: it does not start").powered_off();
}

/// A report of the machine's end is the last that is heard of it: no other CPU goes on meanwhile.
fn the_others_stop(boot: Boot) {
    const PROCESSOR_IS_CORRUPT: u64 = 1 << 63 | 1 << 61 | 1 << 60 | 1 << 57;
    const RESTART: u64 = 1 << 0 | 1 << 2;
    let boot = boot.cpus(4).limit(LIMIT);
    let mut running =
        boot.script("mount -t devtmpfs devtmpfs /dev\nfor number in 1 2 3 4; do while :; do echo busy; done & done\nwait").start();
    running.wait_for("busy\nbusy\n", LIMIT);
    let monitor = &mut running.guest.monitor;
    monitor.inject_machine_check(4, PROCESSOR_IS_CORRUPT, RESTART).expect("a monitor that answers");
    let output = running.finish();
    output.powered_off();
    // A CPU that goes on may write into the middle of the report: that it is whole is asked last.
    let (before, report) =
        output.serial.split_once("ringwall: machine check: ").unwrap_or_default();
    let stubborn = before.is_empty() || before.contains("does not stop") || report.contains("busy");
    assert!(!stubborn, "another CPU goes on:\n{}", output.serial);
    output.says("ringwall: machine check: the processor's state is corrupt");
}

#[test]
fn the_others_stop_when_the_machine_ends() {
    if other_kernel() {
        println!("not our kernel: its last words are its own business");
        return;
    }
    the_others_stop(Boot::new());
}

#[test]
fn others_that_go_on_are_noticed() {
    expect_broken("others-go-on", "another CPU goes on", the_others_stop);
}
