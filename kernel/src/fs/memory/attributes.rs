//! Mode, owner, link count and times of a node.

use crate::fs::inode::Change;
use crate::fs::permission;
use crate::time;
use linux_raw_sys::general::{S_ISGID, S_ISUID, S_IXGRP};

/// What can be changed without touching the data.
#[derive(Clone, Copy)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    pub accessed: u64,
    pub modified: u64,
    pub changed: u64,
}

impl Attributes {
    /// Those of a file that the current process makes now.
    pub fn new(mode: u32, links: u32) -> Attributes {
        let now = time::realtime();
        let (user, group) = permission::creator();
        Attributes {
            mode: mode & 0o7777,
            links,
            user,
            group,
            accessed: now,
            modified: now,
            changed: now,
        }
    }

    /// Its contents changed just now.
    pub fn touch(&mut self) {
        let now = time::realtime();
        self.modified = now;
        self.changed = now;
    }

    /// Its contents were written: as [`Attributes::touch`], and a set-user-ID program is none any
    /// more.
    pub fn written(&mut self) {
        self.touch();
        if self.mode & (S_ISUID | S_ISGID) != 0 {
            self.drop_set_id();
        }
    }

    /// It was read: noted once after each change, which is what "relatime" means.
    pub fn read(&mut self) {
        if self.accessed <= self.modified || self.accessed <= self.changed {
            self.accessed = time::realtime();
        }
    }

    /// Makes a change.
    pub fn apply(&mut self, change: &Change) {
        if let Some(mode) = change.mode {
            self.mode = mode & 0o7777;
        }
        if change.user.is_some() || change.group.is_some() {
            self.drop_set_id();
        }
        self.user = change.user.unwrap_or(self.user);
        self.group = change.group.unwrap_or(self.group);
        self.accessed = change.accessed.unwrap_or(self.accessed);
        self.modified = change.modified.unwrap_or(self.modified);
        self.changed = time::realtime();
    }

    fn drop_set_id(&mut self) {
        self.mode &= !S_ISUID;
        // Set-group-ID without group execute marks mandatory locking and stays.
        if self.mode & S_IXGRP != 0 {
            self.mode &= !S_ISGID;
        }
    }
}
