//! A process's descriptors.
//!
//! Slots, one bit per open descriptor and one per close-on-exec: the lowest free descriptor is the
//! first zero bit. Nothing is dropped under the lock, since the last handle of a file may wake
//! others or free much.

use super::{File, current, lock};
use crate::errno::{Errno, Result};
use crate::sync::{Mutex, cross};
use crate::task;
use alloc::{sync::Arc, vec::Vec};

/// Most descriptors a process can be allowed (fs.nr_open).
pub const MOST: u32 = 1 << 20;
/// Files let go between two looks at what other CPUs wait for. Each may take long: the locks of all files are looked
/// through.
const AT_ONCE: usize = 64;

/// A process's descriptors.
pub struct FileTable {
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    files: Vec<Option<Arc<File>>>,
    open: Vec<u64>,
    on_exec: Vec<u64>,
}

impl Slots {
    /// The lowest free descriptor from `from` on.
    fn lowest(&self, from: u32) -> u32 {
        let mut word = (from / 64) as usize;
        let mut ignored = (1u64 << (from % 64)) - 1;
        while let Some(&bits) = self.open.get(word) {
            let free = !(bits | ignored);
            if free != 0 {
                return word as u32 * 64 + free.trailing_zeros();
            }
            word += 1;
            ignored = 0;
        }
        from.max(word as u32 * 64)
    }

    fn put(&mut self, fd: u32, file: Arc<File>, on_exec: bool) -> Result<Option<Arc<File>>> {
        let (slot, word, bit) = (fd as usize, fd as usize / 64, 1 << (fd % 64));
        if self.files.capacity() <= slot {
            current::admit()?;
        }
        if self.open.len() <= word {
            let more = word + 1 - self.open.len();
            self.open.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
            self.on_exec.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
        }
        if self.files.len() <= slot {
            let more = slot + 1 - self.files.len();
            self.files.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
            self.files.resize(slot + 1, None);
        }
        if self.open.len() <= word {
            self.open.resize(word + 1, 0);
            self.on_exec.resize(word + 1, 0);
        }
        self.open[word] |= bit;
        if on_exec {
            self.on_exec[word] |= bit;
        } else {
            self.on_exec[word] &= !bit;
        }
        Ok(self.files[slot].replace(file))
    }

    fn take(&mut self, fd: u32) -> Option<Arc<File>> {
        let file = self.files.get_mut(fd as usize)?.take()?;
        let (word, bit) = (fd as usize / 64, 1 << (fd % 64));
        self.open[word] &= !bit;
        self.on_exec[word] &= !bit;
        Some(file)
    }
}

impl FileTable {
    fn with(slots: Slots) -> Arc<FileTable> {
        Arc::new(FileTable { slots: Mutex::new(slots) })
    }

    /// The open file behind descriptor `fd`.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn get(&self, fd: u32) -> Result<Arc<File>> {
        match self.slots.lock().files.get(fd as usize) {
            Some(Some(file)) => Ok(file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// Gives `file` the lowest descriptor from `from` on.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`.
    pub fn add(&self, file: Arc<File>, from: u32, on_exec: bool) -> Result<u32> {
        let limit = current::descriptor_limit();
        let mut slots = self.slots.lock();
        let fd = slots.lowest(from);
        if fd >= limit {
            // The handle is dropped after the lock.
            drop(slots);
            return Err(Errno::EMFILE);
        }
        slots.put(fd, file, on_exec)?;
        Ok(fd)
    }

    /// Gives `file` the descriptor `fd`, closing what it was (dup2).
    ///
    /// # Errors
    /// `EBADF` past the limit, `ENOMEM`.
    pub fn replace(&self, fd: u32, file: Arc<File>, on_exec: bool) -> Result<()> {
        if fd >= current::descriptor_limit() {
            return Err(Errno::EBADF);
        }
        let old = self.slots.lock().put(fd, file, on_exec)?;
        if let Some(old) = old {
            forget_locks(&old);
        }
        Ok(())
    }

    /// Closes `fd`.
    ///
    /// # Errors
    /// `EBADF`.
    #[inline]
    pub fn close(&self, fd: u32) -> Result<()> {
        let file = self.slots.lock().take(fd).ok_or(Errno::EBADF)?;
        forget_locks(&file);
        Ok(())
    }

    /// Whether `fd` is closed by exec.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn on_exec(&self, fd: u32) -> Result<bool> {
        let slots = self.slots.lock();
        match slots.files.get(fd as usize) {
            Some(Some(_)) => Ok(slots.on_exec[fd as usize / 64] >> (fd % 64) & 1 != 0),
            _ => Err(Errno::EBADF),
        }
    }

    /// Sets whether `fd` is closed by exec.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_on_exec(&self, fd: u32, on_exec: bool) -> Result<()> {
        let mut slots = self.slots.lock();
        match slots.files.get(fd as usize) {
            Some(Some(_)) => {
                let bit = 1 << (fd % 64);
                let word = &mut slots.on_exec[fd as usize / 64];
                *word = if on_exec { *word | bit } else { *word & !bit };
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// Descriptors that are open, for /proc/PID/fd.
    pub fn descriptors(&self) -> Vec<u32> {
        let slots = self.slots.lock();
        let open = (0..slots.files.len() as u32).filter(|&fd| slots.files[fd as usize].is_some());
        let mut list = Vec::new();
        if list.try_reserve_exact(open.clone().count()).is_ok() {
            list.extend(open);
        }
        list
    }

    /// Closes (or, with `mark`, marks close-on-exec) the descriptors `first..=last`.
    pub fn close_range(&self, first: u32, last: u32, mark: bool) {
        let end = {
            let slots = self.slots.lock();
            last.saturating_add(1).min(slots.files.len() as u32)
        };
        for fd in first..end {
            if mark {
                let _ = self.set_on_exec(fd, true);
            } else {
                let _ = self.close(fd);
                // Each may take long: the locks of all files are looked through.
                task::breathe();
            }
        }
    }

    /// A copy that shares the open files (fork).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<FileTable>> {
        let slots = self.slots.lock();
        let copy = Slots {
            files: copied(&slots.files)?,
            open: copied(&slots.open)?,
            on_exec: copied(&slots.on_exec)?,
        };
        drop(slots);
        Ok(FileTable::with(copy))
    }

    /// Closes what is marked close-on-exec.
    pub fn close_on_exec(&self) {
        let words = self.slots.lock().on_exec.len();
        for word in 0..words {
            let mut bits = self.slots.lock().on_exec[word];
            while bits != 0 {
                let _ = self.close(word as u32 * 64 + bits.trailing_zeros());
                bits &= bits - 1;
            }
            if word + 1 < words {
                // As in `close_range`.
                task::breathe();
            }
        }
    }

    /// The descriptors of process 1: the console thrice.
    pub fn console() -> Arc<FileTable> {
        let console = super::device::console();
        let mut slots = Slots::default();
        for fd in 0..3 {
            // At boot there is memory.
            let _ = slots.put(fd, console.clone(), false);
        }
        FileTable::with(slots)
    }
}

impl Drop for FileTable {
    fn drop(&mut self) {
        let files = &mut self.slots.get_mut().files;
        while files.len() > AT_ONCE {
            files.truncate((files.len() - 1) / AT_ONCE * AT_ONCE);
            cross::serve();
        }
    }
}

/// A process that closes a file gives up its record locks on it.
#[inline]
fn forget_locks(file: &File) {
    if lock::any() {
        lock::closed(file.inode().identity(), current::pid());
    }
}

fn copied<T: Clone>(vector: &[T]) -> Result<Vec<T>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(vector.len()).map_err(|_| Errno::ENOMEM)?;
    copy.extend_from_slice(vector);
    Ok(copy)
}
