//! Which file system covers which directory.
//!
//! ```text
//! root mount (no parent) <- mount on its /proc <- mount on the other's ...
//! ```
//!
//! A mount covers one directory of another mount; the walk goes down through the newest mount on a
//! directory and `..` of a mount's root goes back up. Everything is found in one short list.

use super::inode::Inode;
use super::memory::Memory;
use super::walk::Place;
use crate::errno::{Errno, Result};
use crate::sync::{Lazy, RwLock};
use alloc::{string::String, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general::{
    MS_NOATIME, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_RELATIME, MS_SYNCHRONOUS, TMPFS_MAGIC,
};

/// A file system in the tree.
pub struct Mount {
    /// Number, for statx and mountinfo.
    pub number: u64,
    /// Its root.
    pub root: Arc<dyn Inode>,
    /// The directory it covers; `None` for the first one.
    pub covers: Option<Place>,
    /// Type as /proc/mounts shows it.
    pub kind: &'static str,
    /// What the caller named as the device.
    pub source: String,
    /// Options of the type, as /proc/mounts shows them after the flags ("size=...").
    pub options: RwLock<String>,
    /// `MS_` flags.
    pub flags: AtomicU32,
}

/// Flags that a mount keeps.
pub const KEPT: u32 =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_RELATIME | MS_SYNCHRONOUS;

/// Most mounts at a time.
const MOST: usize = 1000;

/// All but the first mount, oldest first. Locked last, for moments.
static MOUNTS: RwLock<Vec<Arc<Mount>>> = RwLock::new(Vec::new());

static ROOT: Lazy<Arc<Mount>> = Lazy::new(|| {
    let limit = Memory::half_of_memory();
    let options = alloc::format!("size={}k,nr_inodes={},inode64", limit * 4, limit);
    Arc::new(new("rootfs", "rootfs", Memory::create(TMPFS_MAGIC, 0o755, limit), None, 0, options))
});

fn new(
    source: &str,
    kind: &'static str,
    root: Arc<dyn Inode>,
    covers: Option<Place>,
    flags: u32,
    options: String,
) -> Mount {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Mount {
        number: NEXT.fetch_add(1, Ordering::Relaxed),
        root,
        covers,
        kind,
        source: source.into(),
        options: RwLock::new(options),
        flags: AtomicU32::new(flags & KEPT),
    }
}

/// The first mount: the root file system.
pub fn root() -> &'static Arc<Mount> {
    &ROOT
}

impl Mount {
    /// Whether nothing may be changed through it.
    pub fn read_only(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & MS_RDONLY != 0
    }

    /// Its root as a place.
    pub fn top(self: &Arc<Mount>) -> Place {
        Place { mount: self.clone(), inode: self.root.clone() }
    }
}

/// The newest mount that covers exactly `place`.
pub fn covering(place: &Place) -> Option<Arc<Mount>> {
    let mounts = MOUNTS.read();
    let identity = if mounts.is_empty() { return None } else { place.inode.identity() };
    mounts
        .iter()
        .rev()
        .find(|mount| {
            mount.covers.as_ref().is_some_and(|covers| {
                Arc::ptr_eq(&covers.mount, &place.mount) && covers.inode.identity() == identity
            })
        })
        .cloned()
}

/// All mounts, oldest first.
pub fn all() -> Vec<Arc<Mount>> {
    let mut all = Vec::new();
    all.push(root().clone());
    all.extend(MOUNTS.read().iter().cloned());
    all
}

/// Puts `root` over `covers`.
///
/// # Errors
/// `ENOSPC` if there are too many.
pub fn add(
    source: &str,
    kind: &'static str,
    root: Arc<dyn Inode>,
    covers: Place,
    flags: u32,
    options: String,
) -> Result<()> {
    let mount = Arc::new(new(source, kind, root, Some(covers), flags, options));
    let mut mounts = MOUNTS.write();
    if mounts.len() >= MOST {
        drop(mounts);
        return Err(Errno::ENOSPC);
    }
    mounts.push(mount);
    Ok(())
}

impl Drop for Mount {
    /// Mounts can be stacked higher than a stack is deep: one after the other, not one in the other.
    fn drop(&mut self) {
        let mut next = self.covers.take();
        while let Some(place) = next {
            next = Arc::into_inner(place.mount).and_then(|mut below| below.covers.take());
        }
    }
}

/// Takes the mount away whose root `place` is. `lazily`: even if it is in use.
///
/// # Errors
/// `EINVAL` if `place` is not a mount's root; `EBUSY` if something is mounted inside or open.
pub fn remove(place: &Place, lazily: bool) -> Result<()> {
    let mount = &place.mount;
    if place.inode.identity() != mount.root.identity() || mount.covers.is_none() {
        return Err(Errno::EINVAL);
    }
    let inside = |inner: &Arc<Mount>| {
        inner.covers.as_ref().is_some_and(|covers| Arc::ptr_eq(&covers.mount, mount))
    };
    let mut mounts = MOUNTS.write();
    // The list, the caller's place: any further handle is an open file, a directory or a mount.
    if !lazily && (mounts.iter().any(inside) || Arc::strong_count(mount) > 2) {
        return Err(Errno::EBUSY);
    }
    let at = mounts.iter().position(|one| Arc::ptr_eq(one, mount)).ok_or(Errno::EINVAL)?;
    let mut gone = Vec::new();
    gone.push(mounts.remove(at));
    // A lazy unmount takes what is mounted inside along.
    let mut next = 0;
    while next < gone.len() {
        let outer = gone[next].clone();
        let is_inside = |inner: &Arc<Mount>| {
            inner.covers.as_ref().is_some_and(|covers| Arc::ptr_eq(&covers.mount, &outer))
        };
        while let Some(at) = mounts.iter().position(is_inside) {
            gone.push(mounts.remove(at));
        }
        next += 1;
    }
    drop(mounts);
    Ok(())
}

/// Moves the mount whose root `place` is to `target`.
///
/// # Errors
/// `EINVAL` if it is none; `ELOOP` if the target is inside it.
pub fn relocate(place: &Place, target: Place) -> Result<()> {
    let mount = &place.mount;
    if place.inode.identity() != mount.root.identity() || mount.covers.is_none() {
        return Err(Errno::EINVAL);
    }
    let mut at = Some(target.mount.clone());
    while let Some(outer) = at {
        if Arc::ptr_eq(&outer, mount) {
            return Err(Errno::ELOOP);
        }
        at = outer.covers.as_ref().map(|covers| covers.mount.clone());
    }
    // Mounts are found by handle, so the moved one stays the same to whoever uses it only through
    // a new handle: what is mounted inside must be moved to that too.
    let options = mount.options.read().clone();
    let flags = mount.flags.load(Ordering::Relaxed);
    let moved =
        Arc::new(new(&mount.source, mount.kind, mount.root.clone(), Some(target), flags, options));
    let mut mounts = MOUNTS.write();
    let inside = mounts
        .iter()
        .any(|inner| inner.covers.as_ref().is_some_and(|covers| Arc::ptr_eq(&covers.mount, mount)));
    if inside {
        return Err(Errno::EBUSY);
    }
    let slot = mounts.iter().position(|one| Arc::ptr_eq(one, mount)).ok_or(Errno::EINVAL)?;
    let old = core::mem::replace(&mut mounts[slot], moved);
    drop(mounts);
    drop(old);
    Ok(())
}
