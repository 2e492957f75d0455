//! EntryBleed (CVE-2022-4543): what several boots give away of the kernel's random address, for Linux, which gives it
//! away, and for our kernel, which keeps its places to itself.

use std::time::Duration;

use ringwall_audit::boots::boots;
use ringwall_audit::document::{Audit, BaseMotion, Boots, Finding, Motion, Track};
use ringwall_tests::looking::{audit, cpus};
use ringwall_tests::{Boot, Library, expect_broken, linux_or_skip, other_kernel, program};

const BOOTS: usize = 3;
const BOOT_LIMIT: Duration = Duration::from_secs(80);

/// Audits that many boots, a few at a time side by side.
fn audits_of(boot: &Boot, count: usize) -> Vec<Audit> {
    let groups = (0..count).step_by(BOOTS).map(|first| BOOTS.min(count - first));
    groups.flat_map(|group| side_by_side(boot, group)).collect()
}

fn side_by_side(boot: &Boot, count: usize) -> Vec<Audit> {
    let boot = boot.clone().limit(2 * BOOT_LIMIT).memory(256);
    let boot = boot.init(program(Library::Glibc, "spin"));
    let started: Vec<_> = (0..count).map(|_| boot.start()).collect();
    let look = |mut running: ringwall_tests::Running| {
        running.wait_for("READY\n", BOOT_LIMIT);
        let caught = running.guest.stop_in_user_mode(BOOT_LIMIT).expect("a monitor that answers");
        caught.expect("a CPU in user mode");
        let cpus = cpus(&mut running.guest, u32::MAX);
        audit(&running.guest.memory, &cpus)
    };
    started.into_iter().map(look).collect()
}

fn show(boots: &Boots, findings: &[Finding]) {
    for base in &boots.bases {
        println!(
            "{:?} {}: {:?}, {} bits",
            base.motion, base.name, base.addresses, base.bits_estimated
        );
    }
    for track in &boots.tracks {
        println!(
            "{:?} {}: {:?} {:?} {}",
            track.motion, track.name, track.addresses, track.moves_with, track.bits
        );
    }
    for finding in findings {
        println!("{}: {}; {} places", finding.id, finding.title, finding.count);
    }
}

/// What that many boots show. Part of a distance stays the same by chance in one look of a thousand
/// (`crates/audit/src/boots/agreement.rs`), which the next one does not confirm.
fn looked_at(boot: &Boot, count: usize) -> (Boots, Vec<Finding>) {
    let look = || {
        let (boots, findings) = boots(&audits_of(boot, count));
        show(&boots, &findings);
        (boots, findings)
    };
    let (boots, findings) = look();
    if boots.tracks.iter().any(|track| track.motion == Motion::PartlyWithBase) {
        return look();
    }
    (boots, findings)
}

#[test]
fn the_entry_text_of_linux_moves_with_its_image() {
    let Some(kernel) = linux_or_skip() else {
        return;
    };
    let boot = Boot::new().kernel(kernel).append("cryptomgr.notests");
    let (boots, findings) = looked_at(&boot, BOOTS);
    let random = |name: &str| {
        let base = boots.bases.iter().find(|base| base.name == name);
        let base = base.unwrap_or_else(|| panic!("no {name} was found"));
        assert_eq!(base.motion, BaseMotion::Random, "{base:?}");
        base.bits_estimated
    };
    // 512 places of 2 MiB, but for what the image itself takes. Three boots can say no less by chance than two bits, once
    // in thousands of runs, and no more than one bit too many.
    let bits = random("kernel image");
    assert!((2.0..10.5).contains(&bits), "{bits}");

    // Nothing else than two: the large page that holds the entry text, and the page of the CPU's TSS, which Linux shows
    // at its place in the direct map, because the entry code has a word of scratch space there.
    let with = |name: &str| {
        let moves = |track: &&Track| track.moves_with.as_deref() == Some(name);
        boots.tracks.iter().filter(moves).collect::<Vec<_>>()
    };
    for base in ["kernel image", "direct map"] {
        let tracks = with(base);
        assert_eq!(tracks.len(), 1, "of what moves with the {base}: {tracks:#?}");
        assert_eq!((tracks[0].motion, tracks[0].bits), (Motion::WithBase, random(base)));
    }
    let moving = boots.tracks.iter().filter(|track| track.moves_with.is_some()).count();
    assert_eq!(moving, 2, "{:#?}", boots.tracks);
    let ids: Vec<&str> = findings.iter().map(|finding| &finding.id[..]).collect();
    assert_eq!(ids, ["moves-with-kernel"; 2]);
}

/// What several boots of our kernel show, and that nothing visible tells of what is hidden.
fn nothing_moves_with(boot: &Boot, count: usize) -> Boots {
    let (boots, findings) = looked_at(boot, count);
    let ids: Vec<&str> = findings.iter().map(|finding| &finding.id[..]).collect();
    assert_eq!(ids, [""; 0], "the visible tells of the hidden");
    let still = boots.tracks.iter().filter(|track| track.motion != Motion::Independent);
    let still: Vec<&str> = still.map(|track| &track.name[..]).collect();
    assert!(still.is_empty(), "the entry area is somewhere else each time, but for {still:?}");
    let pointers = boots.tracks.iter().filter(|track| track.name.starts_with("pointer"));
    assert_eq!(pointers.map(|track| &track.name[..]).collect::<Vec<_>>(), [""; 0]);
    assert!(!boots.tracks.is_empty(), "nothing is visible");
    for name in ["kernel image", "direct map"] {
        let base = boots.bases.iter().find(|base| base.name == name);
        assert_eq!(base.map(|base| base.motion), Some(BaseMotion::Random), "{name}");
    }
    let stacks = boots.bases.iter().filter(|base| base.name.starts_with("area"));
    assert!(stacks.clone().count() > 0, "no task stacks were found");
    assert!(stacks.clone().all(|area| area.motion == BaseMotion::Random), "the task stacks");
    boots
}

#[test]
fn nothing_moves_with_our_kernel_which_moves() {
    if other_kernel() {
        println!("not our kernel: the other test boots that");
        return;
    }
    nothing_moves_with(&Boot::new(), BOOTS);
}

#[test]
fn an_entry_area_that_follows_the_image_is_noticed() {
    expect_broken("entry-area-follows", "the visible tells of the hidden", |boot| {
        nothing_moves_with(&boot, BOOTS);
    });
}

#[test]
fn without_randomness_nothing_moves() {
    if other_kernel() {
        println!("not our kernel: another's nokaslr is not ours to test");
        return;
    }
    let (boots, findings) = looked_at(&Boot::new().append("nokaslr"), BOOTS);
    assert!(boots.bases.iter().all(|base| base.motion == BaseMotion::Fixed));
    assert!(boots.tracks.iter().all(|track| track.motion == Motion::Fixed));
    let ids: Vec<&str> = findings.iter().map(|finding| &finding.id[..]).collect();
    assert_eq!(ids, ["kernel-not-randomised"]);
}

/// Which futexes share a bucket can be timed. It would tell of the heap's place if a key had an address of the kernel's.
#[test]
fn what_collides_among_futexes_does_not_depend_on_the_kernels_places() {
    if other_kernel() {
        println!("not our kernel: what its futexes tell is its own business");
        return;
    }
    let collisions = |places: &str| {
        let boot = Boot::new().counted().append("norandmaps").append(places);
        let output = boot.limit(2 * BOOT_LIMIT).program(Library::Glibc, "collisions").run();
        output.passed("collisions");
        let lines = output.serial.lines().filter(|line| line.starts_with("collides"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let fixed = collisions("nokaslr");
    assert!(!fixed.is_empty(), "none of thousands of addresses shares a bucket with another");
    assert_eq!(collisions(""), fixed);
}

/// Each place, its step and the bits that docs/kaslr.md promises.
const ENTROPY: [(&str, u64, f64); 3] =
    [("kernel image", 4 << 10, 17.9), ("direct map", 2 << 20, 24.9), ("area", 64 << 10, 29.9)];

#[test]
#[ignore = "campaign: 200 boots, about four minutes"]
fn the_places_spread_as_documented() {
    const MANY: usize = 200;
    let boots = nothing_moves_with(&Boot::new().cpus(4), MANY);
    for (name, step, bits) in ENTROPY {
        let base = boots.bases.iter().find(|base| base.name.starts_with(name)).expect(name);
        assert!((base.bits_estimated - bits).abs() < 0.2, "{base:?}");
        let at: Vec<u64> = base
            .addresses
            .iter()
            .flatten()
            .filter_map(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok())
            .collect();
        assert_eq!(at.len(), MANY, "{name} was found each time");
        // Each bit that is free in all of the window is set in half of the boots: 100, and 35 are five standard
        // deviations. The highest bits are not free at the window's ends.
        for bit in 0..bits as u32 - 4 {
            let set = at.iter().filter(|address| (**address / step) & (1 << bit) != 0).count();
            assert!(set.abs_diff(MANY / 2) <= 35, "bit {bit} of {name}: set in {set} boots");
        }
    }
}
