//! One LDT on several CPUs: what one thread changes by modify_ldt is so for all, when the call has returned. The program
//! `ldtthreads` says how that is looked at.
//!
//! That a page of an old LDT is flushed elsewhere is not looked at here: it shows too rarely (`shootdown.rs`).

use std::time::Duration;

use ringwall_tests::{Boot, Library, expect_broken};

const LIMIT: Duration = Duration::from_secs(180);

/// Rounds of each process: more than enough of them, of which the first failure is the last.
const UNTIL_IT_SHOWS: u32 = 400;

fn threads(boot: Boot, library: Library, rounds: u32) {
    let boot = boot.limit(LIMIT).replaces_ldts().arguments(&rounds.to_string());
    boot.program(library, "ldtthreads").run().passed("ldtthreads");
}

#[test]
fn on_four_cpus_with_isolation() {
    threads(Boot::new().cpus(4), Library::Glibc, 16);
}

#[test]
fn on_four_cpus_without_isolation() {
    threads(Boot::new().cpus(4).pti("off"), Library::Musl, 16);
}

#[test]
fn on_one_cpu() {
    threads(Boot::new(), Library::Musl, 16);
}

#[test]
fn a_change_that_other_cpus_are_not_told_of_is_noticed() {
    expect_broken("ldt-here", "an old LDT is in use", |boot| {
        let boot = boot.cpus(4).limit(LIMIT).arguments(&UNTIL_IT_SHOWS.to_string());
        let output = boot.program(Library::Glibc, "ldtthreads").run();
        // The program sees what was there before, or a fault on its way there, in a look or beside one; or the kernel asks
        // about a selector, and the table is no more.
        let signs = [
            ": round ",
            "FAIL a fault outside of a visit",
            "exception in the kernel: vector Some(14)",
        ];
        let shows = signs.iter().any(|sign| output.serial.contains(sign));
        assert!(!shows, "an old LDT is in use; {output}");
    });
}

#[test]
fn a_data_segment_that_stays_as_it_was_is_noticed() {
    expect_broken("ldt-registers", "S that stays: round ", |boot| {
        threads(boot.cpus(4), Library::Glibc, UNTIL_IT_SHOWS);
    });
}

/// As many rounds as the epoch has time for in half an hour.
#[test]
#[ignore = "half an hour: part of the campaign"]
fn many_rounds() {
    let boot = Boot::new().cpus(4).limit(Duration::from_secs(2 * 3600)).arguments("5000");
    boot.program(Library::Glibc, "ldtthreads").run().passed("ldtthreads");
}
