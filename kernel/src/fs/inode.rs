//! What a file system keeps for each file, and what may be asked of it.
//!
//! An [`Inode`] knows no path: names belong to directories. An inode becomes an open file through
//! [`Inode::open`], which gives the [`Operations`](super::Operations) that read and write it.

use super::hold::Holds;
use super::seal::Seals;
use super::walk::Place;
use super::{File, Operations};
use crate::errno::{Errno, Result};
use crate::mm::Page;
use alloc::{sync::Arc, vec::Vec};
use core::any::Any;
use linux_raw_sys::general as abi;

/// Type of a file, as the top bits of its mode tell it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// Another path.
    Symlink,
    /// Named pipe.
    Fifo,
    /// Character device.
    Character,
    /// Block device.
    Block,
    /// Socket.
    Socket,
}

impl Kind {
    /// The type in `mode`; `None` if its type bits mean nothing.
    pub fn of_mode(mode: u32) -> Option<Kind> {
        Some(match mode & abi::S_IFMT {
            abi::S_IFREG => Kind::Regular,
            abi::S_IFDIR => Kind::Directory,
            abi::S_IFLNK => Kind::Symlink,
            abi::S_IFIFO => Kind::Fifo,
            abi::S_IFCHR => Kind::Character,
            abi::S_IFBLK => Kind::Block,
            abi::S_IFSOCK => Kind::Socket,
            _ => return None,
        })
    }

    /// The type bits of a mode.
    pub fn bits(self) -> u32 {
        match self {
            Kind::Regular => abi::S_IFREG,
            Kind::Directory => abi::S_IFDIR,
            Kind::Symlink => abi::S_IFLNK,
            Kind::Fifo => abi::S_IFIFO,
            Kind::Character => abi::S_IFCHR,
            Kind::Block => abi::S_IFBLK,
            Kind::Socket => abi::S_IFSOCK,
        }
    }

    /// The type byte of a directory entry: the mode's type bits, moved down.
    pub fn entry_type(self) -> u8 {
        (self.bits() >> 12) as u8
    }
}

/// Everything stat tells. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs)]
pub struct Metadata {
    pub device: u64,
    pub number: u64,
    /// Type and permission bits.
    pub mode: u32,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    /// Device number of a device node, as [`device_number`] makes it.
    pub special: u64,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub accessed: u64,
    pub modified: u64,
    pub changed: u64,
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Default, Debug)]
#[allow(missing_docs)]
pub struct Change {
    /// Permission bits only.
    pub mode: Option<u32>,
    pub user: Option<u32>,
    pub group: Option<u32>,
    pub accessed: Option<u64>,
    pub modified: Option<u64>,
}

/// What to make under a new name.
pub enum New<'a> {
    /// A file of `kind` other than a symbolic link, with permission bits and, for devices, a number.
    Node {
        /// Its type.
        kind: Kind,
        /// Permission bits.
        mode: u32,
        /// Device number.
        special: u64,
    },
    /// A symbolic link to this path.
    Symlink(&'a [u8]),
}

/// One name in a directory, as getdents reports it.
pub struct Entry<'a> {
    /// The name.
    pub name: &'a [u8],
    /// Inode number.
    pub number: u64,
    /// Type.
    pub kind: Kind,
    /// Position to go on from after this entry.
    pub next: u64,
}

/// Numbers for statfs.
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Statistics {
    pub magic: u32,
    /// In pages.
    pub blocks: u64,
    pub free_blocks: u64,
    pub files: u64,
    pub free_files: u64,
}

/// Linux's encoding of a device number.
pub const fn device_number(major: u32, minor: u32) -> u64 {
    ((minor & 0xff) | (major & 0xfff) << 8 | (minor & !0xff) << 12) as u64
}

/// Major and minor of [`device_number`].
pub const fn device_parts(number: u64) -> (u32, u32) {
    let number = number as u32;
    ((number >> 8) & 0xfff, (number & 0xff) | (number >> 12 & 0xf_ff00))
}

/// A file as a file system keeps it.
pub trait Inode: Any + Send + Sync {
    /// Reads at a byte offset; fewer bytes than asked for at the end.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL`, `EIO`.
    fn read_at(&self, _offset: u64, _into: &mut [u8]) -> Result<usize> {
        Err(match self.kind() {
            Kind::Directory => Errno::EISDIR,
            _ => Errno::EINVAL,
        })
    }

    /// The page-cache page at page index `index`, for mmap; made if it is a hole inside the file.
    ///
    /// # Errors
    /// `ENODEV` if it cannot be mapped, `ENXIO` past the end (SIGBUS), `ENOMEM`.
    fn page(&self, _index: u64) -> Result<Page> {
        Err(Errno::ENODEV)
    }

    /// Whether [`Inode::page`] can serve a mapping at all.
    fn mappable(&self) -> bool {
        false
    }

    /// Size in bytes.
    fn size(&self) -> u64 {
        self.metadata().size
    }

    /// Device and inode number, for maps and stat.
    fn identity(&self) -> (u64, u64);

    /// Type.
    fn kind(&self) -> Kind;

    /// Everything stat tells.
    fn metadata(&self) -> Metadata;

    /// Changes attributes. Permission was checked.
    ///
    /// # Errors
    /// `EPERM` where the file system fixes them.
    fn change(&self, _change: &Change) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Opens it: gives what reads and writes it. `file` flags are Linux's open flags. May sleep.
    ///
    /// # Errors
    /// `ENXIO` for a device nobody drives, `ERESTARTSYS` when a signal ended the wait of a FIFO.
    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn Operations>>;

    /// Sets the size.
    ///
    /// # Errors
    /// `EINVAL` for what has none, `EPERM` when sealed.
    fn truncate(&self, _size: u64) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// fallocate.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `ENOSPC`, `EPERM`.
    fn allocate(&self, _mode: u32, _offset: u64, _length: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// First offset from `offset` on that holds data, or with `hole` that holds none.
    ///
    /// # Errors
    /// `ENXIO` past the end.
    fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        let size = self.size();
        if offset >= size { Err(Errno::ENXIO) } else { Ok(if hole { size } else { offset }) }
    }

    /// The inode under `name`, which is neither "." nor "..".
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOENT`.
    fn lookup(self: Arc<Self>, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// A directory's own directory and its name there; `None` for a root and a removed one.
    fn location(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        None
    }

    /// Shows `each` the entries from `position` on, without "." and ".." (positions 0 and 1; the
    /// first entry of a directory is at 2), until it returns false.
    ///
    /// # Errors
    /// `ENOTDIR`.
    fn list(&self, _position: u64, _each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        Err(Errno::ENOTDIR)
    }

    /// Makes `name`.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` where nothing can be made, `ENOSPC`, `ENOENT` in a removed directory.
    fn create(self: Arc<Self>, _name: &[u8], _new: New<'_>) -> Result<Arc<dyn Inode>> {
        Err(if self.kind() == Kind::Directory { Errno::EPERM } else { Errno::ENOTDIR })
    }

    /// Gives `target` one more name.
    ///
    /// # Errors
    /// `EXDEV`, `EEXIST`, `EPERM`.
    fn link(self: Arc<Self>, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes `name`, a directory (then an empty one) exactly if `directory`.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `ENOTDIR`, `ENOTEMPTY`, `EPERM`.
    fn remove(&self, _name: &[u8], _directory: bool) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves `name` to `new_name` in `new_directory`; `flags` are renameat2's.
    ///
    /// # Errors
    /// Those of rename.
    fn rename(
        self: Arc<Self>,
        _name: &[u8],
        _new_directory: &Arc<dyn Inode>,
        _new_name: &[u8],
        _flags: u32,
    ) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// A symbolic link's text.
    ///
    /// # Errors
    /// `EINVAL` if it is none.
    fn target(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Where a link of /proc leads without any path (`/proc/self/fd/3`).
    fn jump(&self) -> Option<Result<Jump>> {
        None
    }

    /// Who writes or executes it, if that is counted.
    fn holds(&self) -> Option<&Holds> {
        None
    }

    /// Its seals, if it can have any, for mappings that write.
    fn sealing(&self) -> Option<&Seals> {
        None
    }

    /// memfd seals: `None` if it has none to give. `add` is or-ed in first.
    ///
    /// # Errors
    /// `EPERM` when sealed against sealing, `EBUSY` while mappings may write what is to be sealed.
    fn seals(&self, _add: Option<u32>) -> Result<u32> {
        Err(Errno::EINVAL)
    }

    /// For statfs.
    fn statistics(&self) -> Statistics;
}

/// Destination of a link that is not a path.
pub enum Jump {
    /// A place in the tree (`cwd`, `root`).
    Place(Place),
    /// An open file: its inode, wherever it is (`fd/N`).
    File(Arc<File>),
}
