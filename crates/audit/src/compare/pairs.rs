//! Which region of one audit is which of the other.
//!
//! In passes from the surest sign to the weakest, each over what the passes before have left. Within a pass the
//! regions with the same sign are paired in ascending order of address.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use super::{Aspect, Comparison, RegionPair};
use crate::document::{Audit, Kind, Region, Rights};

/// What a pass goes by; `None` for a region that it has nothing to say of.
type Sign<'a, K> = fn(&'a Region) -> Option<K>;

/// The pairs, differences first and the longest first among them, at most [`Comparison::REGIONS`]; and how many
/// pairs that differ found no room.
pub fn regions(left: &Audit, right: &Audit) -> (Vec<RegionPair>, usize) {
    let (mut left, mut right) = (visible(left), visible(right));
    let mut pairs = Vec::new();
    pass(&mut left, &mut right, &mut pairs, equal);
    pass(&mut left, &mut right, &mut pairs, named);
    pass(&mut left, &mut right, &mut pairs, kind_and_cpu);
    pass(&mut left, &mut right, &mut pairs, place);
    pass(&mut left, &mut right, &mut pairs, shape);
    pairs.extend(left.into_iter().map(|region| pair(Some(region), None)));
    pairs.extend(right.into_iter().map(|region| pair(None, Some(region))));

    let either = |pair: &RegionPair| pair.left.as_ref().or(pair.right.as_ref()).cloned();
    pairs.sort_by_cached_key(|pair| {
        let region = either(pair).unwrap_or_default();
        let same = pair.differs.is_empty();
        let length = if same { 0 } else { u64::MAX - region.bytes };
        (same, length, region.address)
    });
    let beyond = pairs.iter().skip(Comparison::REGIONS);
    let left_out = beyond.filter(|pair| !pair.differs.is_empty()).count();
    pairs.truncate(Comparison::REGIONS);
    (pairs, left_out)
}

/// What any view shows, once each, in ascending order of address. The same memory again (espfix) is no region
/// of its own.
fn visible(audit: &Audit) -> Vec<&Region> {
    let mut seen = HashSet::new();
    let regions = audit.views.iter().flat_map(|view| &view.visible);
    let mut regions: Vec<&Region> = regions
        .filter(|region| region.repeats.is_none())
        .filter(|region| {
            let name = region.name.as_ref().map(|name| (name.kind, name.cpu, &*name.text));
            seen.insert((region.address, region.bytes, region.rights, name))
        })
        .collect();
    regions.sort_by_key(|region| (region.address, region.bytes));
    regions
}

/// Pairs what has the same sign, and leaves the rest in `left` and `right`.
fn pass<'a, K: Hash + Eq>(
    left: &mut Vec<&'a Region>,
    right: &mut Vec<&'a Region>,
    pairs: &mut Vec<RegionPair>,
    sign: Sign<'a, K>,
) {
    let mut partners: HashMap<K, VecDeque<usize>> = HashMap::new();
    for (index, region) in right.iter().enumerate() {
        if let Some(key) = sign(region) {
            partners.entry(key).or_default().push_back(index);
        }
    }
    let mut taken = HashSet::new();
    left.retain(|region| {
        let waiting = sign(region).and_then(|key| partners.get_mut(&key));
        let Some(index) = waiting.and_then(VecDeque::pop_front) else { return true };
        pairs.push(pair(Some(region), Some(right[index])));
        taken.insert(index);
        false
    });
    let mut index = 0;
    right.retain(|_| {
        index += 1;
        !taken.contains(&(index - 1))
    });
}

type Name<'a> = (Kind, Option<u32>, &'a str);

fn equal(region: &Region) -> Option<(Name<'_>, Rights, u64)> {
    Some((named(region)?, region.rights, region.bytes))
}

fn named(region: &Region) -> Option<Name<'_>> {
    region.name.as_ref().map(|name| (name.kind, name.cpu, &*name.text))
}

/// One audit had symbols and the other had none: the same thing has two names.
fn kind_and_cpu(region: &Region) -> Option<(Kind, Option<u32>)> {
    region.name.as_ref().map(|name| (name.kind, name.cpu))
}

fn place(region: &Region) -> Option<u64> {
    region.name.is_none().then_some(region.address)
}

fn shape(region: &Region) -> Option<(Rights, u64)> {
    region.name.is_none().then_some((region.rights, region.bytes))
}

fn pair(left: Option<&Region>, right: Option<&Region>) -> RegionPair {
    let differs = match (left, right) {
        (Some(left), Some(right)) => {
            let aspects = [
                (Aspect::Rights, left.rights != right.rights),
                (Aspect::Bytes, left.bytes != right.bytes),
                (Aspect::PageSize, left.page_size != right.page_size),
            ];
            aspects.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect()
        }
        (Some(_), None) => vec![Aspect::OnlyLeft],
        (None, _) => vec![Aspect::OnlyRight],
    };
    RegionPair { left: left.cloned(), right: right.cloned(), differs }
}
