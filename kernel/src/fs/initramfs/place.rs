//! Putting an archive's members into the root.

use crate::errno::Errno;
use crate::fs::inode::{Change, Inode, Kind, New, device_number};
use crate::fs::memory::Node;
use crate::fs::mount;
use crate::fs::transfer::Source;
use crate::fs::walk::NAME_MAX;
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use ringwall_archive::Entry;

/// What a hard link is known by inside an archive.
type Link = (u32, (u32, u32));

/// Puts members in place. Links and directories' times wait until the end.
pub struct Placer {
    links: BTreeMap<Link, Arc<dyn Inode>>,
    directories: Vec<(Arc<dyn Inode>, u64)>,
    /// Most members follow one of the same directory.
    last: Option<(Vec<u8>, Arc<dyn Inode>)>,
}

fn reason(error: Errno) -> &'static str {
    match error {
        Errno::ENOSPC | Errno::ENOMEM => "no memory left",
        Errno::ENOTDIR => "its path goes through a file",
        Errno::ENAMETOOLONG => "its name is too long",
        Errno::EINVAL => "its type is unknown",
        _ => "its path leads nowhere",
    }
}

impl Placer {
    /// Nothing placed yet.
    pub fn new() -> Placer {
        Placer { links: BTreeMap::new(), directories: Vec::new(), last: None }
    }

    /// Makes what `entry` describes. What was there under its name goes, except a directory.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn place(&mut self, entry: &Entry<'_>) -> Result<(), &'static str> {
        self.try_place(entry).map_err(reason)
    }

    /// Hard links do not reach into the next archive.
    pub fn end_archive(&mut self) {
        self.links.clear();
    }

    /// Sets what unpacking disturbed: times of directories.
    pub fn finish(self) {
        for (directory, modified) in self.directories {
            let times = Some(modified);
            let _ =
                directory.change(&Change { accessed: times, modified: times, ..Change::default() });
        }
    }

    fn try_place(&mut self, entry: &Entry<'_>) -> Result<(), Errno> {
        let kind = Kind::of_mode(entry.mode).ok_or(Errno::EINVAL)?;
        let modified = u64::from(entry.modified) * 1_000_000_000;
        let (above, name) = split(entry.name);
        if name.is_empty() {
            // "." and "/" are the root itself.
            let root = mount::root().root.clone();
            settle(&*root, entry, modified);
            self.directories.push((root, modified));
            return Ok(());
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let directory = self.directory(above)?;
        let link = (entry.inode, entry.device);
        let linked = kind != Kind::Directory && entry.links > 1;
        if linked && let Some(first) = self.links.get(&link).cloned() {
            clear(&directory, name)?;
            directory.link(name, &first)?;
            // GNU cpio puts the data with the last of the links, others with the first.
            return if entry.data.is_empty() { Ok(()) } else { fill(&first, entry, modified) };
        }
        if kind == Kind::Directory
            && let Ok(old) = directory.clone().lookup(name)
            && old.kind() == Kind::Directory
        {
            settle(&*old, entry, modified);
            self.directories.push((old, modified));
            return Ok(());
        }
        clear(&directory, name)?;
        let mode = entry.mode & 0o7777;
        let special = device_number(entry.special.0, entry.special.1);
        let new = match kind {
            Kind::Symlink => New::Symlink(entry.data),
            _ => New::Node { kind, mode, special },
        };
        let inode = directory.create(name, new)?;
        match kind {
            Kind::Regular => fill(&inode, entry, modified)?,
            _ => settle(&*inode, entry, modified),
        }
        if kind == Kind::Directory {
            self.directories.push((inode.clone(), modified));
        }
        if linked {
            self.links.insert(link, inode);
        }
        Ok(())
    }

    /// The directory at `path`, made if it is missing.
    fn directory(&mut self, path: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if let Some((known, directory)) = &self.last
            && known == path
        {
            return Ok(directory.clone());
        }
        let mut at = mount::root().root.clone();
        for part in path.split(|&byte| byte == b'/') {
            if part.is_empty() || part == b"." {
                continue;
            }
            if part == b".." {
                at = at.location().map_or(at, |(above, _)| above);
                continue;
            }
            at = match at.clone().lookup(part) {
                Ok(found) => follow(found, at, 0)?,
                Err(Errno::ENOENT) => {
                    at.create(part, New::Node { kind: Kind::Directory, mode: 0o755, special: 0 })?
                }
                Err(error) => return Err(error),
            };
        }
        self.last = Some((path.to_vec(), at.clone()));
        Ok(at)
    }
}

/// Goes where a symbolic link to a directory leads ("lib -> usr/lib").
fn follow(found: Arc<dyn Inode>, at: Arc<dyn Inode>, depth: u32) -> Result<Arc<dyn Inode>, Errno> {
    use crate::fs::walk::{Final, Place, walk};
    if found.kind() != Kind::Symlink {
        return Ok(found);
    }
    if depth > 8 {
        return Err(Errno::ELOOP);
    }
    let start = Place { mount: mount::root().clone(), inode: at };
    let target = found.target()?;
    Ok(walk(&mount::root().top(), &start, &target, Final::Follow)?.found()?.inode)
}

/// Directory part and last name of a path, slashes and dots around taken off.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let mut path = path;
    loop {
        if let Some(shorter) = path.strip_suffix(b"/") {
            path = shorter;
        } else if path.ends_with(b"/.") {
            path = &path[..path.len() - 1];
        } else {
            break;
        }
    }
    let at = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    match &path[at..] {
        b"." => (&path[..at], b""),
        name => (&path[..at], name),
    }
}

/// Removes what is under `name`.
fn clear(directory: &Arc<dyn Inode>, name: &[u8]) -> Result<(), Errno> {
    match directory.clone().lookup(name) {
        Ok(old) => directory.remove(name, old.kind() == Kind::Directory),
        Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes a regular file's data, and then sets its attributes.
fn fill(inode: &Arc<dyn Inode>, entry: &Entry<'_>, modified: u64) -> Result<(), Errno> {
    let node = Node::of(&**inode).ok_or(Errno::EINVAL)?;
    let mut source = Source::Kernel(entry.data);
    node.write_all(&mut source)?;
    settle(&**inode, entry, modified);
    Ok(())
}

/// Sets owner, mode and times.
fn settle(inode: &dyn Inode, entry: &Entry<'_>, modified: u64) {
    if let Some(node) = Node::of(inode) {
        node.restore(entry.user, entry.group, modified);
    }
    if inode.kind() != Kind::Symlink {
        let times = Some(modified);
        let mode = Some(entry.mode & 0o7777);
        let _ =
            inode.change(&Change { mode, accessed: times, modified: times, ..Change::default() });
    }
}
