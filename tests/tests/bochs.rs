//! In Bochs, which is strict where QEMU's TCG is lax: three Intel models, each with its own features, boot
//! the kernel from a CD with GRUB and run our programs.
//!
//! Bochs is slow, so several programs share a boot, and what says the same in QEMU is left out.

use std::time::Duration;

use ringwall_emulator::Model;
use ringwall_tests::{Boot, Library, Output};

/// Bochs takes 5 to 15 seconds for each boot here; Linux takes minutes.
const LIMIT: Duration = Duration::from_secs(300);

const PROGRAMS: &[&str] = &[
    "badreturn",
    "exceptions",
    "fsgsbase",
    "gates",
    "int80",
    "sigframe",
    "signals",
    "sigreturnstorm",
];

fn run(model: Model, library: Library, programs: &[&str]) -> Output {
    let boot = Boot::new().memory(256).limit(LIMIT).programs(library, programs);
    let output = boot.run_in_bochs(model);
    for program in programs {
        output.passed(program);
    }
    output
}

/// Neither SMAP nor UMIP: the kernel reads user memory without a lift.
#[test]
fn haswell() {
    run(Model::Haswell, Library::Glibc, PROGRAMS);
}

/// SMAP, and the AVX-512 state in signal frames.
#[test]
fn skylake_x() {
    run(Model::SkylakeX, Library::Musl, PROGRAMS);
}

/// UMIP, and a CPU that Meltdown does not affect.
#[test]
fn tiger_lake() {
    run(Model::TigerLake, Library::Glibc, PROGRAMS);
}
