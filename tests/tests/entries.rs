//! The ways in and out, exercised by our own programs, and the deliberate breaks that they notice.

use std::time::Duration;

use ringwall_tests::{Boot, Library, expect_broken};

/// A broken kernel may hang: the checks below do not wait long for it.
const SHORT: Duration = Duration::from_secs(30);

fn exceptions_pass(boot: Boot) {
    boot.limit(SHORT).program(Library::Glibc, "exceptions").run().passed("exceptions");
}

fn a_shell_runs(boot: Boot) {
    let script = "ls / | cat > /tmp/list; wc -l < /tmp/list; echo the end";
    boot.limit(SHORT).script(script).run().powered_off().says("the end\n");
}

#[test]
fn every_exception() {
    exceptions_pass(Boot::new());
}

#[test]
fn every_exception_without_isolation() {
    exceptions_pass(Boot::new().pti("off"));
}

#[test]
fn every_exception_with_musl() {
    Boot::new().limit(SHORT).program(Library::Musl, "exceptions").run().passed("exceptions");
}

#[test]
fn a_shell() {
    a_shell_runs(Boot::new());
}

#[test]
fn a_missing_cr3_write_is_noticed() {
    expect_broken("cr3-write", |boot| {
        a_shell_runs(boot.clone());
        exceptions_pass(boot);
    });
}

#[test]
fn a_register_that_is_not_restored_is_noticed() {
    expect_broken("register", |boot| {
        a_shell_runs(boot.clone());
        exceptions_pass(boot);
    });
}
