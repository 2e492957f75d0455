//! Everything visible, followed from boot to boot.
//!
//! A region is the same one in two boots if its name, CPU, rights and page size are the same, and as many like it lie
//! below. A visible word that is a pointer (the findings have those, with their values) is the same if it stands at
//! the same offset in the same region.

use std::collections::BTreeMap;

use crate::document::{Audit, Kind, Region};

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

/// The tracks of one boot: what is visible, and where; for a word, what it says. `length` is its size.
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

/// What one boot shows. Without isolation everything is visible, and nothing is worth following.
pub fn tracks(audit: &Audit) -> BTreeMap<Key, Seen> {
    let mut tracks = BTreeMap::new();
    let isolated = audit.views.iter().enumerate().filter(|(_, view)| view.kernel_root.is_some());
    for (number, view) in isolated {
        let mut regions: Vec<(Key, &Region)> = Vec::new();
        let mut counts: BTreeMap<Key, usize> = BTreeMap::new();
        for region in view.visible.iter().filter(|region| region.repeats.is_none()).take(TRACKS) {
            let key = key(region);
            let count = counts.entry(key.clone()).or_default();
            let key = Key { order: *count, ..key };
            *count += 1;
            let seen = Seen {
                value: region.address,
                address: region.address,
                bytes: region.bytes,
                view: number,
            };
            tracks.entry(key.clone()).or_insert(seen);
            regions.push((key, region));
        }
        let places = audit.findings.iter().flat_map(|finding| &finding.places);
        for place in places.filter(|place| place.view == number).take(TRACKS) {
            let region = regions.iter().find(|(_, region)| region.contains(place.address));
            if let (Some(value), Some((key, region))) = (place.value, region) {
                let key = Key { word: Some(place.address - region.address), ..key.clone() };
                let seen = Seen { value, address: place.address, bytes: place.bytes, view: number };
                tracks.entry(key).or_insert(seen);
            }
        }
    }
    while tracks.len() > TRACKS {
        tracks.pop_last();
    }
    tracks
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
