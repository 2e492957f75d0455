//! EntryBleed (CVE-2022-4543): what several boots give away of the kernel's random address, for Linux, which gives it
//! away, and for our kernel, which has nothing to.

use std::time::Duration;

use ringwall_audit::boots::boots;
use ringwall_audit::document::{Audit, BaseMotion, Boots, Finding, Motion, Track};
use ringwall_tests::looking::{audit, cpus};
use ringwall_tests::{Boot, Library, linux_or_skip, other_kernel, program};

const BOOTS: usize = 3;
const BOOT_LIMIT: Duration = Duration::from_secs(80);

/// Audits that many boots, which run side by side.
fn audits(boot: &Boot) -> Vec<Audit> {
    let boot = boot.clone().limit(2 * BOOT_LIMIT).memory(256);
    let boot = boot.init(program(Library::Glibc, "spin"));
    let started: Vec<_> = (0..BOOTS).map(|_| boot.start()).collect();
    let look = |mut running: ringwall_tests::Running| {
        running.wait_for("READY\n", BOOT_LIMIT);
        let caught = running.guest.stop_in_user_mode(BOOT_LIMIT).expect("a monitor that answers");
        caught.expect("a CPU in user mode");
        let cpus = cpus(&mut running.guest, 1);
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

#[test]
fn the_entry_text_of_linux_moves_with_its_image() {
    let Some(kernel) = linux_or_skip() else {
        return;
    };
    let audits = audits(&Boot::new().kernel(kernel).append("no_timer_check cryptomgr.notests"));
    let (boots, findings) = boots(&audits);
    show(&boots, &findings);
    let random = |name: &str| {
        let base = boots.bases.iter().find(|base| base.name == name);
        let base = base.unwrap_or_else(|| panic!("no {name} was found"));
        assert_eq!(base.motion, BaseMotion::Random, "{base:?}");
        base.bits_estimated
    };
    // 512 places of 2 MiB, but for what the image itself takes.
    let bits = random("kernel image");
    assert!((5.0..12.0).contains(&bits), "{bits}");

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

#[test]
fn nothing_moves_with_our_kernel_which_does_not_move() {
    if other_kernel() {
        println!("not our kernel: the other test boots that");
        return;
    }
    let (boots, findings) = boots(&audits(&Boot::new()));
    show(&boots, &findings);
    let moves = boots.tracks.iter().filter(|track| track.motion == Motion::Independent).count();
    assert_eq!(moves, boots.tracks.len(), "the entry area is somewhere else each time");
    assert!(moves > 0);
    let image = boots.bases.iter().find(|base| base.name == "kernel image").expect("an image");
    assert_eq!(image.motion, BaseMotion::Fixed);
    let ids: Vec<&str> = findings.iter().map(|finding| &finding.id[..]).collect();
    assert_eq!(ids, ["kernel-not-randomised"]);
}
