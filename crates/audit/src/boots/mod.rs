//! What several boots of one kernel give away of its random address: EntryBleed (CVE-2022-4543).
//!
//! Ring 3 learns by timing (prefetch, TLB) which of the addresses that its root maps are there, whatever their rights.
//! If one of those keeps its distance from the kernel image, or from another secret place, the secret is out: Linux
//! mapped its entry text at a fixed distance from the image.
//!
//! ```text
//!   boot 1   image 9ac00000 ...... entry text 9ba00000     +e00000
//!   boot 2   image b5200000 ...... entry text b6000000     +e00000    moves with the image: all its bits are out
//!   boot 3   image 81000000 ...... entry text 81e00000     +e00000
//! ```
//!
//! - [`bases`] finds the secret places of a boot,
//! - [`tracks`] what is visible, recognised from boot to boot,
//! - [`mod@agreement`] compares two series of addresses and says how many bits one gives away about the other.
//!
//! Two boots tell little: see [`mod@agreement`] for the limits. Three are a minimum, six are better.

mod agreement;
mod bases;
mod tracks;

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{Audit, Base, BaseMotion, Boots, Finding, Motion, Place, Track};
use crate::findings::catalogue::{KERNEL_NOT_RANDOMISED, MOVEMENT_UNDECIDED, MOVES_WITH_KERNEL};
use agreement::{Agreement, agreement, spread};
use tracks::{Seen, Tracks};

/// Boots from which on what never moved is called fixed.
const ENOUGH: usize = 3;

/// A base with its address in each boot; `None` where it was not found.
struct Series {
    name: String,
    addresses: Vec<Option<u64>>,
}

/// Compares boots of one kernel, looked at in the same way. The findings' places are in the views of the first of them
/// that has the place.
pub fn boots(audits: &[Audit]) -> (Boots, Vec<Finding>) {
    let series = all_bases(audits);
    let tracks: Vec<Tracks> = audits.iter().map(tracks::tracks).collect();
    let cut = tracks.iter().any(|boot| boot.cut);
    let keys: BTreeSet<_> = tracks.iter().flat_map(|boot| boot.seen.keys()).collect();
    let comparisons = keys.len() * series.len();
    let mut followed: Vec<(Track, Seen)> = Vec::new();
    let mut told = BTreeMap::new();
    for key in keys {
        let in_each: Vec<Option<Seen>> =
            tracks.iter().map(|boot| boot.seen.get(key).copied()).collect();
        let Some(first) = in_each.iter().flatten().next().copied() else { continue };
        let values: Vec<Option<u64>> =
            in_each.iter().map(|seen| seen.map(|seen| seen.value)).collect();
        // One piece of many that move as one says it for all.
        let is_told = told.get(&key.alike()).is_some_and(|piece: &Vec<_>| as_one(piece, &values));
        if !is_told {
            followed.push((follow(key.name(), &values, &series, comparisons), first));
            told.insert(key.alike(), values);
        }
    }
    followed.sort_by_key(|(_, seen)| seen.address);

    let bases: Vec<Base> = series.iter().map(base).collect();
    let findings = findings(audits.len(), &bases, &followed, cut);
    let tracks = followed.into_iter().map(|(track, _)| track).collect();
    (Boots { boots: audits.len(), bases, tracks }, findings)
}

/// Whether two series keep their distance in every boot, of which there are two at least.
fn as_one(a: &[Option<u64>], b: &[Option<u64>]) -> bool {
    let distance = |(a, b): (&Option<u64>, &Option<u64>)| Some((*b)?.wrapping_sub((*a)?));
    let mut distances = a.iter().zip(b).map(distance);
    let first = distances.next().flatten();
    a.len() > 1 && first.is_some() && distances.all(|distance| distance == first)
}

/// The bases of all boots, by name. An area that moves with a base before it is none of its own. Areas are left out if the boots have different numbers of them: then nobody knows
/// which is which.
fn all_bases(audits: &[Audit]) -> Vec<Series> {
    let boots: Vec<Vec<(String, u64)>> = audits.iter().map(bases::bases).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in boots.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let series = names.into_iter().map(|name| {
        let find = |boot: &Vec<(String, u64)>| {
            boot.iter().find(|(other, _)| other == name).map(|(_, address)| *address)
        };
        Series { name: name.clone(), addresses: boots.iter().map(find).collect() }
    });
    let series: Vec<Series> = series.collect();
    let named = |name: &str| name == bases::IMAGE || name == bases::DIRECT_MAP;
    let same = series.iter().all(|s| named(&s.name) || s.addresses.iter().all(Option::is_some));
    let mut kept: Vec<Series> = Vec::new();
    for one in series {
        let moves = one.addresses.iter().any(|address| *address != one.addresses[0]);
        let is_part = || moves && kept.iter().any(|base| as_one(&base.addresses, &one.addresses));
        if named(&one.name) || same && !is_part() {
            kept.push(one);
        }
    }
    kept
}

fn base(series: &Series) -> Base {
    let known: Vec<u64> = series.addresses.iter().flatten().copied().collect();
    let spread = spread(&known);
    let motion = match spread.distinct {
        2.. => BaseMotion::Random,
        1 if known.len() >= ENOUGH => BaseMotion::Fixed,
        _ => BaseMotion::Undecided,
    };
    Base {
        name: series.name.clone(),
        addresses: series.addresses.iter().map(|address| address.map(text)).collect(),
        bits_seen: rounded((spread.distinct.max(1) as f64).log2()),
        bits_estimated: rounded(spread.bits),
        motion,
    }
}

/// What becomes of one visible thing.
fn follow(name: String, values: &[Option<u64>], bases: &[Series], comparisons: usize) -> Track {
    let known: Vec<u64> = values.iter().flatten().copied().collect();
    let addresses = values.iter().map(|value| value.map(text)).collect();
    let mut track = Track { name, addresses, ..Track::default() };
    if known.len() < 2 {
        return track;
    }
    if spread(&known).distinct < 2 {
        track.motion = Motion::Fixed;
        return track;
    }
    let mut best = 0.0;
    for base in bases {
        let both = base.addresses.iter().zip(values).filter_map(|(base, seen)| (*base).zip(*seen));
        let (base_at, seen_at): (Vec<u64>, Vec<u64>) = both.unzip();
        if base_at.len() < 2 {
            continue;
        }
        // Its distance from something has changed at least.
        if track.motion == Motion::Undecided {
            track.motion = Motion::Independent;
        }
        let (bits, motion) = match agreement(&base_at, &seen_at, comparisons) {
            Agreement::Whole(bits) => (bits, Motion::WithBase),
            Agreement::Part(bits) => (bits, Motion::PartlyWithBase),
            Agreement::None => continue,
        };
        // A whole distance that stays the same says more than any part.
        let better = (motion == Motion::WithBase, bits) > (track.motion == Motion::WithBase, best);
        if better {
            best = bits;
            track.motion = motion;
            track.moves_with = Some(base.name.clone());
            track.bits = rounded(bits);
        }
    }
    track
}

fn findings(boots: usize, bases: &[Base], followed: &[(Track, Seen)], cut: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for base in bases {
        let with: Vec<&(Track, Seen)> = followed
            .iter()
            .filter(|(track, _)| track.moves_with.as_ref() == Some(&base.name))
            .collect();
        if !with.is_empty() {
            findings.push(moves_with(boots, base, &with));
        }
    }
    let still = |motion| bases.iter().filter(move |base| base.motion == motion);
    if still(BaseMotion::Fixed).any(|base| base.name == bases::IMAGE) {
        let title = format!("the kernel image was at the same address in all {boots} boots");
        findings.push(KERNEL_NOT_RANDOMISED.finding(title, Vec::new()));
    }
    let undecided: Vec<&str> = still(BaseMotion::Undecided).map(|base| &base.name[..]).collect();
    let reasons = [
        (!undecided.is_empty()).then(|| {
            format!(
                "in {boots} boots these did not move, by chance or not: {}",
                undecided.join(", ")
            )
        }),
        bases
            .iter()
            .all(|base| base.name != bases::IMAGE)
            .then(|| format!("no kernel image was found in {boots} boots")),
        cut.then(|| "there is more visible memory than is followed from boot to boot".to_owned()),
    ];
    let undecided = reasons.into_iter().flatten();
    findings.extend(undecided.map(|title| MOVEMENT_UNDECIDED.finding(title, Vec::new())));
    findings
}

fn moves_with(boots: usize, base: &Base, with: &[&(Track, Seen)]) -> Finding {
    let most = with.iter().map(|(track, _)| track.bits).fold(0.0, f64::max);
    let name = match &base.name[..] {
        name @ (bases::IMAGE | bases::DIRECT_MAP) => format!("the {name}"),
        name => name.to_owned(),
    };
    let what = match with {
        [_] => "1 visible place moves".to_owned(),
        many => format!("{} visible places move", many.len()),
    };
    let title = format!(
        "{what} with {name} in {boots} boots: about {most:.0} of its {:.0} bits are given away",
        base.bits_estimated
    );
    let place = |(track, seen): &&(Track, Seen)| Place {
        view: seen.view,
        address: seen.address,
        bytes: seen.bytes,
        value: (seen.value != seen.address).then_some(seen.value),
        note: match track.motion {
            Motion::WithBase => format!("{}: keeps its distance from {name}", track.name),
            _ => format!("{}: {:.1} bits of {name}", track.name, track.bits),
        },
    };
    MOVES_WITH_KERNEL.finding(title, with.iter().map(place))
}

fn text(address: u64) -> String {
    format!("{address:#x}")
}

/// To two decimals: more would be noise.
fn rounded(bits: f64) -> f64 {
    (bits * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::bases::tests::{kernel, run};
    use super::*;
    use crate::document::{Kind, Name, Region, View};
    use crate::findings::catalogue::KERNEL_POINTER;

    const IMAGE: u64 = 0xffff_ffff_8000_0000;
    const MIB2: u64 = 0x20_0000;
    const GIB: u64 = 1 << 30;
    const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
    const HEAP: u64 = 0xffff_c900_0000_0000;
    const AREA: u64 = 0xffff_fe00_0000_0000;

    /// Secret steps of one boot: of the image, the direct map, the heap.
    type Steps = (u64, u64, u64);
    const THREE: [Steps; 3] = [(17, 1500, 900), (400, 7, 31), (201, 4000, 5555)];

    /// A boot with these places, that shows one region at `visible(image, direct map)`.
    fn boot(steps: Steps, visible: impl Fn(u64, u64) -> u64) -> Audit {
        let (image, map) = (IMAGE + steps.0 * MIB2, DIRECT_MAP + steps.1 * GIB);
        let name =
            Name { kind: Kind::EntryText, text: "entry text".into(), cpu: None, symbol: None };
        let shown = Region { name: Some(name), ..run(visible(image, map), 0x9000, 0x1000, true) };
        let idt = run(AREA, 0xa000, 0x1000, false);
        let mut visible = vec![idt, shown];
        visible.sort_by_key(|region| region.address);
        let kernel = kernel(image, map, HEAP + steps.2 * GIB);
        let view = View { kernel_root: Some(0x2000), kernel, visible, ..View::default() };
        Audit { views: vec![view], ..Audit::default() }
    }

    fn entry_text(audits: &[Audit]) -> (Track, Vec<String>) {
        let (boots, findings) = boots(audits);
        let ids = findings.into_iter().map(|finding| finding.id).collect();
        let track = boots.tracks.into_iter().find(|track| track.name == "entry text");
        (track.expect("it is visible"), ids)
    }

    #[test]
    fn what_moves_with_the_image_is_found_with_its_bits() {
        let audits = THREE.map(|steps| boot(steps, |image, _| image + 0xe0_0000));
        let (track, findings) = entry_text(&audits);
        assert_eq!(track.moves_with.as_deref(), Some("kernel image"));
        assert_eq!(track.motion, Motion::WithBase);
        assert!((8.0..10.0).contains(&track.bits), "{track:?}");
        assert_eq!(findings, ["moves-with-kernel"]);
    }

    #[test]
    fn what_moves_with_the_direct_map_is_found() {
        let audits = THREE.map(|steps| boot(steps, |_, map| map + 0x1234_5000));
        let (track, findings) = entry_text(&audits);
        assert_eq!(track.moves_with.as_deref(), Some("direct map"));
        assert_eq!(findings, ["moves-with-kernel"]);
    }

    #[test]
    fn what_is_fixed_or_random_by_itself_is_no_finding() {
        let fixed = THREE.map(|steps| boot(steps, |_, _| AREA + GIB));
        let (track, findings) = entry_text(&fixed);
        assert_eq!((track.motion, track.moves_with, findings), (Motion::Fixed, None, vec![]));

        let own = [(THREE[0], 0x7b_3000), (THREE[1], 0x19_f000), (THREE[2], 0x3_c000)];
        let random = own.map(|(steps, offset)| boot(steps, |_, _| AREA + GIB + offset));
        let (track, findings) = entry_text(&random);
        assert_eq!((track.motion, track.moves_with, findings), (Motion::Independent, None, vec![]));
    }

    #[test]
    fn what_shares_some_bits_only_is_found_with_those() {
        // The low eight bits of the image's slide, and others above.
        let own = [(THREE[0], 5), (THREE[1], 901), (THREE[2], 78)];
        let audits = own.map(|(steps, own)| {
            boot(steps, |image, _| AREA + (image - IMAGE) % (256 * MIB2) + own * 256 * MIB2)
        });
        let (track, findings) = entry_text(&audits);
        assert_eq!((track.motion, track.bits), (Motion::PartlyWithBase, 8.0));
        assert_eq!(findings, ["moves-with-kernel"]);
    }

    #[test]
    fn two_boots_with_the_same_slide_leave_it_undecided() {
        let same = [(17, 5, 5), (17, 900, 800)];
        let audits = same.map(|steps| boot(steps, |image, _| image + 0xe0_0000));
        let (boots, findings) = boots(&audits);
        assert_eq!(boots.bases[0].motion, BaseMotion::Undecided);
        assert_eq!(findings[0].id, "movement-undecided");
    }

    #[test]
    fn an_image_that_never_moves_is_noted() {
        let still = THREE.map(|(_, map, heap)| (0, map, heap));
        let audits = still.map(|steps| boot(steps, |_, _| AREA + GIB + steps.1 * 0x1_3000));
        let (track, findings) = entry_text(&audits);
        assert_eq!(track.motion, Motion::Independent);
        assert_eq!(findings, ["kernel-not-randomised"]);
    }

    #[test]
    fn a_visible_pointer_is_followed_too() {
        let audits = THREE.map(|steps| {
            let mut audit = boot(steps, |_, _| AREA + GIB);
            let place = Place {
                view: 0,
                address: AREA + GIB + 0x128,
                bytes: 8,
                value: Some(HEAP + steps.2 * GIB + 0x4c0),
                note: String::new(),
            };
            audit.findings.push(KERNEL_POINTER.finding("a pointer", vec![place]));
            audit
        });
        let (boots, findings) = boots(&audits);
        let pointer = boots.tracks.iter().find(|track| track.name.starts_with("pointer"));
        let pointer = pointer.expect("it is visible");
        assert_eq!(pointer.name, "pointer at 0x128 in entry text");
        assert_eq!(pointer.moves_with.as_deref(), Some("area 1"));
        assert_eq!(findings[0].places[0].value, Some(HEAP + THREE[0].2 * GIB + 0x4c0));
    }

    #[test]
    fn without_a_base_nothing_is_called_independent() {
        let mut audits = THREE.map(|steps| boot(steps, |image, _| image + 0xe0_0000));
        for audit in &mut audits {
            // All that the kernel's root maps is visible and small.
            audit.views[0].kernel = vec![run(AREA, 0xa000, 0x1000, false)];
        }
        audits[0].views[0].kernel = kernel(IMAGE, DIRECT_MAP, HEAP);
        let (track, findings) = entry_text(&audits);
        assert_eq!(track.motion, Motion::Undecided);
        assert_eq!(findings, ["movement-undecided"]);
    }

    #[test]
    fn none_and_one_boot_are_undecided() {
        assert_eq!(boots(&[]).0.tracks, []);
        let (track, findings) = entry_text(&[boot(THREE[0], |image, _| image)]);
        assert_eq!(
            (track.motion, findings),
            (Motion::Undecided, vec!["movement-undecided".into()])
        );
    }
}
