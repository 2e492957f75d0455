//! Translations on several CPUs: what one CPU takes out of the page tables no other may use any more, in ring 3 or in the
//! kernel's copies. The program `remap` says how that is looked at.
//!
//! TCG keeps a translation until something flushes it, but it drops all of them when CR3 is written: with isolation, a CPU
//! that was interrupted has flushed whatever it was asked. So what a CPU does when it is asked shows without isolation, and
//! whether it is asked shows with it. What PCIDs would keep shows in no emulator here: `crates/core/tests/tlb` and
//! `crates/model` have a TLB that keeps everything.

use std::time::Duration;

use ringwall_tests::{Boot, Library, Output, expect_broken, other_kernel};

const LIMIT: Duration = Duration::from_secs(120);

/// What `remap` says of an access that should not have been possible.
const STALE: &str = ", mode ";

/// Four CPUs, one of which changes a page so many times.
fn remap(boot: Boot, rounds: u32) -> Output {
    boot.cpus(4).arguments(&rounds.to_string()).program(Library::Glibc, "remap").run()
}

#[test]
fn nothing_stale_with_isolation() {
    remap(Boot::new().limit(LIMIT), 200).passed("remap");
}

#[test]
fn nothing_stale_without_isolation() {
    remap(Boot::new().limit(LIMIT).pti("off"), 200).passed("remap");
}

/// The LDT and the memory of a process whose threads are on several CPUs, and processes that come and go there.
#[test]
fn memory_and_ldt_on_four_cpus() {
    for name in ["mapstorm", "ldt"] {
        Boot::new().limit(LIMIT).cpus(4).program(Library::Musl, name).run().passed(name);
    }
}

#[test]
fn a_cpu_that_is_not_asked_is_noticed() {
    expect_broken("shootdown-here", STALE, |boot| {
        remap(boot.limit(LIMIT), 20_000).passed("remap");
    });
}

#[test]
fn an_answer_without_a_flush_is_noticed() {
    expect_broken("empty-answer", STALE, |boot| {
        remap(boot.limit(LIMIT).pti("off"), 20_000).passed("remap");
    });
}

#[test]
fn a_flush_that_comes_too_early_is_noticed() {
    expect_broken("flush-before-unmap", STALE, |boot| {
        remap(boot.limit(LIMIT).pti("off"), 20_000).passed("remap");
    });
}

/// One CPU copies on write, a second stores to the copy and says so, a third loads.
fn copies(boot: Boot) {
    boot.limit(LIMIT)
        .cpus(4)
        .arguments("150")
        .program(Library::Musl, "copies")
        .run()
        .passed("copies");
}

#[test]
fn copies_are_there_when_the_last_has_forgotten_what_was_before() {
    copies(Boot::new());
    copies(Boot::new().pti("off"));
}

#[test]
fn a_copy_that_is_there_too_early_is_noticed() {
    expect_broken("new-first", "FAIL what thread", copies);
}

#[test]
fn an_interrupt_that_gets_lost_is_noticed() {
    expect_broken("lost-ipi", "was not answered: Mailbox", |boot| {
        remap(boot.limit(LIMIT), 20_000).passed("remap");
    });
}

/// The invariant's million.
#[test]
#[ignore = "half an hour on two idle cores: part of the campaign"]
fn a_million_rounds() {
    let limit = Duration::from_secs(4 * 3600);
    let output = remap(Boot::new().limit(limit), 1_000_000);
    output.passed("remap");
    if !other_kernel() {
        output.says("remap: 1000000 rounds");
    }
}
