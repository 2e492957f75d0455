//! Moving names.
//!
//! One rename at a time, so that the tree above two directories stands still while it is decided
//! whether one is inside the other.

use super::directory::{Names, bury};
use super::node::Node;
use crate::errno::{Errno, Result};
use crate::fs::inode::{Inode, Kind};
use crate::sync::{Mutex, MutexGuard};
use alloc::sync::Arc;
use linux_raw_sys::general::{RENAME_EXCHANGE, RENAME_NOREPLACE};

/// Locked before any directory.
static RENAMING: Mutex<()> = Mutex::new(());

/// Both directories' names, locked in order; the second is `None` if they are one. No rename goes
/// on elsewhere.
fn lock_both<'a>(
    first: &'a Arc<Node>,
    second: &'a Arc<Node>,
) -> Result<(MutexGuard<'a, Names>, Option<MutexGuard<'a, Names>>)> {
    let (one, two) = (&first.directory()?.0, &second.directory()?.0);
    if core::ptr::eq(one, two) {
        return Ok((one.lock(), None));
    }
    let in_order = if contains(first, second) {
        true
    } else if contains(second, first) {
        false
    } else {
        core::ptr::from_ref(one) < core::ptr::from_ref(two)
    };
    if in_order {
        let guard = one.lock();
        Ok((guard, Some(two.lock())))
    } else {
        let guard = two.lock();
        Ok((one.lock(), Some(guard)))
    }
}

/// Whether `inner` is `outer` or inside it.
fn contains(outer: &Arc<Node>, inner: &Arc<Node>) -> bool {
    let mut at = inner.clone();
    loop {
        if Arc::ptr_eq(outer, &at) {
            return true;
        }
        let Ok(directory) = at.directory() else { return false };
        let parent = directory.0.lock().place.as_ref().and_then(|(parent, _)| parent.upgrade());
        match parent {
            Some(parent) => at = parent,
            None => return false,
        }
    }
}

/// Moves `name` of `from` to `new_name` of `to`, both of one file system.
///
/// # Errors
/// `ENOENT`, `EEXIST` and `EINVAL` by `flags`, `EINVAL` into itself, `EISDIR`, `ENOTDIR`,
/// `ENOTEMPTY`.
pub fn rename(
    from: &Arc<Node>,
    name: &[u8],
    to: &Arc<Node>,
    new_name: &[u8],
    flags: u32,
) -> Result<()> {
    let _one_at_a_time = RENAMING.lock();
    let node = from.directory()?.get(name).ok_or(Errno::ENOENT)?;
    let old = to.directory()?.get(new_name);
    if node.kind() == Kind::Directory && contains(&node, to) {
        return Err(Errno::EINVAL);
    }
    if let Some(old) = &old
        && old.kind() == Kind::Directory
        && contains(old, from)
    {
        return Err(if flags & RENAME_EXCHANGE != 0 { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    let (mut first, mut second) = lock_both(from, to)?;
    // Between the look and the locks somebody may have removed either; look again.
    let same = |names: &Names, name: &[u8], node: &Arc<Node>| {
        names.get(name).is_some_and(|found| Arc::ptr_eq(found, node))
    };
    if !same(&first, name, &node) {
        return Err(Errno::ENOENT);
    }
    let target = second.as_deref_mut().unwrap_or(&mut first);
    if target.removed {
        return Err(Errno::ENOENT);
    }
    if flags & RENAME_EXCHANGE != 0 {
        let old = target.get(new_name).ok_or(Errno::ENOENT)?.clone();
        target.take(new_name);
        first.take(name);
        put(from, &mut first, name, old.clone());
        put(to, second.as_deref_mut().unwrap_or(&mut first), new_name, node.clone());
        if !Arc::ptr_eq(from, to) {
            move_link(&node, from, to);
            move_link(&old, to, from);
        }
        return Ok(());
    }
    if let Some(old) = target.get(new_name).cloned() {
        if flags & RENAME_NOREPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        if Arc::ptr_eq(&old, &node) {
            return Ok(());
        }
        match (node.kind() == Kind::Directory, old.kind() == Kind::Directory) {
            (true, false) => return Err(Errno::ENOTDIR),
            (false, true) => return Err(Errno::EISDIR),
            _ => {}
        }
        bury(&old)?;
        target.take(new_name);
        if old.kind() == Kind::Directory {
            to.attributes.lock().links -= 1;
        }
    }
    first.take(name);
    put(to, second.as_deref_mut().unwrap_or(&mut first), new_name, node.clone());
    if !Arc::ptr_eq(from, to) {
        move_link(&node, from, to);
    }
    from.attributes.lock().touch();
    to.attributes.lock().touch();
    node.attributes.lock().changed = crate::time::realtime();
    Ok(())
}

/// Enters `node` and, if it is a directory, tells it where it is.
fn put(own: &Arc<Node>, names: &mut Names, name: &[u8], node: Arc<Node>) {
    let name: Arc<[u8]> = name.into();
    if let Ok(directory) = node.directory() {
        directory.0.lock().place = Some((Arc::downgrade(own), name.clone()));
    }
    names.add(name, node);
}

/// A directory's ".." counts as a link of the directory above it.
fn move_link(node: &Arc<Node>, from: &Arc<Node>, to: &Arc<Node>) {
    if node.kind() == Kind::Directory {
        from.attributes.lock().links -= 1;
        to.attributes.lock().links += 1;
    }
}
