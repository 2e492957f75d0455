//! Everything visible, followed from boot to boot.
//!
//! A region is the same one in two boots if its name, CPU, rights and page size are the same, and as many like it lie
//! below. A visible word that is a pointer (the findings have those, with their values) is the same if it stands at
//! the same offset in the same region.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::document::{Audit, Kind, Place, Region};

/// Most things that are followed; a kernel that shows more hides nothing anyway.
const TRACKS: usize = 1024;

/// What a region is recognised by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    kind: Option<Kind>,
    cpu: Option<u32>,
    text: String,
    rights: (bool, bool, bool),
    page_size: u64,
    /// How many others with all the same lie below.
    order: usize,
    /// For a word: its offset in the region, and how many it is in the finding's order.
    word: Option<u64>,
}

impl Key {
    /// The same, but for how many others like it lie below.
    pub fn alike(&self) -> Key {
        Key { order: 0, ..self.clone() }
    }

    /// In words, for people.
    pub fn name(&self) -> String {
        let region = match (&self.text[..], self.order) {
            ("", order) => {
                let (user, writable, executable) = self.rights;
                let rights =
                    crate::document::Rights { user, writable, executable, ..Default::default() };
                format!("{} pages no. {}", rights.text(), order + 1)
            }
            (text, 0) => text.to_owned(),
            (text, order) => format!("{text}, no. {}", order + 1),
        };
        match self.word {
            Some(offset) => format!("pointer at {offset:#x} in {region}"),
            None => region,
        }
    }
}

/// Where something is in one boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The address, or the word's value.
    pub value: u64,
    /// The address.
    pub address: u64,
    /// Bytes from there.
    pub bytes: u64,
    /// Index of the view.
    pub view: usize,
}

/// What one boot shows.
#[derive(Clone, Debug, Default)]
pub struct Tracks {
    /// Each thing, and where it is.
    pub seen: BTreeMap<Key, Seen>,
    /// Whether there was more than is followed.
    pub cut: bool,
}

/// What one boot shows. Without isolation everything is visible, and nothing is worth following. What all CPUs share is
/// followed before what belongs to one, executable memory first, lower CPUs before higher ones.
pub fn tracks(audit: &Audit) -> Tracks {
    let mut tracks = Tracks::default();
    let isolated = audit.views.iter().enumerate().filter(|(_, view)| view.kernel_root.is_some());
    for (number, view) in isolated {
        let mut counts: BTreeMap<Key, usize> = BTreeMap::new();
        let visible = view.visible.iter().filter(|region| region.repeats.is_none());
        let mut regions: Vec<(Key, &Region)> = visible
            .map(|region| {
                let key = key(region);
                let count = counts.entry(key.clone()).or_default();
                let order = *count;
                *count += 1;
                (Key { order, ..key }, region)
            })
            .collect();
        regions.sort_by_key(|(key, region)| (key.cpu, !region.rights.executable, region.address));
        for (key, region) in &regions {
            let Region { address, bytes, .. } = **region;
            tracks.add(key.clone(), Seen { value: address, address, bytes, view: number });
        }
        regions.sort_by_key(|(_, region)| region.address);
        let places = audit.findings.iter().flat_map(|finding| &finding.places);
        for place in places.filter(|place| place.view == number) {
            let after = regions.partition_point(|(_, region)| region.address <= place.address);
            let region = after.checked_sub(1).map(|index| &regions[index]);
            let region = region.filter(|(_, region)| region.contains(place.address));
            if let (Some(value), Some((key, region))) = (place.value, region) {
                let key = Key { word: Some(place.address - region.address), ..key.clone() };
                let Place { address, bytes, .. } = *place;
                tracks.add(key, Seen { value, address, bytes, view: number });
            }
        }
    }
    tracks
}

impl Tracks {
    /// Follows one more, if it is not followed already and there is room.
    fn add(&mut self, key: Key, seen: Seen) {
        let full = self.seen.len() == TRACKS;
        match self.seen.entry(key) {
            Entry::Vacant(_) if full => self.cut = true,
            Entry::Vacant(entry) => drop(entry.insert(seen)),
            Entry::Occupied(_) => {}
        }
    }
}

fn key(region: &Region) -> Key {
    let rights = (region.rights.user, region.rights.writable, region.rights.executable);
    let name = region.name.as_ref();
    Key {
        kind: name.map(|name| name.kind),
        cpu: name.and_then(|name| name.cpu),
        text: name.map(|name| name.text.clone()).unwrap_or_default(),
        rights,
        page_size: region.page_size,
        order: 0,
        word: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Name, Rights, View};

    #[test]
    fn the_entry_text_is_followed_however_many_cpus_there_are() {
        let region = |address, kind, cpu| Region {
            address,
            bytes: 0x1000,
            rights: Rights { executable: kind == Kind::EntryText, ..Rights::default() },
            name: Some(Name { kind, text: format!("{kind:?} of {cpu:?}"), cpu, symbol: None }),
            ..Region::default()
        };
        let area = (0..3000).map(|cpu| {
            region(0xffff_fe00_0000_0000 + u64::from(cpu) * 0x1000, Kind::EntryStack, Some(cpu))
        });
        let text = region(0xffff_ffff_8100_0000, Kind::EntryText, None);
        let visible = area.chain([text]).collect();
        let view = View { kernel_root: Some(1), visible, ..View::default() };
        let tracks = tracks(&Audit { views: vec![view], ..Audit::default() });
        assert!(tracks.cut && tracks.seen.len() == TRACKS);
        assert!(tracks.seen.keys().any(|key| key.kind == Some(Kind::EntryText)));
        assert!(tracks.seen.keys().any(|key| key.cpu == Some(0)));
    }
}
