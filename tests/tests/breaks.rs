//! Breaks of the entry code that our programs must notice.
//!
//! The breaks that show in the page tables are in `visible.rs`, beside the checks that find them.

use std::time::Duration;

use ringwall_tests::{Boot, Library, expect_broken, other_kernel};

/// A broken kernel may hang: the checks do not wait long for it.
const SHORT: Duration = Duration::from_secs(30);

fn passes(boot: Boot, program: &str) {
    boot.limit(SHORT).program(Library::Glibc, program).run().passed(program);
}

/// The first call that leaves under the kernel root comes back to pages that are NX there, and the
/// fault finds no frame of its own: no program gets beyond it.
#[test]
fn a_missing_cr3_write_is_noticed() {
    let symptom = "process 1 was killed by signal";
    expect_broken("cr3-write", symptom, |boot| passes(boot, "exceptions"));
}

#[test]
fn a_register_that_is_not_restored_is_noticed() {
    expect_broken("register", ": r10: expected", |boot| passes(boot, "registers"));
}

/// Else what the tests of breaks notice need not be the break.
#[test]
fn until_one_is_turned_on_there_is_no_break() {
    if other_kernel() {
        println!("not our kernel: nothing to break");
        return;
    }
    passes(Boot::new().breakable(), "exceptions");
    passes(Boot::new().breakable(), "registers");
}

#[test]
fn a_break_that_does_not_exist_is_an_error() {
    let symptom = "unknown value break=nosuch: expected one of";
    expect_broken("nosuch", symptom, |boot| passes(boot, "registers"));
}
