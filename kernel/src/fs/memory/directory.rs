//! Names of a directory, in the order in which they are listed: newest first, as Linux does it.
//!
//! Each entry has a key; keys fall as entries are made, and a listing goes up. So an entry made
//! during a listing is never shown by it, and removing what was shown disturbs nothing.

use super::node::Node;
use crate::errno::{Errno, Result};
use crate::fs::inode::{Entry, Inode, Kind};
use crate::sync::Mutex;
use alloc::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    vec::Vec,
};

/// Spin-locked: never held across a copy to user memory. Of two directories, the one that contains
/// the other is locked first; if neither does, the one at the lower address. Attributes are locked
/// last.
pub struct Directory(pub(super) Mutex<Names>);

/// The names.
pub struct Names {
    by_name: BTreeMap<Arc<[u8]>, (u64, Arc<Node>)>,
    by_key: BTreeMap<u64, Arc<[u8]>>,
    next_key: u64,
    /// The directory that this one is in, and its name there.
    pub(super) place: Option<(Weak<Node>, Arc<[u8]>)>,
    /// Removed: nothing can be made in it any more.
    pub(super) removed: bool,
    /// While a tree is freed: the directory to free after this one.
    pub(super) next_to_free: Option<Arc<Node>>,
}

impl Names {
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Node>> {
        self.by_name.get(name).map(|(_, node)| node)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Adds a name that is not there.
    pub(super) fn add(&mut self, name: Arc<[u8]>, node: Arc<Node>) {
        let key = self.next_key;
        self.next_key -= 1;
        self.by_key.insert(key, name.clone());
        self.by_name.insert(name, (key, node));
    }

    /// Takes a name out.
    pub(super) fn take(&mut self, name: &[u8]) -> Option<Arc<Node>> {
        let (key, node) = self.by_name.remove(name)?;
        self.by_key.remove(&key);
        Some(node)
    }
}

impl Directory {
    /// An empty one.
    pub fn new() -> Directory {
        Directory(Mutex::new(Names {
            by_name: BTreeMap::new(),
            by_key: BTreeMap::new(),
            next_key: i64::MAX as u64 - 1,
            place: None,
            removed: false,
            next_to_free: None,
        }))
    }

    /// The node under `name`.
    pub fn get(&self, name: &[u8]) -> Option<Arc<Node>> {
        self.0.lock().get(name).cloned()
    }

    /// Entries.
    pub fn count(&self) -> usize {
        self.0.lock().by_name.len()
    }

    /// Takes all entries out.
    pub(super) fn drain(&self) -> impl Iterator<Item = Arc<Node>> + use<> {
        let mut names = self.0.lock();
        names.by_key.clear();
        core::mem::take(&mut names.by_name).into_values().map(|(_, node)| node)
    }

    /// Where this directory is.
    pub fn location(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let names = self.0.lock();
        let (parent, name) = names.place.as_ref()?;
        Some((parent.upgrade()?, name.to_vec()))
    }

    /// See [`Inode::list`].
    pub fn list(&self, position: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) {
        let names = self.0.lock();
        for (&key, name) in names.by_key.range(position..) {
            let Some((_, node)) = names.by_name.get(name) else { continue };
            let entry = Entry { name, number: node.number, kind: node.kind(), next: key + 1 };
            if !each(entry) {
                return;
            }
        }
    }

    /// Gives `node` the name `name` in this directory, which is the body of `own`.
    ///
    /// # Errors
    /// `EEXIST`; `ENOENT` if the directory was removed.
    pub fn insert(&self, own: &Arc<Node>, name: &[u8], node: Arc<Node>) -> Result<()> {
        let name: Arc<[u8]> = name.into();
        let mut names = self.0.lock();
        if names.removed {
            return Err(Errno::ENOENT);
        }
        if names.get(&name).is_some() {
            return Err(Errno::EEXIST);
        }
        let is_directory = node.kind() == Kind::Directory;
        if let Ok(directory) = node.directory() {
            directory.0.lock().place = Some((Arc::downgrade(own), name.clone()));
        }
        names.add(name, node);
        let mut attributes = own.attributes.lock();
        attributes.links += u32::from(is_directory);
        attributes.touch();
        Ok(())
    }

    /// See [`Inode::remove`].
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`.
    pub fn remove(&self, own: &Node, name: &[u8], directory: bool) -> Result<()> {
        let mut names = self.0.lock();
        let node = names.get(name).ok_or(Errno::ENOENT)?.clone();
        match (node.kind() == Kind::Directory, directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        bury(&node)?;
        names.take(name);
        let mut attributes = own.attributes.lock();
        if directory {
            attributes.links -= 1;
        }
        attributes.touch();
        drop(attributes);
        // The last handle may free a large file: not under the directory's lock.
        drop(names);
        Ok(())
    }
}

/// Takes one link away from a node that loses a name; an empty directory becomes a removed one.
///
/// # Errors
/// `ENOTEMPTY`; nothing changed then.
pub(super) fn bury(node: &Node) -> Result<()> {
    if let Ok(inner) = node.directory() {
        let mut inner = inner.0.lock();
        if !inner.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        inner.removed = true;
        inner.place = None;
        node.attributes.lock().links = 0;
    } else {
        let mut attributes = node.attributes.lock();
        attributes.links = attributes.links.saturating_sub(1);
        attributes.changed = crate::time::realtime();
    }
    Ok(())
}
