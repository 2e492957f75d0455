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

#[test]
fn a_missing_cr3_write_is_noticed() {
    expect_broken("cr3-write", |boot| {
        passes(boot.clone(), "exceptions");
        passes(boot, "int80");
    });
}

#[test]
fn a_register_that_is_not_restored_is_noticed() {
    expect_broken("register", |boot| passes(boot, "registers"));
}
