//! What user mode can see of the kernel, read from outside while it runs.

use std::time::Duration;

use ringwall_audit::Report;
use ringwall_tests::{Boot, Library, expect_broken, program};

/// The entry text, the IDT, the GDT with the TSS, and the stacks: one page each.
const VISIBLE: u64 = 16 * 1024;

/// A boot whose process 1 stays in user mode, with these arguments: how many other processes there
/// are, and how many more threads each has.
fn spinning(boot: Boot, arguments: &str) -> Boot {
    let boot = boot.limit(Duration::from_secs(90)).init(program(Library::Glibc, "spin"));
    if arguments.is_empty() { boot } else { boot.arguments(arguments) }
}

fn report(boot: &Boot) -> Report {
    let mut running = boot.start();
    running.wait_for("READY\n", Duration::from_secs(80));
    running.audit()
}

fn shows_four_pages(boot: Boot) {
    let report = report(&spinning(boot, ""));
    assert!(report.isolated);
    assert_eq!(report.total(), VISIBLE, "{:#x?}", report.pages);
}

fn shows_no_kernel_pointer(boot: Boot) {
    // Calls, faults and ticks leave their traces on the entry stack, if they leave any.
    let report = report(&spinning(boot, "20 4"));
    assert!(report.isolated);
    assert!(report.pointers.is_empty(), "{:#x?}", report.pointers);
}

fn executes_no_user_page(boot: Boot) {
    let report = report(&spinning(boot, ""));
    assert!(report.isolated);
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
fn many_processes_and_threads_show_no_more() {
    let report = report(&spinning(Boot::new(), "200 5"));
    assert_eq!(report.total(), VISIBLE, "{:#x?}", report.pages);
}

#[test]
fn without_isolation_the_kernel_shows() {
    let report = report(&spinning(Boot::new().pti("off"), ""));
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
