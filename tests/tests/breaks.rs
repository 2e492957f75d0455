//! Breaks of the entry code that our programs must notice.
//!
//! The breaks that show in the page tables are in `visible.rs`, beside the checks that find them.

use std::time::Duration;

use ringwall_tests::{Boot, Library, expect_broken};

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
