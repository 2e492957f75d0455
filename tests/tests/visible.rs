//! What user mode can see of the kernel, read from outside while it runs.

use std::time::Duration;

use ringwall_audit::Report;
use ringwall_tests::{Boot, expect_broken};

/// The entry text, the IDT, the GDT with the TSS, and the stacks: one page each.
const VISIBLE: u64 = 16 * 1024;

/// A boot that keeps a program running in user mode, after `before` has been run.
fn busy(boot: Boot, before: &str) -> Boot {
    boot.script(&format!("{before}\necho busy\nwhile :; do :; done"))
}

fn report(boot: &Boot) -> Report {
    let mut running = boot.start();
    running.wait_for("busy\n", Duration::from_secs(50));
    running.audit()
}

fn shows_four_pages(boot: Boot) {
    let report = report(&busy(boot, ""));
    assert!(report.isolated);
    assert_eq!(report.total(), VISIBLE, "{:#x?}", report.pages);
}

fn shows_no_kernel_pointer(boot: Boot) {
    // Calls, faults and ticks leave their traces on the entry stack, if they leave any.
    let report = report(&busy(boot, "for i in 1 2 3 4 5 6 7 8 9; do (exit $i); done"));
    assert!(report.pointers.is_empty(), "{:#x?}", report.pointers);
}

fn executes_no_user_page(boot: Boot) {
    let report = report(&busy(boot, ""));
    assert!(report.executable.is_empty(), "{:#x?}", report.executable);
}

#[test]
fn four_pages() {
    shows_four_pages(Boot::new());
}

#[test]
fn no_kernel_pointer() {
    shows_no_kernel_pointer(Boot::new());
}

#[test]
fn no_executable_user_page_in_the_kernel_root() {
    executes_no_user_page(Boot::new());
}

#[test]
fn many_processes_show_no_more() {
    let sleepers = "for i in $(seq 1 200); do sleep 1000 & done";
    let report = report(&busy(Boot::new(), sleepers));
    assert_eq!(report.total(), VISIBLE, "{:#x?}", report.pages);
}

#[test]
fn without_isolation_the_kernel_shows() {
    let report = report(&busy(Boot::new().pti("off"), ""));
    assert!(!report.isolated);
    assert!(report.total() > VISIBLE);
}

#[test]
fn a_task_stack_in_the_user_root_is_noticed() {
    expect_broken("task-stack-visible", shows_four_pages);
}

#[test]
fn a_kernel_pointer_in_a_visible_page_is_noticed() {
    expect_broken("kernel-pointer", shows_no_kernel_pointer);
}

#[test]
fn a_missing_nx_is_noticed() {
    expect_broken("user-half-nx", executes_no_user_page);
}
