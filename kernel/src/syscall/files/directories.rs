//! Listing directories, and the working directory.

use super::arguments::{file, path};
use crate::errno::{Errno, Result};
use crate::fs::inode::{Entry, Kind};
use crate::fs::permission::{self, EXECUTE};
use crate::fs::walk::{Final, Place};
use crate::fs::{File, current};
use crate::user;
use alloc::vec::Vec;
use ringwall::Frame;

/// Most bytes that one listing call fills.
const MOST: usize = 32 << 10;

/// Entries in the program's format, at most `room` bytes of them.
struct Listing {
    bytes: Vec<u8>,
    room: usize,
    old: bool,
    /// Position behind the last entry.
    next: u64,
    /// An entry did not fit.
    full: bool,
}

impl Listing {
    /// Adds an entry; false if there is no room for it.
    fn add(&mut self, entry: &Entry<'_>) -> bool {
        // Inode number, position, length; then type and name, or name and type.
        let length = (8 + 8 + 2 + 1 + entry.name.len() + 1).next_multiple_of(8);
        let start = self.bytes.len();
        if start + length > self.room {
            self.full = true;
            return false;
        }
        self.bytes.extend_from_slice(&entry.number.to_ne_bytes());
        self.bytes.extend_from_slice(&entry.next.to_ne_bytes());
        self.bytes.extend_from_slice(&(length as u16).to_ne_bytes());
        if !self.old {
            self.bytes.push(entry.kind.entry_type());
        }
        self.bytes.extend_from_slice(entry.name);
        self.bytes.resize(start + length, 0);
        if self.old {
            self.bytes[start + length - 1] = entry.kind.entry_type();
        }
        self.next = entry.next;
        true
    }
}

fn list(frame: &Frame, old: bool) -> Result<usize> {
    let file = file(frame.rdi())?;
    let inode = file.inode();
    if !file.modes().0 {
        return Err(Errno::EBADF);
    }
    if inode.kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    if inode.metadata().links == 0 {
        return Err(Errno::ENOENT);
    }
    let room = (frame.rdx() as u32 as usize).min(MOST);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(room).map_err(|_| Errno::ENOMEM)?;
    let done = file.with_position(|at| {
        let mut listing = Listing { bytes, room, old, next: *at, full: false };
        fill(&file, *at, &mut listing)?;
        if listing.bytes.is_empty() && listing.full {
            return Err(Errno::EINVAL);
        }
        user::write_bytes(frame.rsi(), &listing.bytes)?;
        *at = listing.next;
        Ok(listing.bytes.len())
    })?;
    Ok(done)
}

fn fill(file: &File, at: u64, listing: &mut Listing) -> Result<()> {
    let inode = file.inode();
    let own = inode.identity().1;
    if at == 0 && !listing.add(&Entry { name: b".", number: own, kind: Kind::Directory, next: 1 }) {
        return Ok(());
    }
    if at <= 1 {
        let above = file
            .place()
            .map_or(own, |place| place.above(&current::paths().top()).inode.identity().1);
        let entry = Entry { name: b"..", number: above, kind: Kind::Directory, next: 2 };
        if !listing.add(&entry) {
            return Ok(());
        }
    }
    inode.list(at.max(2), &mut |entry| listing.add(&entry))
}

pub fn getdents(frame: &mut Frame) -> Result<usize> {
    list(frame, true)
}

pub fn getdents64(frame: &mut Frame) -> Result<usize> {
    list(frame, false)
}

pub fn getcwd(frame: &mut Frame) -> Result<usize> {
    let paths = current::paths();
    let mut path = paths.path_of(&paths.working())?;
    path.push(0);
    if path.len() as u64 > frame.rsi() {
        return Err(Errno::ERANGE);
    }
    user::write_bytes(frame.rdi(), &path)?;
    Ok(path.len())
}

/// Checks that `place` is a directory that may be entered.
fn enterable(place: Place) -> Result<Place> {
    if place.inode.kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    permission::check(&*place.inode, EXECUTE)?;
    Ok(place)
}

pub fn chdir(frame: &mut Frame) -> Result<usize> {
    let paths = current::paths();
    let place = paths.walk(None, &path(frame.rdi())?, Final::Follow)?.found()?;
    paths.set_working(enterable(place)?);
    Ok(0)
}

pub fn fchdir(frame: &mut Frame) -> Result<usize> {
    let place = file(frame.rdi())?.place().ok_or(Errno::ENOTDIR)?;
    current::paths().set_working(enterable(place)?);
    Ok(0)
}

pub fn chroot(frame: &mut Frame) -> Result<usize> {
    let paths = current::paths();
    let place = paths.walk(None, &path(frame.rdi())?, Final::Follow)?.found()?;
    let place = enterable(place)?;
    permission::check_superuser()?;
    paths.set_top(place);
    Ok(0)
}
