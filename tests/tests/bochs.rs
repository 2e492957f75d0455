//! In Bochs, which is strict where QEMU's TCG is lax: Intel models, each with its own features, boot
//! the kernel from a CD with GRUB and run our programs.
//!
//! What only Bochs shows: #DB on the first instruction of an entry (`movss`), faults of the exit's IRETQ in
//! ring 0 (`badreturn`), translations that outlive a CR3 write because they are global, registers that a CPU
//! model lacks; and PCIDs, which TCG has not. Bochs is slow, so programs share a boot.

use std::time::Duration;

use ringwall_emulator::{Exit, Model};
use ringwall_tests::{Boot, Library, Output, expect_broken, other_kernel};

/// Bochs takes some 10 seconds for each boot here; Linux takes minutes.
const LIMIT: Duration = Duration::from_secs(300);

/// For a boot that hangs, from the kernel's first lines on: what is left takes a second.
const SHORT: Duration = Duration::from_secs(10);

/// Enters and leaves the kernel in every way there is, and in many that fail.
const PROGRAMS: &[&str] = &[
    "badreturn",
    "exceptions",
    "fsgsbase",
    "gates",
    "int80",
    "ldt",
    "movss",
    "segments",
    "sigframe",
    "signals",
];

/// Those that meet what is different on another model.
const FEW: &[&str] = &["badreturn", "exceptions", "fsgsbase", "movss", "sigframe", "tlb"];

/// What isolation may add to a null call with PCID. Linux 6.1 adds 15 there.
const SHARE: u64 = 8;

fn passes(boot: Boot, model: Model, library: Library, programs: &[&str]) -> Output {
    let boot = boot.memory(256).limit(LIMIT).programs(library, programs);
    let output = boot.run_in_bochs(model);
    for program in programs {
        output.passed(program);
    }
    output
}

/// What the program `tlb` says after `words`.
fn said<'a>(output: &'a Output, words: &str) -> &'a str {
    let found = output.serial.lines().find_map(|line| line.strip_prefix(words));
    found.unwrap_or_else(|| panic!("the guest did not say {words:?}; {output}"))
}

fn null_call(output: &Output) -> u64 {
    let count = said(output, "getppid ").parse();
    count.unwrap_or_else(|error| panic!("no number: {error}; {output}"))
}

/// FSGSBASE, but neither SMAP nor UMIP: user memory is read without a lift.
#[test]
fn haswell() {
    passes(Boot::new(), Model::Haswell, Library::Glibc, PROGRAMS);
}

/// SMAP, and AVX-512 state in signal frames.
#[test]
fn skylake_x() {
    passes(Boot::new(), Model::SkylakeX, Library::Musl, FEW);
}

/// UMIP, VERW, and a CPU that Meltdown does not affect.
#[test]
fn tiger_lake() {
    passes(Boot::new(), Model::TigerLake, Library::Glibc, FEW);
}

/// The TSC counts instructions here. The switches that `tlb` counts keep their translations.
#[test]
fn pcid_makes_isolation_cheap() {
    let run = |pti| passes(Boot::new().pti(pti), Model::Haswell, Library::Glibc, &["tlb"]);
    let (isolated, open) = (run("on"), run("off"));
    let (isolated_call, open_call) = (null_call(&isolated), null_call(&open));
    println!("getppid: {isolated_call} instructions isolated, {open_call} not");
    if other_kernel() {
        println!("not our kernel: measured and not compared");
        return;
    }
    assert_eq!(said(&isolated, "tlb: "), "PCID, INVPCID");
    let share = isolated_call.saturating_sub(open_call);
    assert!((1..=SHARE).contains(&share), "isolation adds {share} instructions to a null call");
}

/// The first CPUs with PCID: what INVPCID would drop goes with the next exit instead.
#[test]
fn pcid_without_invpcid() {
    let output = passes(Boot::new(), Model::SandyBridge, Library::Musl, &["tlb"]);
    assert!(other_kernel() || said(&output, "tlb: ") == "PCID");
}

/// The way for CPUs without PCID: each switch flushes but the pages that both views show alike, which are global.
#[test]
fn nopcid_flushes_every_switch() {
    let boot = Boot::new().append("nopcid ringwall.count=on");
    let output = passes(boot, Model::Haswell, Library::Musl, &["int80", "movss", "tlb"]);
    if !other_kernel() {
        assert_eq!(said(&output, "tlb: "), "flushed by every switch");
        assert_eq!(said(&output, "entries: "), "counted");
    }
}

/// Shootdowns with PCIDs alive on both CPUs: `remap` looks for what a flush has missed.
#[test]
fn two_cpus_flush_each_others_pcids() {
    // Rounds of `remap`: a second.
    let boot = Boot::new().cpus(2).arguments("200");
    let output = passes(boot, Model::SkylakeX, Library::Glibc, &["remap", "tlb"]);
    if !other_kernel() {
        assert_eq!(said(&output, "tlb: "), "PCID, INVPCID");
        output.says("shootdowns: ");
    }
}

/// The invariant's million, with PCIDs alive on both CPUs.
#[test]
#[ignore = "more than an hour: part of the campaign"]
fn a_million_rounds_with_pcids() {
    let boot = Boot::new().cpus(2).memory(256).limit(Duration::from_secs(12 * 3600));
    let boot = boot.arguments("1000000").program(Library::Glibc, "remap");
    let output = boot.run_in_bochs(Model::SkylakeX);
    output.passed("remap");
    if !other_kernel() {
        output.says("remap: 1000000 rounds");
    }
}

/// A process whose isolation is off, with PCID: nothing stale, and its exits leave the user half of its PCID alone.
#[test]
fn switched_off_with_pcid() {
    if other_kernel() {
        println!("not our kernel: nothing can be switched");
        return;
    }
    let boot = Boot::new().arguments("open 30");
    let output = passes(boot, Model::Haswell, Library::Glibc, &["remap", "tlb"]);
    assert_eq!(said(&output, "tlb: "), "PCID, INVPCID");
    output.says("isolation switched off by process 1\n");
}

/// Isolation goes and comes back, by prctl and for the machine, while memory goes and comes back; and what is due for the
/// user half meanwhile is done when there is one again.
fn switched_under_remap(boot: Boot, model: Model) {
    let output = passes(boot.arguments("30 0 5"), model, Library::Glibc, &["remap", "tlb"]);
    if !other_kernel() {
        output.says("isolation switched 6 times");
    }
}

#[test]
fn switched_with_pcid() {
    switched_under_remap(Boot::new(), Model::Haswell);
}

#[test]
fn switched_with_pcid_on_two_cpus() {
    switched_under_remap(Boot::new().cpus(2), Model::SkylakeX);
}

/// Nothing flushes for a CPU that runs an open process, if nobody asks it to: no way in or out writes CR3.
#[test]
fn an_open_process_that_is_not_asked_to_flush_is_noticed() {
    expect_broken("shootdown-here", ", mode ", |boot| {
        let boot = boot.cpus(2).memory(256).limit(LIMIT).arguments("open 20000");
        let output = boot.program(Library::Glibc, "remap").run_in_bochs(Model::Haswell);
        output.says("isolation switched off by process 1\n").passed("remap");
    });
}

/// CVE-2018-8897's other half: what #DB finds at the first instruction of an entry is the program's GS base,
/// and the program gets it back. TCG has no such #DB, so the break does not show there.
#[test]
fn a_gs_base_that_a_debug_exception_keeps_is_noticed() {
    expect_broken("paranoid-gs", "FAIL GS base", |boot| {
        passes(boot, Model::Haswell, Library::Glibc, &["movss"]);
    });
}

/// A global entry of the entry text's user view: after the switch the CPU goes on in 0xCC for ever.
#[test]
fn a_split_page_that_is_global_is_noticed() {
    if other_kernel() {
        println!("not our kernel: nothing to break");
        return;
    }
    expect_broken("global-split", "hangs", |boot| {
        const BEGUN: &str = "ringwall: isolation on";
        let boot = boot.memory(256).limit(LIMIT).limit_after(BEGUN, SHORT);
        let output = boot.program(Library::Glibc, "int80").run_in_bochs(Model::Haswell);
        output.says(BEGUN);
        assert!(output.exit != Exit::TimeLimit, "the machine hangs; {output}");
    });
}
