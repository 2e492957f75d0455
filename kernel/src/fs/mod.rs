//! Files: the in-memory file system, devices, /proc, pipes, the terminal.

use crate::errno::Result;
use crate::mm::Page;
use alloc::{sync::Arc, vec::Vec};

/// A file as a file system keeps it.
pub trait Inode: Send + Sync {
    /// Reads at a byte offset; fewer bytes than asked for at the end.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL`, `EIO`.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize>;

    /// The page-cache page at page index `index`, for mmap; made if it is a hole inside the file.
    ///
    /// # Errors
    /// `ENODEV` if it cannot be mapped, `ENXIO` past the end (SIGBUS), `ENOMEM`.
    fn page(&self, index: u64) -> Result<Page>;

    /// Size in bytes.
    fn size(&self) -> u64;

    /// Device and inode number, for maps and stat.
    fn identity(&self) -> (u64, u64);
}

/// An open file description.
pub struct File;

impl File {
    /// The inode behind it, if it can be mapped or executed.
    pub fn inode(&self) -> Option<Arc<dyn Inode>> {
        todo!()
    }
    /// Whether it was opened for reading, and for writing.
    pub fn modes(&self) -> (bool, bool) {
        todo!()
    }
    /// Its path, for /proc/PID/maps.
    pub fn path(&self) -> Vec<u8> {
        todo!()
    }
}

/// A process's descriptors.
pub struct FileTable;

impl FileTable {
    /// The open file behind descriptor `fd`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, _fd: u32) -> Result<Arc<File>> {
        todo!()
    }
    /// A copy that shares the open files (fork).
    pub fn fork(&self) -> Arc<FileTable> {
        todo!()
    }
    /// Closes what is marked close-on-exec.
    pub fn close_on_exec(&self) {
        todo!()
    }
    /// The descriptors of process 1: the console thrice.
    pub fn console() -> Arc<FileTable> {
        todo!()
    }
}

/// Root directory, working directory and umask.
pub struct Paths;

impl Paths {
    /// A copy (fork).
    pub fn fork(&self) -> Arc<Paths> {
        todo!()
    }
    /// Those of process 1.
    pub fn root() -> Arc<Paths> {
        todo!()
    }
    /// Opens a file to execute; checks type and execute permission.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`.
    pub fn open_executable(&self, _path: &[u8]) -> Result<Arc<dyn Inode>> {
        todo!()
    }
}

/// Unpacks the initramfs (newc cpio, plain or gzip, several concatenated) into the root.
///
/// # Errors
/// A sentence for the console: what is wrong and where.
pub fn unpack(_image: &[u8]) -> core::result::Result<(), alloc::string::String> {
    todo!()
}

/// A byte from the serial line (called from its interrupt).
pub fn terminal_input(_byte: u8) {
    todo!()
}

/// Kernel command line, for /proc/cmdline.
pub static COMMAND_LINE: crate::sync::Once<Vec<u8>> = crate::sync::Once::new();
/// The isolation's word for /sys.
pub static MELTDOWN: crate::sync::Once<alloc::string::String> = crate::sync::Once::new();
