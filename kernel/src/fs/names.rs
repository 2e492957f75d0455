//! Opening, making, removing and moving files by path.

use super::file::Origin;
use super::hold::Hold;
use super::inode::{Inode, Kind, New};
use super::memory::Node;
use super::permission::{self, EXECUTE, READ, WRITE};
use super::transfer::{Sink, Source};
use super::walk::{Final, Last, Place, Walked};
use super::{File, Operations, Paths};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as abi;

/// How often an opening that makes a file may find that others have made it, and taken it away again.
const RACES: usize = 100;

/// Checks that names of `directory` may be changed.
///
/// # Errors
/// `EROFS`, `EACCES`.
fn check_directory(directory: &Place) -> Result<()> {
    if directory.mount.read_only() {
        return Err(Errno::EROFS);
    }
    permission::check(&*directory.inode, WRITE | EXECUTE)
}

/// Checks that the current process may take `inode` out of `directory`, which may be sticky.
///
/// # Errors
/// `EPERM`.
fn check_sticky(directory: &Place, inode: &dyn Inode) -> Result<()> {
    if permission::check_superuser().is_ok() {
        return Ok(());
    }
    if directory.inode.metadata().mode & abi::S_ISVTX == 0 {
        return Ok(());
    }
    permission::check_owner(inode).or_else(|_| permission::check_owner(&*directory.inode))
}

/// The directory and name under which something new shall be made.
///
/// # Errors
/// `EEXIST`, `ENOENT`, `EROFS`, `EACCES`.
fn vacant(walked: &Walked, directory: bool) -> Result<&[u8]> {
    let name = walked.name(Errno::EEXIST)?;
    if walked.place.is_some() {
        return Err(Errno::EEXIST);
    }
    if walked.slash && !directory {
        return Err(Errno::ENOENT);
    }
    check_directory(&walked.directory)?;
    Ok(name)
}

/// What a file opened with `O_PATH` does.
struct Nothing;

impl Operations for Nothing {
    fn read(&self, _file: &File, _at: &mut u64, _sink: &mut Sink<'_>) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn write(&self, _file: &File, _at: &mut u64, _source: &mut Source<'_>) -> Result<usize> {
        Err(Errno::EBADF)
    }
}

/// Opens `path`.
///
/// # Errors
/// Those of open.
pub fn open(
    paths: &Paths,
    start: Option<&Place>,
    path: &[u8],
    flags: u32,
    mode: u32,
) -> Result<Arc<File>> {
    for _ in 0..RACES {
        let opened = try_open(paths, start, path, flags, mode);
        // Somebody else may make the file between the look for it and its making: then that is opened.
        if flags & abi::O_EXCL != 0 || !matches!(opened, Err(Errno::EEXIST)) {
            return opened;
        }
    }
    Err(Errno::EEXIST)
}

/// As [`open`]. `EEXIST` also if somebody else has made the file just now.
fn try_open(
    paths: &Paths,
    start: Option<&Place>,
    path: &[u8],
    flags: u32,
    mode: u32,
) -> Result<Arc<File>> {
    let has = |flag: u32| flags & flag == flag;
    let mut flags = flags;
    if has(abi::O_PATH) {
        flags &= abi::O_PATH | abi::O_DIRECTORY | abi::O_NOFOLLOW | abi::O_CLOEXEC;
    } else if has(abi::O_TMPFILE) {
        if flags & abi::O_ACCMODE == abi::O_RDONLY || has(abi::O_CREAT) {
            return Err(Errno::EINVAL);
        }
    } else if has(abi::O_CREAT | abi::O_DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    let has = |flag: u32| flags & flag == flag;
    let mode = mode & 0o7777 & !paths.umask();
    let stop = has(abi::O_NOFOLLOW) || has(abi::O_CREAT | abi::O_EXCL);
    let walked = paths.walk(start, path, if stop { Final::Stop } else { Final::Follow })?;
    if has(abi::O_TMPFILE) {
        return open_unnamed(walked, flags, mode);
    }
    if has(abi::O_CREAT) {
        match (&walked.last, &walked.place) {
            (Last::Name(_), Some(_)) if has(abi::O_EXCL) => return Err(Errno::EEXIST),
            (Last::Name(_), Some(place)) if place.inode.kind() == Kind::Directory => {
                return Err(Errno::EISDIR);
            }
            (Last::Name(_), _) if walked.slash => return Err(Errno::EISDIR),
            (Last::Name(name), None) => {
                check_directory(&walked.directory)?;
                crate::fs::current::admit()?;
                let new = New::Node { kind: Kind::Regular, mode, special: 0 };
                let inode = walked.directory.inode.clone().create(name, new)?;
                let hold = hold(&inode, flags)?;
                let operations = inode.clone().open(flags)?;
                let place = Place { mount: walked.directory.mount.clone(), inode };
                let name = Some((walked.directory.inode, name.clone()));
                return Ok(File::new(operations, place, name, flags, hold));
            }
            (Last::Name(_), Some(_)) => {}
            _ if has(abi::O_EXCL) => return Err(Errno::EEXIST),
            _ => return Err(Errno::EISDIR),
        }
    }
    let name = match &walked.last {
        Last::Name(name) => Some((walked.directory.inode.clone(), name.clone())),
        _ => None,
    };
    let behind = walked.file.clone();
    let place = walked.found()?;
    if has(abi::O_DIRECTORY) && place.inode.kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    let (operations, hold): (Arc<dyn Operations>, _) =
        if has(abi::O_PATH) { (Arc::new(Nothing), None) } else { open_found(&place, flags)? };
    // What a link of /proc led to has its own name, or none.
    if let Some(file) = behind {
        return Ok(File::like(&file, operations, flags, hold));
    }
    Ok(File::new(operations, place, name, flags, hold))
}

/// What keeps a file that is opened with `flags` from being executed meanwhile.
fn hold(inode: &Arc<dyn Inode>, flags: u32) -> Result<Option<Hold>> {
    let writes = flags & abi::O_ACCMODE != abi::O_RDONLY || flags & abi::O_TRUNC != 0;
    if writes && inode.kind() == Kind::Regular { Hold::writing(inode).map(Some) } else { Ok(None) }
}

/// Checks and opens a file that is there.
fn open_found(place: &Place, flags: u32) -> Result<(Arc<dyn Operations>, Option<Hold>)> {
    let access = flags & abi::O_ACCMODE;
    let mut wanted = match access {
        abi::O_RDONLY => READ,
        abi::O_WRONLY => WRITE,
        _ => READ | WRITE,
    };
    if flags & abi::O_TRUNC != 0 {
        wanted |= WRITE;
    }
    let mount_flags = place.mount.flags.load(Ordering::Relaxed);
    match place.inode.kind() {
        Kind::Symlink => return Err(Errno::ELOOP),
        Kind::Directory if wanted & WRITE != 0 => return Err(Errno::EISDIR),
        Kind::Character | Kind::Block if mount_flags & abi::MS_NODEV != 0 => {
            return Err(Errno::EACCES);
        }
        Kind::Regular if wanted & WRITE != 0 && place.mount.read_only() => {
            return Err(Errno::EROFS);
        }
        _ => {}
    }
    permission::check(&*place.inode, wanted)?;
    let hold = hold(&place.inode, flags)?;
    let operations = place.inode.clone().open(flags)?;
    if flags & abi::O_TRUNC != 0 && place.inode.kind() == Kind::Regular {
        place.inode.truncate(0)?;
    }
    Ok((operations, hold))
}

fn open_unnamed(walked: Walked, flags: u32, mode: u32) -> Result<Arc<File>> {
    let place = walked.found()?;
    if place.inode.kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    check_directory(&place)?;
    crate::fs::current::admit()?;
    let node = Node::of(&*place.inode).ok_or(Errno::EOPNOTSUPP)?.unnamed(mode);
    let number = alloc::format!("#{}", node.identity().1).into_bytes();
    let unnamed = Place { mount: place.mount, inode: node.clone() };
    Ok(File::new(node, unnamed, Some((place.inode, number)), flags, None))
}

/// A file without a name for memfd_create.
pub fn memory_file(name: &[u8], seals: u32) -> Result<Arc<File>> {
    use super::memory::Memory;
    use crate::sync::Lazy;
    static MEMORY: Lazy<Arc<Node>> = Lazy::new(|| Memory::create(abi::TMPFS_MAGIC, 0o777, 0));
    crate::fs::current::admit()?;
    let node = Node::sealable(MEMORY.memory(), 0o777, seals);
    Ok(File::with(node.clone(), node, Origin::Memory(name.to_vec()), abi::O_RDWR))
}

/// Makes a directory, a device node, a FIFO or an empty file.
///
/// # Errors
/// Those of mkdir and mknod.
pub fn make(
    paths: &Paths,
    start: Option<&Place>,
    path: &[u8],
    kind: Kind,
    mode: u32,
    special: u64,
) -> Result<()> {
    let walked = paths.walk(start, path, Final::Name)?;
    let name = vacant(&walked, kind == Kind::Directory)?;
    if matches!(kind, Kind::Character | Kind::Block) {
        permission::check_superuser()?;
    }
    crate::fs::current::admit()?;
    let mode = mode & !paths.umask();
    walked.directory.inode.clone().create(name, New::Node { kind, mode, special })?;
    Ok(())
}

/// Makes a symbolic link to `target`.
///
/// # Errors
/// Those of symlink.
pub fn make_link(paths: &Paths, start: Option<&Place>, path: &[u8], target: &[u8]) -> Result<()> {
    let walked = paths.walk(start, path, Final::Name)?;
    let name = vacant(&walked, false)?;
    crate::fs::current::admit()?;
    walked.directory.inode.clone().create(name, New::Symlink(target))?;
    Ok(())
}

/// Gives `old` a further name.
///
/// # Errors
/// Those of link.
pub fn link(paths: &Paths, old: &Place, start: Option<&Place>, path: &[u8]) -> Result<()> {
    let walked = paths.walk(start, path, Final::Name)?;
    let name = vacant(&walked, false)?;
    if !Arc::ptr_eq(&walked.directory.mount, &old.mount) {
        return Err(Errno::EXDEV);
    }
    if old.inode.kind() == Kind::Directory {
        return Err(Errno::EPERM);
    }
    crate::fs::current::admit()?;
    walked.directory.inode.clone().link(name, &old.inode)
}

/// Removes a name: a directory's exactly if `directory`.
///
/// # Errors
/// Those of unlink and rmdir.
pub fn remove(paths: &Paths, start: Option<&Place>, path: &[u8], directory: bool) -> Result<()> {
    let walked = paths.walk(start, path, Final::Name)?;
    let name = match &walked.last {
        Last::Name(name) => name,
        _ if !directory => return Err(Errno::EISDIR),
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    };
    let place = walked.place.as_ref().ok_or(Errno::ENOENT)?;
    let is_directory = place.inode.kind() == Kind::Directory;
    check_directory(&walked.directory)?;
    check_sticky(&walked.directory, &*place.inode)?;
    match (is_directory, directory) {
        (true, false) => return Err(Errno::EISDIR),
        (false, true) => return Err(Errno::ENOTDIR),
        (false, false) if walked.slash => return Err(Errno::ENOTDIR),
        _ => {}
    }
    if !Arc::ptr_eq(&place.mount, &walked.directory.mount) {
        return Err(Errno::EBUSY);
    }
    walked.directory.inode.remove(name, directory)
}

/// Moves a name.
///
/// # Errors
/// Those of renameat2.
pub fn rename(
    paths: &Paths,
    from: (Option<&Place>, &[u8]),
    to: (Option<&Place>, &[u8]),
    flags: u32,
) -> Result<()> {
    let known = abi::RENAME_NOREPLACE | abi::RENAME_EXCHANGE;
    if flags & !known != 0 || flags == known {
        return Err(Errno::EINVAL);
    }
    let old = paths.walk(from.0, from.1, Final::Name)?;
    let new = paths.walk(to.0, to.1, Final::Name)?;
    if !Arc::ptr_eq(&old.directory.mount, &new.directory.mount) {
        return Err(Errno::EXDEV);
    }
    let old_name = old.name(Errno::EBUSY)?;
    let new_name = match &new.last {
        Last::Name(name) => name,
        _ if flags & abi::RENAME_NOREPLACE != 0 => return Err(Errno::EEXIST),
        _ => return Err(Errno::EBUSY),
    };
    let place = old.place.as_ref().ok_or(Errno::ENOENT)?;
    if flags & abi::RENAME_NOREPLACE != 0 && new.place.is_some() {
        return Err(Errno::EEXIST);
    }
    if place.inode.kind() != Kind::Directory && (old.slash || new.slash && flags == 0) {
        return Err(Errno::ENOTDIR);
    }
    let covered = |walked: &Walked| {
        walked
            .place
            .as_ref()
            .is_some_and(|place| !Arc::ptr_eq(&place.mount, &walked.directory.mount))
    };
    if covered(&old) || covered(&new) {
        return Err(Errno::EBUSY);
    }
    check_directory(&old.directory)?;
    check_directory(&new.directory)?;
    check_sticky(&old.directory, &*place.inode)?;
    if let Some(replaced) = &new.place {
        check_sticky(&new.directory, &*replaced.inode)?;
    }
    old.directory.inode.clone().rename(old_name, &new.directory.inode, new_name, flags)
}
