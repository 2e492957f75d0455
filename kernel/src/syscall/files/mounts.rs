//! mount and umount2.

use super::arguments::path;
use crate::errno::{Errno, Result};
use crate::fs::inode::Kind;
use crate::fs::memory::Node;
use crate::fs::mount::{self, KEPT};
use crate::fs::mount_types::{self, Options};
use crate::fs::walk::{Final, Place};
use crate::fs::{current, permission};
use crate::user;
use alloc::{string::String, vec::Vec};
use core::sync::atomic::Ordering;
use linux_raw_sys::general as abi;
use ringwall::Frame;

/// A string argument that may be missing.
fn optional(address: u64) -> Result<Vec<u8>> {
    if address == 0 { Ok(Vec::new()) } else { path(address) }
}

/// The data argument: at most a page, which need not be a string for all types.
fn data(address: u64) -> Result<Vec<u8>> {
    if address == 0 {
        return Ok(Vec::new());
    }
    match user::read_string(address, 4095) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        other => other,
    }
}

fn find(path: &[u8]) -> Result<Place> {
    current::paths().walk(None, path, Final::Follow)?.found()
}

pub fn mount(frame: &mut Frame) -> Result<usize> {
    let (kind, source) = (optional(frame.rdx())?, optional(frame.rdi())?);
    let data = data(frame.r8())?;
    let target = find(&path(frame.rsi())?)?;
    permission::check_superuser()?;
    let mut flags = frame.r10() as u32;
    if flags & abi::MS_MGC_MSK == abi::MS_MGC_VAL {
        flags &= !abi::MS_MGC_MSK;
    }
    let propagation = abi::MS_SHARED | abi::MS_PRIVATE | abi::MS_SLAVE | abi::MS_UNBINDABLE;
    if flags & abi::MS_REMOUNT != 0 {
        return remount(&target, flags, &data);
    }
    if flags & abi::MS_BIND != 0 {
        let from = find(&source)?;
        if from.inode.kind() != target.inode.kind() {
            return Err(Errno::ENOTDIR);
        }
        let options = from.mount.options.read().clone();
        let kept = from.mount.flags.load(Ordering::Relaxed);
        let (name, kind) = (from.mount.source.clone(), from.mount.kind);
        current::admit()?;
        mount::add(&name, kind, from.inode, target, kept, options)?;
        return Ok(0);
    }
    if flags & propagation != 0 {
        // Nothing propagates here, whatever is asked for.
        return if is_top(&target) { Ok(0) } else { Err(Errno::EINVAL) };
    }
    if flags & abi::MS_MOVE != 0 {
        mount::relocate(&find(&source)?, target)?;
        return Ok(0);
    }
    if kind.is_empty() {
        return Err(Errno::EINVAL);
    }
    let kind = mount_types::find(&kind)?;
    let options = Options::parse(&data)?;
    if target.inode.kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    current::admit()?;
    let (root, text) = (kind.create)(&options);
    if is_top(&target) && root.identity() == target.inode.identity() {
        return Err(Errno::EBUSY);
    }
    let source = if source.is_empty() { b"none".to_vec() } else { source };
    let source = String::from_utf8_lossy(&source).into_owned();
    mount::add(&source, kind.name, root, target, flags, text)?;
    Ok(0)
}

fn is_top(place: &Place) -> bool {
    place.inode.identity() == place.mount.root.identity()
}

fn remount(target: &Place, flags: u32, data: &[u8]) -> Result<usize> {
    if !is_top(target) {
        return Err(Errno::EINVAL);
    }
    let options = Options::parse(data)?;
    if let Some(size) = options.size()
        && flags & abi::MS_BIND == 0
        && let Some(node) = Node::of(&*target.mount.root)
    {
        node.memory().set_limit(size);
        *target.mount.options.write() = alloc::format!("size={}k", size * 4);
    }
    target.mount.flags.store(flags & KEPT, Ordering::Relaxed);
    if flags & abi::MS_BIND == 0 {
        // Read-only is the whole file system's affair, wherever else it is mounted.
        let device = target.inode.identity().0;
        for other in mount::all().iter().filter(|other| other.root.identity().0 == device) {
            let _ = other.flags.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
                Some(kept & !abi::MS_RDONLY | flags & abi::MS_RDONLY)
            });
        }
    }
    Ok(0)
}

pub fn unmount(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rsi() as u32;
    let known = abi::MNT_FORCE | abi::MNT_DETACH | abi::MNT_EXPIRE | abi::UMOUNT_NOFOLLOW;
    let expires = flags & abi::MNT_EXPIRE != 0;
    if flags & !known != 0 || expires && flags & (abi::MNT_FORCE | abi::MNT_DETACH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = path(frame.rdi())?;
    let end = if flags & abi::UMOUNT_NOFOLLOW != 0 { Final::Stop } else { Final::Follow };
    let place = current::paths().walk(None, &path, end)?.found()?;
    permission::check_superuser()?;
    mount::remove(&place, flags & abi::MNT_DETACH != 0)?;
    Ok(0)
}

/// Refused as Linux refuses it for a root that lies in the initramfs.
pub fn pivot_root(frame: &mut Frame) -> Result<usize> {
    permission::check_superuser()?;
    find(&path(frame.rdi())?)?;
    find(&path(frame.rsi())?)?;
    Err(Errno::EINVAL)
}
