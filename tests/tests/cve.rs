//! Bugs that other kernels had in these few instructions, one scenario for the shape of each.
//!
//! | bug | shape | here |
//! |---|---|---|
//! | CVE-2012-0217, CVE-2014-4699 | SYSRET to a RIP that is not canonical | `sysret` |
//! | CVE-2014-9322 | IRETQ to a bad stack segment | `badiret` |
//! | CVE-2018-8897 | #DB at an entry's first instruction | the Bochs scenarios |
//! | CVE-2019-1125 | SWAPGS behind a branch that is predicted wrongly | `swapgs` |
//! | CVE-2023-0597 | an attacker's words at a known address | `payload` |

use std::collections::BTreeSet;
use std::time::Duration;

use ringwall_emulator::INTEL_CPU;
use ringwall_tests::{Boot, Library, Visible, other_kernel, program, swapgs};

const LIMIT: Duration = Duration::from_secs(180);

/// What user mode sees of the kernel on one CPU.
const VISIBLE: u64 = 16 * 1024;

/// Runs a program that goes through the shape, and then looks at what user mode sees.
fn survives(boot: Boot, name: &str) {
    let boot = boot.limit(LIMIT);
    boot.clone().program(Library::Glibc, name).run().passed(name);
    if other_kernel() {
        return;
    }
    // In one machine: `run` takes them in this order, and the second one never ends.
    let boot = boot.file("/programs/zspin", 0o755, program(Library::Glibc, "spin"));
    let mut running = boot.program(Library::Glibc, name).start();
    running.wait_for(&format!("PASS {name}\n"), LIMIT);
    running.wait_for("READY\n", LIMIT);
    running.look().shows(VISIBLE);
}

/// Both kinds of CPU: SYSRET faults in ring 0 on Intel's, and on AMD's in ring 3.
#[test]
fn cve_2012_0217_sysret() {
    survives(Boot::new(), "sysret");
}

#[test]
fn cve_2012_0217_sysret_on_amd() {
    survives(Boot::new().cpu("max"), "sysret");
}

#[test]
fn cve_2012_0217_sysret_without_isolation() {
    Boot::new().limit(LIMIT).pti("off").program(Library::Musl, "sysret").run().passed("sysret");
}

#[test]
fn cve_2014_9322_bad_iret() {
    survives(Boot::new(), "badiret");
}

/// GS base by the MSR, not by WRGSBASE: another way to swap it wrongly.
#[test]
fn cve_2014_9322_bad_iret_without_fsgsbase() {
    survives(Boot::new().cpu(&format!("{INTEL_CPU},-fsgsbase")), "badiret");
}

#[test]
fn cve_2014_9322_bad_iret_without_isolation() {
    Boot::new().limit(LIMIT).pti("off").program(Library::Musl, "badiret").run().passed("badiret");
}

fn look(boot: Boot) -> Visible {
    let mut running = boot.limit(LIMIT).init(program(Library::Glibc, "spin")).start();
    running.wait_for("READY\n", LIMIT);
    running.visible()
}

/// The text that is mapped in a running guest, from the gates that its IDT has.
fn conditional_swapgs(boot: Boot) -> swapgs::Findings {
    let mut running = boot.limit(LIMIT).init(program(Library::Glibc, "spin")).start();
    running.wait_for("READY\n", LIMIT);
    let text = running.entry_text();
    assert_eq!(text.gates.len(), 256);
    swapgs::walk(&text.bytes, text.gates)
}

fn fences(boot: Boot) {
    if other_kernel() {
        println!("not our kernel: its text is its own business");
        return;
    }
    let findings = conditional_swapgs(boot);
    assert!(findings.conditional.len() >= 2, "traps and #DB decide: {findings:x?}");
    assert!(findings.unfenced.is_empty(), "not fenced: {findings:x?}");
    assert!(findings.exposed.is_empty(), "GS may be used with the wrong base: {findings:x?}");
}

#[test]
fn cve_2019_1125_conditional_swapgs() {
    fences(Boot::new());
}

#[test]
fn cve_2019_1125_conditional_swapgs_without_isolation() {
    fences(Boot::new().pti("off"));
}

#[test]
fn cve_2019_1125_conditional_swapgs_without_fsgsbase() {
    fences(Boot::new().cpu(&format!("{INTEL_CPU},-fsgsbase")));
}

#[test]
fn cve_2019_1125_is_noticed_without_the_fences() {
    if other_kernel() {
        println!("not our kernel: its text is its own business");
        return;
    }
    let findings = conditional_swapgs(Boot::new().append("ringwall.lfence=off"));
    assert_eq!(findings.unfenced, findings.conditional, "{findings:x?}");
    assert!(findings.exposed.len() >= 2, "both sides of the branch: {findings:x?}");
}

#[test]
fn cve_2019_1125_both_views_have_what_was_checked() {
    if other_kernel() {
        println!("not our kernel: its text is its own business");
        return;
    }
    let visible = look(Boot::new());
    let (_, user_view) = visible.text();
    for (offset, byte) in user_view.iter().enumerate() {
        let same = *byte == visible.kernel_text[offset];
        assert!(same || *byte == 0xcc, "the views differ at {offset:#x}");
    }
}

const BOOTS: usize = 5;

#[test]
fn cve_2023_0597_the_address_is_random() {
    if other_kernel() {
        println!("not our kernel: its entry area is its own business");
        return;
    }
    let places: BTreeSet<u64> = (0..BOOTS).map(|_| look(Boot::new()).stack_address()).collect();
    // Two of a few boots in half a million places are the same once in fifty thousand runs.
    assert_eq!(places.len(), BOOTS, "the stack page was at {places:x?}");
}

/// QEMU's `-seed` makes RDRAND repeat, and `-icount` the TSC: that is all that the choice rests on.
#[test]
fn cve_2023_0597_the_address_follows_the_seed() {
    if other_kernel() {
        println!("not our kernel: its entry area is its own business");
        return;
    }
    let places: BTreeSet<u64> =
        (0..2).map(|_| look(Boot::new().counted()).stack_address()).collect();
    assert_eq!(places.len(), 1, "the stack page was at {places:x?}");
}

/// What `programs/payload.c` puts into every register, in memory's order.
const PAYLOAD: [u8; 4] = [0x1e, 0xab, 0xa1, 0x5c];
/// PAUSE and the jump back to it: the program that has no payload.
const SPINNING: [u8; 2] = [0xf3, 0x90];
/// At so many looks the spinning program has to be met, of which the other one takes its share.
const LOOKS: usize = 30;
/// Most looks in all.
const MOST_LOOKS: usize = 1000;

/// How often the spinning program was seen, and every place at which it could find payload then. The end is when it was
/// seen often enough, and `done`.
fn payload_in_sight(words: &str, done: impl Fn(&BTreeSet<u64>) -> bool) -> (usize, BTreeSet<u64>) {
    let boot = Boot::new().limit(LIMIT).append(words).arguments("storm");
    let mut running = boot.init(program(Library::Glibc, "payload")).start();
    running.wait_for("READY\n", LIMIT);
    let (mut looks, mut found) = (0, BTreeSet::new());
    for number in 0..MOST_LOOKS {
        // On a busy host the guest may hardly get anywhere between two looks.
        std::thread::sleep(Duration::from_millis((number / 10) as u64));
        let visible = running.visible();
        let program = &visible.program;
        if program.starts_with(&SPINNING) || program.starts_with(&[0xeb, 0xfc]) {
            looks += 1;
            found.extend(visible.find(&PAYLOAD));
        }
        if looks >= LOOKS && done(&found) {
            break;
        }
    }
    (looks, found)
}

#[test]
fn cve_2023_0597_no_payload_stays() {
    if other_kernel() {
        println!("not our kernel: what it leaves is its own business");
        return;
    }
    let (looks, found) = payload_in_sight("", |_| true);
    assert!(looks >= LOOKS, "the spinning program was seen {looks} times");
    assert!(found.is_empty(), "payload of another process at {found:x?}");
}

#[test]
fn cve_2023_0597_is_noticed_without_scrubbing() {
    if other_kernel() {
        println!("not our kernel: what it leaves is its own business");
        return;
    }
    let (looks, found) = payload_in_sight("ringwall.scrub=off", |found| !found.is_empty());
    assert!(looks >= LOOKS, "the spinning program was seen {looks} times");
    assert!(!found.is_empty(), "nothing left though nothing was scrubbed, in {looks} looks");
}

#[test]
fn cve_2023_0597_payload_in_every_way_in() {
    survives(Boot::new(), "payload");
}

#[test]
fn cve_2023_0597_payload_without_isolation() {
    Boot::new().limit(LIMIT).pti("off").program(Library::Musl, "payload").run().passed("payload");
}
