//! Open files.
//!
//! ```text
//! descriptor -> File (flags, position) -> Operations (reads and writes)
//!                                     \-> Inode (attributes) -> names are the directory's
//! ```

use super::hold::Hold;
use super::inode::{Inode, Kind};
use super::transfer::{Sink, Source};
use super::turn::Turn;
use super::walk::{self, Place};
use crate::errno::{Errno, Result};
use crate::sync::WaitQueue;
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as abi;

/// What poll reports of a file that never blocks.
pub const ALWAYS_READY: u32 = abi::POLLIN | abi::POLLOUT | abi::POLLRDNORM | abi::POLLWRNORM;

/// What an open file does. A stream ignores the position.
pub trait Operations: Send + Sync {
    /// Reads at `at` and advances it.
    ///
    /// # Errors
    /// Those of read.
    fn read(&self, file: &File, at: &mut u64, sink: &mut Sink<'_>) -> Result<usize>;

    /// Writes at `at` and advances it.
    ///
    /// # Errors
    /// Those of write.
    fn write(&self, file: &File, at: &mut u64, source: &mut Source<'_>) -> Result<usize>;

    /// Whether it has a position (else lseek and pread give `ESPIPE`). It is asked once.
    fn seekable(&self) -> bool {
        false
    }

    /// Whether lseek succeeds without any effect, as on /dev/null.
    fn devours_seeks(&self) -> bool {
        false
    }

    /// What poll reports now.
    fn poll(&self, _file: &File) -> u32 {
        ALWAYS_READY
    }

    /// The queues that are woken when [`Operations::poll`] may report more.
    fn queues(&self, _file: &File) -> [Option<&WaitQueue>; 2] {
        [None, None]
    }

    /// Changes with every arrival of data or room: how edge-triggered epoll tells them apart.
    fn activity(&self) -> u32 {
        0
    }

    /// ioctl.
    ///
    /// # Errors
    /// `ENOTTY` for what it does not know.
    fn control(&self, _file: &File, _request: u32, _argument: u64) -> Result<usize> {
        Err(Errno::ENOTTY)
    }

    /// The last descriptor of this open file was closed.
    fn released(&self, _flags: u32) {}

    /// The pipe, if it is one.
    fn pipe(&self) -> Option<&super::pipe::Pipe> {
        None
    }

    /// The epoll instance, if it is one.
    fn epoll(&self) -> Option<&super::epoll::Epoll> {
        None
    }
}

/// How an open file came to be.
#[derive(Clone)]
pub enum Origin {
    /// By path: mount, directory (`None` for a mount's root) and name.
    Path(Place, Option<(Arc<dyn Inode>, Vec<u8>)>),
    /// Without one: what /proc/self/fd shows; after a colon, the inode number is put.
    Nameless(&'static str),
    /// By memfd_create, with this name.
    Memory(Vec<u8>),
}

/// An open file description.
pub struct File {
    operations: Arc<dyn Operations>,
    inode: Arc<dyn Inode>,
    origin: Origin,
    flags: AtomicU32,
    position: AtomicU64,
    moving: Turn,
    /// Whether it has a position: what its operations say of it.
    seekable: bool,
    /// What it keeps others from doing to the inode while it is open.
    _hold: Option<Hold>,
}

/// Flags that fcntl can change.
pub const CHANGEABLE: u32 = abi::O_APPEND | abi::O_NONBLOCK | abi::O_DIRECT | abi::O_NOATIME;

impl File {
    /// A file opened by path.
    pub fn new(
        operations: Arc<dyn Operations>,
        place: Place,
        name: Option<(Arc<dyn Inode>, Vec<u8>)>,
        flags: u32,
        hold: Option<Hold>,
    ) -> Arc<File> {
        let inode = place.inode.clone();
        File::holding(operations, inode, Origin::Path(place, name), flags, hold)
    }

    /// A file that no path names: a pipe's end, a memfd.
    pub fn with(
        operations: Arc<dyn Operations>,
        inode: Arc<dyn Inode>,
        origin: Origin,
        flags: u32,
    ) -> Arc<File> {
        File::holding(operations, inode, origin, flags, None)
    }

    fn holding(
        operations: Arc<dyn Operations>,
        inode: Arc<dyn Inode>,
        origin: Origin,
        flags: u32,
        hold: Option<Hold>,
    ) -> Arc<File> {
        let kept = !(abi::O_CREAT | abi::O_EXCL | abi::O_NOCTTY | abi::O_TRUNC | abi::O_CLOEXEC);
        Arc::new(File {
            seekable: operations.seekable(),
            operations,
            inode,
            origin,
            flags: AtomicU32::new(flags & kept),
            position: AtomicU64::new(0),
            moving: Turn::new(),
            _hold: hold,
        })
    }

    /// A second opening of what `other` has open, by its link in /proc.
    pub fn like(
        other: &File,
        operations: Arc<dyn Operations>,
        flags: u32,
        hold: Option<Hold>,
    ) -> Arc<File> {
        File::holding(operations, other.inode.clone(), other.origin.clone(), flags, hold)
    }

    /// The inode behind it.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The inode behind it, if it can be mapped.
    pub fn mappable(&self) -> Option<Arc<dyn Inode>> {
        self.inode.mappable().then(|| self.inode.clone())
    }

    /// The file as a running program holds it: nobody writes it meanwhile.
    ///
    /// # Errors
    /// `EACCES` if it cannot be executed, `ETXTBSY` if it is being written.
    pub fn for_execution(&self) -> Result<Arc<File>> {
        let allowed = self
            .place()
            .is_none_or(|place| place.mount.flags.load(Ordering::Relaxed) & abi::MS_NOEXEC == 0);
        if self.inode.kind() != Kind::Regular || !allowed {
            return Err(Errno::EACCES);
        }
        super::permission::check(&*self.inode, super::permission::EXECUTE)?;
        let hold = Hold::executing(&self.inode)?;
        Ok(File::like(self, self.operations.clone(), abi::O_PATH, Some(hold)))
    }

    /// What it does.
    pub fn operations(&self) -> &dyn Operations {
        &*self.operations
    }

    /// Whether it has a position.
    pub fn seekable(&self) -> bool {
        self.seekable
    }

    /// Open flags.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Changes those of [`CHANGEABLE`].
    pub fn set_flags(&self, flags: u32) {
        let kept = self.flags() & !CHANGEABLE;
        self.flags.store(kept | flags & CHANGEABLE, Ordering::Relaxed);
    }

    /// Whether a call must not wait.
    #[inline]
    pub fn nonblocking(&self) -> bool {
        self.flags() & abi::O_NONBLOCK != 0
    }

    /// Whether every write goes to the end.
    #[inline]
    pub fn appends(&self) -> bool {
        self.flags() & abi::O_APPEND != 0
    }

    /// Whether it was opened for reading, and for writing.
    #[inline]
    pub fn modes(&self) -> (bool, bool) {
        let flags = self.flags();
        if flags & abi::O_PATH != 0 {
            return (false, false);
        }
        let access = flags & abi::O_ACCMODE;
        (
            access == abi::O_RDONLY || access == abi::O_RDWR,
            access == abi::O_WRONLY || access == abi::O_RDWR,
        )
    }

    /// Reads at the position, and moves it.
    ///
    /// # Errors
    /// `EBADF` if it is not open for reading; what the file reports.
    #[inline]
    pub fn read(&self, sink: &mut Sink<'_>) -> Result<usize> {
        if !self.modes().0 {
            return Err(Errno::EBADF);
        }
        if !self.seekable {
            return self.operations.read(self, &mut 0, sink);
        }
        let _moving = self.moving.take()?;
        let mut at = self.position.load(Ordering::Relaxed);
        let result = self.operations.read(self, &mut at, sink);
        self.position.store(at, Ordering::Relaxed);
        result
    }

    /// Writes at the position, and moves it.
    ///
    /// # Errors
    /// `EBADF` if it is not open for writing; what the file reports.
    #[inline]
    pub fn write(&self, source: &mut Source<'_>) -> Result<usize> {
        if !self.modes().1 {
            return Err(Errno::EBADF);
        }
        if !self.seekable {
            return self.operations.write(self, &mut 0, source);
        }
        let _moving = self.moving.take()?;
        let mut at = self.position.load(Ordering::Relaxed);
        let result = self.operations.write(self, &mut at, source);
        self.position.store(at, Ordering::Relaxed);
        result
    }

    /// Reads at `at`; the position stays.
    ///
    /// # Errors
    /// `ESPIPE` without positions, `EBADF`.
    pub fn read_at(&self, mut at: u64, sink: &mut Sink<'_>) -> Result<usize> {
        if !self.seekable && !self.operations.devours_seeks() {
            return Err(Errno::ESPIPE);
        }
        if !self.modes().0 {
            return Err(Errno::EBADF);
        }
        self.operations.read(self, &mut at, sink)
    }

    /// Writes at `at`; the position stays.
    ///
    /// # Errors
    /// `ESPIPE` without positions, `EBADF`.
    pub fn write_at(&self, mut at: u64, source: &mut Source<'_>) -> Result<usize> {
        if !self.seekable && !self.operations.devours_seeks() {
            return Err(Errno::ESPIPE);
        }
        if !self.modes().1 {
            return Err(Errno::EBADF);
        }
        self.operations.write(self, &mut at, source)
    }

    /// Runs `change` on the position, alone.
    ///
    /// # Errors
    /// What `change` reports; `ERESTARTSYS`.
    pub fn with_position<T>(&self, change: impl FnOnce(&mut u64) -> Result<T>) -> Result<T> {
        let _moving = self.moving.take()?;
        let mut at = self.position.load(Ordering::Relaxed);
        let result = change(&mut at)?;
        self.position.store(at, Ordering::Relaxed);
        Ok(result)
    }

    /// The position now.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Sets the position, whoever moves it meanwhile.
    pub fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// What poll reports now.
    pub fn poll(&self) -> u32 {
        if self.flags() & abi::O_PATH != 0 { abi::POLLNVAL } else { self.operations.poll(self) }
    }

    /// The queues to wait on for poll.
    pub fn queues(&self) -> [Option<&WaitQueue>; 2] {
        self.operations.queues(self)
    }

    /// Where it is in the tree, if it was opened by path.
    pub fn place(&self) -> Option<Place> {
        match &self.origin {
            Origin::Path(place, _) => Some(place.clone()),
            Origin::Nameless(_) | Origin::Memory(_) => None,
        }
    }

    /// Its path below `root`, for /proc; " (deleted)" behind one that is gone.
    pub fn path_below(&self, root: &Place) -> Vec<u8> {
        match &self.origin {
            Origin::Nameless(kind) => {
                let mut text = kind.as_bytes().to_vec();
                if text.ends_with(b":") {
                    text.extend_from_slice(
                        alloc::format!("[{}]", self.inode.identity().1).as_bytes(),
                    );
                }
                text
            }
            Origin::Memory(name) => [b"/memfd:", name.as_slice(), b" (deleted)"].concat(),
            Origin::Path(place, name) => name_of(root, place, name.as_ref()),
        }
    }

    /// Its path, for /proc/PID/maps.
    pub fn path(&self) -> Vec<u8> {
        self.path_below(&super::mount::root().top())
    }
}

fn name_of(root: &Place, place: &Place, name: Option<&(Arc<dyn Inode>, Vec<u8>)>) -> Vec<u8> {
    let deleted = |mut path: Vec<u8>| {
        path.extend_from_slice(b" (deleted)");
        path
    };
    if place.inode.kind() == Kind::Directory {
        return walk::path_of(root, place).unwrap_or_else(|| {
            deleted(name.map_or(Vec::new(), |(_, name)| [b"/", name.as_slice()].concat()))
        });
    }
    let Some((directory, name)) = name else { return b"/".to_vec() };
    let above = Place { mount: place.mount.clone(), inode: directory.clone() };
    let mut path = walk::path_of(root, &above).unwrap_or_else(|| b"/".to_vec());
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    let there =
        directory.clone().lookup(name).is_ok_and(|now| now.identity() == place.inode.identity());
    if there { path } else { deleted(path) }
}

impl Drop for File {
    fn drop(&mut self) {
        super::lock::forget(self);
        self.operations.released(self.flags());
    }
}
