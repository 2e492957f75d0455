//! Reading the arguments that file calls share.

use crate::errno::{Errno, Result};
use crate::fs::inode::Kind;
use crate::fs::walk::{Final, PATH_MAX, Place};
use crate::fs::{File, current};
use crate::user;
use alloc::{sync::Arc, vec::Vec};
use linux_raw_sys::general as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// struct timespec.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanoseconds: i64,
}

impl Timespec {
    /// A time of day or a span as Linux accepts it, in nanoseconds.
    ///
    /// # Errors
    /// `EINVAL` for a negative time or a fraction that is none.
    pub fn to_nanoseconds(self) -> Result<u64> {
        if self.seconds < 0 || !(0..1_000_000_000).contains(&self.nanoseconds) {
            return Err(Errno::EINVAL);
        }
        let whole = (self.seconds as u64).saturating_mul(1_000_000_000);
        Ok(whole.saturating_add(self.nanoseconds as u64))
    }
}

/// The open file behind a descriptor argument.
#[inline(always)]
pub fn file(fd: u64) -> Result<Arc<File>> {
    current::files().get(fd as u32)
}

/// A path argument.
///
/// # Errors
/// `EFAULT`, `ENAMETOOLONG`.
pub fn path(address: u64) -> Result<Vec<u8>> {
    user::read_string(address, PATH_MAX - 1)
}

/// The place that a directory descriptor stands for; `None` for the working directory and where
/// `path` is absolute.
///
/// # Errors
/// `EBADF`, `ENOTDIR`.
pub fn start(fd: u64, path: &[u8]) -> Result<Option<Place>> {
    if fd as i32 == abi::AT_FDCWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    let place = file(fd)?.place().ok_or(Errno::ENOTDIR)?;
    if !path.is_empty() && place.inode.kind() != Kind::Directory {
        return Err(Errno::ENOTDIR);
    }
    Ok(Some(place))
}

/// What an *at call's descriptor, path and flags name: an inode, and its place if it has one.
pub struct Target {
    /// The inode.
    pub inode: Arc<dyn crate::fs::Inode>,
    /// Where it is.
    pub place: Option<Place>,
}

impl Target {
    /// That of an open file.
    pub fn of(file: &Arc<File>) -> Target {
        Target { inode: file.inode().clone(), place: file.place() }
    }

    /// Whether it is on a mount that must not change.
    ///
    /// # Errors
    /// `EROFS`.
    pub fn check_writable(&self) -> Result<()> {
        match &self.place {
            Some(place) if place.mount.read_only() => Err(Errno::EROFS),
            _ => Ok(()),
        }
    }
}

/// Finds what `fd`, the path at `address` and `flags` (`AT_SYMLINK_NOFOLLOW`, `AT_EMPTY_PATH`) name.
///
/// # Errors
/// Those of a walk, `EBADF`, `EFAULT`.
pub fn target(fd: u64, address: u64, flags: u32) -> Result<Target> {
    let path = path(address)?;
    if path.is_empty() && flags & abi::AT_EMPTY_PATH != 0 {
        if fd as i32 == abi::AT_FDCWD {
            let place = current::paths().working();
            return Ok(Target { inode: place.inode.clone(), place: Some(place) });
        }
        return Ok(Target::of(&file(fd)?));
    }
    let end = if flags & abi::AT_SYMLINK_NOFOLLOW != 0 { Final::Stop } else { Final::Follow };
    let start = start(fd, &path)?;
    let walked = current::paths().walk(start.as_ref(), &path, end)?;
    let place = walked.found()?;
    Ok(Target { inode: place.inode.clone(), place: Some(place) })
}

/// `AT_FDCWD` as an argument register holds it.
pub const WORKING: u64 = abi::AT_FDCWD as u64;

/// The deadline of a wait: an optional span in nanoseconds from now.
pub fn deadline(span: Option<u64>) -> Option<u64> {
    span.map(|span| crate::time::now().saturating_add(span))
}
