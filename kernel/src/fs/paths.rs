//! A process's root directory, working directory and umask.

use super::walk::{self, Final, Place, Walked};
use super::{File, mount};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general::O_PATH;

/// Root directory, working directory and umask.
pub struct Paths {
    places: Mutex<(Place, Place)>,
    umask: AtomicU32,
}

impl Paths {
    /// A copy (fork).
    pub fn fork(&self) -> Arc<Paths> {
        let places = self.places.lock().clone();
        Arc::new(Paths {
            places: Mutex::new(places),
            umask: AtomicU32::new(self.umask.load(Ordering::Relaxed)),
        })
    }

    /// Those of process 1.
    pub fn root() -> Arc<Paths> {
        let top = mount::root().top();
        Arc::new(Paths { places: Mutex::new((top.clone(), top)), umask: AtomicU32::new(0o022) })
    }

    /// The root directory.
    pub fn top(&self) -> Place {
        self.places.lock().0.clone()
    }

    /// The working directory.
    pub fn working(&self) -> Place {
        self.places.lock().1.clone()
    }

    /// chdir.
    pub fn set_working(&self, place: Place) {
        let old = core::mem::replace(&mut self.places.lock().1, place);
        drop(old);
    }

    /// chroot.
    pub fn set_top(&self, place: Place) {
        let old = core::mem::replace(&mut self.places.lock().0, place);
        drop(old);
    }

    /// Mode bits that new files do not get.
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the umask, gives the old one.
    pub fn set_umask(&self, umask: u32) -> u32 {
        self.umask.swap(umask & 0o777, Ordering::Relaxed)
    }

    /// Walks `path` from `start`, or from the working directory.
    ///
    /// # Errors
    /// See [`walk::walk`].
    pub fn walk(&self, start: Option<&Place>, path: &[u8], end: Final) -> Result<Walked> {
        let (top, working) = self.places.lock().clone();
        walk::walk(&top, start.unwrap_or(&working), path, end)
    }

    /// Opens a file to execute; checks type and execute permission.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`, `ETXTBSY`.
    pub fn open_executable(&self, path: &[u8]) -> Result<Arc<File>> {
        super::names::open(self, None, path, O_PATH, 0)?.for_execution()
    }

    /// The path of `place` below this root, as getcwd gives it.
    ///
    /// # Errors
    /// `ENOENT` if it was removed, `ENAMETOOLONG`.
    pub fn path_of(&self, place: &Place) -> Result<Vec<u8>> {
        let none = || match place.inode.location() {
            Some(_) => Errno::ENAMETOOLONG,
            None => Errno::ENOENT,
        };
        walk::path_of(&self.top(), place).ok_or_else(none)
    }
}
