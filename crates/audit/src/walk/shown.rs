//! What a table shows, in short: enough to list it again without another walk.

use crate::document::Rights;

/// What a table shows, in short, for when it is met again. Offsets count from the table's first address.
#[derive(Clone, Copy, Default)]
pub struct Shown {
    pub base: u64,
    pub user: Option<Part>,
    pub supervisor: Option<Part>,
}

/// The user pages of a table, or the supervisor pages.
#[derive(Clone, Copy)]
pub struct Part {
    pub first: u64,
    pub end: u64,
    pub physical: u64,
    pub pages: u64,
    pub bytes: u64,
    pub page_shift: u8,
    pub rights: Rights,
}

impl Shown {
    pub fn add(&mut self, part: Part) {
        let slot = if part.rights.user { &mut self.user } else { &mut self.supervisor };
        *slot = Some(slot.map_or(part, |before| before.and(&part)));
    }

    /// Takes over what a table at `offset` shows.
    pub fn add_all(&mut self, other: &Shown, offset: u64) {
        for part in [other.supervisor, other.user].into_iter().flatten() {
            self.add(Part { first: part.first + offset, end: part.end + offset, ..part });
        }
    }
}

impl Part {
    /// Together with what comes behind it.
    pub fn and(self, next: &Part) -> Part {
        let (mine, theirs) = (self.rights, next.rights);
        Part {
            end: self.end.max(next.end),
            pages: self.pages + next.pages,
            bytes: self.bytes + next.bytes,
            page_shift: self.page_shift.min(next.page_shift),
            rights: Rights {
                user: mine.user,
                writable: mine.writable | theirs.writable,
                executable: mine.executable | theirs.executable,
                global: mine.global | theirs.global,
                key: if mine.key == theirs.key { mine.key } else { 0 },
            },
            ..self
        }
    }
}
