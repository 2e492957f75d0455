//! Who may do what: owner, group and mode against the current process.

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
    (0, 0)
}

/// Whether user `user` with group `group` has all of `wanted` on a file.
pub fn allowed(metadata: &Metadata, wanted: u32, user: u32, group: u32) -> bool {
    if user == 0 {
        // The superuser needs an execute bit somewhere to execute, and nothing else.
        let directory = Kind::of_mode(metadata.mode) == Some(Kind::Directory);
        return wanted & EXECUTE == 0 || directory || metadata.mode & 0o111 != 0;
    }
    let granted = if metadata.user == user {
        metadata.mode >> 6
    } else if metadata.group == group {
        metadata.mode >> 3
    } else {
        metadata.mode
    };
    granted & wanted == wanted
}

/// Checks that the current process has all of `wanted` on `inode`.
///
/// # Errors
/// `EACCES`.
pub fn check(inode: &dyn Inode, wanted: u32) -> Result<()> {
    let (user, group) = creator();
    if user == 0 && wanted & EXECUTE == 0 {
        return Ok(());
    }
    if allowed(&inode.metadata(), wanted, user, group) { Ok(()) } else { Err(Errno::EACCES) }
}

/// Checks that the current process owns `inode` or is the superuser.
///
/// # Errors
/// `EPERM`.
pub fn check_owner(inode: &dyn Inode) -> Result<()> {
    let (user, _) = creator();
    if user == 0 || inode.metadata().user == user { Ok(()) } else { Err(Errno::EPERM) }
}

/// Checks that the current process is the superuser.
///
/// # Errors
/// `EPERM`.
pub fn check_superuser() -> Result<()> {
    if creator().0 == 0 { Ok(()) } else { Err(Errno::EPERM) }
}

/// As [`check`], with the real user and group if `real` (access).
///
/// # Errors
/// `EACCES`.
pub fn check_as(inode: &dyn Inode, wanted: u32, _real: bool) -> Result<()> {
    check(inode, wanted)
}

/// Whether the current process is in `group`.
pub fn in_group(group: u32) -> bool {
    let (user, own) = creator();
    user == 0 || own == group
}
