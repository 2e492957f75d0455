//! Who may do what: owner, group and mode against the current process.

use super::current::{self, Identity};
use super::inode::{Inode, Kind, Metadata};
use crate::errno::{Errno, Result};

/// May be read.
pub const READ: u32 = 4;
/// May be written.
pub const WRITE: u32 = 2;
/// May be executed, or searched if it is a directory.
pub const EXECUTE: u32 = 1;

/// User and group that own what the current process makes.
pub fn creator() -> (u32, u32) {
    let Identity { user, group } = current::identity(false);
    (user, group)
}

/// Which bits of a file's mode count for a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// All, and more: the superuser.
    Superuser,
    /// The owner's.
    Owner,
    /// The group's.
    Group,
    /// Everybody's.
    Other,
}

/// Whether a process of `class` has all of `wanted` on a file with `mode`.
pub fn allowed(mode: u32, wanted: u32, class: Class) -> bool {
    let granted = match class {
        // The superuser needs an execute bit somewhere to execute, and nothing else.
        Class::Superuser if Kind::of_mode(mode) == Some(Kind::Directory) => READ | WRITE | EXECUTE,
        Class::Superuser if mode & 0o111 != 0 => READ | WRITE | EXECUTE,
        Class::Superuser => READ | WRITE,
        Class::Owner => mode >> 6,
        Class::Group => mode >> 3,
        Class::Other => mode,
    };
    granted & wanted == wanted
}

fn class(metadata: &Metadata, identity: Identity) -> Class {
    if identity.user == 0 {
        Class::Superuser
    } else if metadata.user == identity.user {
        Class::Owner
    } else if metadata.group == identity.group || current::has_group(metadata.group) {
        Class::Group
    } else {
        Class::Other
    }
}

/// Checks that the current process has all of `wanted` on `inode`.
///
/// # Errors
/// `EACCES`.
#[inline]
pub fn check(inode: &dyn Inode, wanted: u32) -> Result<()> {
    check_as(inode, wanted, false)
}

/// As [`check`], for the real user and group if `real` (access).
///
/// # Errors
/// `EACCES`.
pub fn check_as(inode: &dyn Inode, wanted: u32, real: bool) -> Result<()> {
    let identity = current::identity(real);
    if identity.user == 0 && (wanted & EXECUTE == 0 || inode.kind() == Kind::Directory) {
        return Ok(());
    }
    let metadata = inode.metadata();
    let allowed = allowed(metadata.mode, wanted, class(&metadata, identity));
    if allowed { Ok(()) } else { Err(Errno::EACCES) }
}

/// Checks that the current process owns `inode` or is the superuser.
///
/// # Errors
/// `EPERM`.
pub fn check_owner(inode: &dyn Inode) -> Result<()> {
    let Identity { user, .. } = current::identity(false);
    if user == 0 || inode.metadata().user == user { Ok(()) } else { Err(Errno::EPERM) }
}

/// Checks that the current process is the superuser.
///
/// # Errors
/// `EPERM`.
pub fn check_superuser() -> Result<()> {
    if current::identity(false).user == 0 { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether the current process is in `group`.
pub fn in_group(group: u32) -> bool {
    let identity = current::identity(false);
    identity.user == 0 || identity.group == group || current::has_group(group)
}
