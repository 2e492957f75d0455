//! The looks that are taken at every scenario notice what breaks isolation, whatever the scenario is about.

use std::panic::catch_unwind;
use std::time::Duration;

use ringwall_tests::{Boot, Library, expect_broken, other_kernel, program};

const LIMIT: Duration = Duration::from_secs(60);

/// At so many moments a CPU is met in ring 3. Of two programs that take turns, all of these would miss one in one of 16
/// million runs.
const LOOKS: u32 = 24;

/// A scenario like any other: a shell counts, and nothing in it looks at page tables. It does so until it is told to stop:
/// how much of a shorter one the looks meet is a matter of chance, and of the host.
fn counts(boot: Boot) {
    let script = "(while :; do i=$((i + 1)); done) & echo counts\nread line; kill $!; echo counted";
    let script = format!("mount -t devtmpfs devtmpfs /dev\n{script}");
    let mut running = boot.looked_at().limit(LIMIT).script(&script).start();
    running.wait_for("counts\n", LIMIT);
    running.look_often(LOOKS);
    running.type_line("enough");
    running.finish().powered_off().says("counted\n");
}

/// A program that stays in ring 3, as many scenarios end.
fn stays(boot: Boot, name: &str, arguments: &str) {
    let boot = boot.looked_at().limit(LIMIT).arguments(arguments);
    let mut running = boot.init(program(Library::Glibc, name)).start();
    running.wait_for("READY\n", LIMIT);
    running.look_often(LOOKS);
}

#[test]
fn a_sound_kernel_passes() {
    counts(Boot::new());
    stays(Boot::new(), "spin", "3 2");
    stays(Boot::new(), "ldt", "stay");
}

#[test]
fn a_visible_task_stack_is_noticed() {
    expect_broken("task-stack-visible", "not-declared: ", counts);
}

#[test]
fn a_kernel_pointer_is_noticed() {
    expect_broken("kernel-pointer", "pointers: 1, where 0 is the limit", counts);
}

#[test]
fn a_global_page_with_two_views_is_noticed() {
    expect_broken("global-split", "global, which is not declared", counts);
}

/// No break of the code but a switch of the kernel: what entries leave behind stays on the stacks.
#[test]
fn a_stack_that_nobody_scrubs_is_noticed() {
    if other_kernel() {
        println!("not our kernel, so there is no such switch: nothing to test");
        return;
    }
    let unscrubbed = || counts(Boot::new().append("ringwall.scrub=off"));
    let noticed = catch_unwind(unscrubbed).expect_err("something is left on the stacks");
    let said = noticed.downcast_ref::<String>().expect("words");
    assert!(said.contains("contents-not-declared: "), "{said}");
}

#[test]
fn an_executable_user_half_is_noticed() {
    expect_broken("user-half-nx", "user-half-executable: ", counts);
}

#[test]
fn a_writable_ldt_is_noticed() {
    let symptom = "rw-, where r-- is declared";
    expect_broken("ldt-writable", symptom, |boot| stays(boot, "ldt", "stay"));
}
