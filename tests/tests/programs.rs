//! Our own programs, each in a boot of its own. Two boots of each cover both C libraries and both
//! settings: glibc with isolation, musl without.
//!
//! A program checks the kernel from ring 3 against what Linux does, where each one runs as well.

use std::time::Duration;

use ringwall_tests::{Boot, Library, other_kernel};

/// Storms are long on a busy host.
const LIMIT: Duration = Duration::from_secs(180);

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        const PROGRAMS: &[&str] = &[$(stringify!($name)),*];

        $(mod $name {
            use super::*;

            #[test]
            fn isolated_with_glibc() {
                let name = stringify!($name);
                Boot::new().limit(LIMIT).program(Library::Glibc, name).run().passed(name);
            }

            #[test]
            fn not_isolated_with_musl() {
                let name = stringify!($name);
                let boot = Boot::new().limit(LIMIT).pti("off");
                boot.program(Library::Musl, name).run().passed(name);
            }
        })*
    };
}

programs!(
    across,
    affinity,
    badreturn,
    debug,
    exceptions,
    execstorm,
    files,
    forkstorm,
    fsgsbase,
    gates,
    hoard,
    int80,
    ldt,
    mapstorm,
    memory,
    pipestorm,
    processes,
    ptrace,
    registers,
    rights,
    segments,
    sigframe,
    signals,
    sysenter,
    sigreturnstorm,
    stops,
    threadstorm,
    tlb,
    traced,
    tracestorm,
    usercopy,
    whole,
    wildcalls,
);

/// A host that stops a CPU at the wrong moment lets whoever was woken run before who woke it. Here that is always so.
#[test]
#[ignore = "a minute: part of the campaign"]
fn who_is_woken_may_run_first() {
    if other_kernel() {
        println!("not our kernel: nothing to break");
        return;
    }
    for name in PROGRAMS {
        let boot = Boot::new().breakable().append("break=woken-first");
        boot.limit(LIMIT).program(Library::Glibc, name).run().passed(name);
    }
}
