//! A file that QEMU writes to and we read: the way in which a monitor hands out bytes.
//!
//! It is a memfd, which QEMU opens by our process's number in `/proc`, so nothing touches a disk. A QEMU in another
//! process namespace cannot see that one; it gets a file in the temporary directory. Each answer is checked for its
//! length, because a QEMU that is elsewhere altogether writes elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::MemfdFlags;
use tempfile::NamedTempFile;

use crate::Error;

/// Descriptor numbers start here. Should the other end be on another host, the name that it opens must not be a file
/// of some other process there that happens to have our number: few have so many files open.
const FIRST_NUMBER: i32 = 900;

/// The file, and the name that the other side knows it by.
#[derive(Debug)]
pub(super) struct Scratch {
    file: File,
    path: String,
    /// Deletes the file in the end, if it has a name of its own.
    _named: Option<NamedTempFile>,
}

impl Scratch {
    /// A file in memory.
    pub fn in_memory() -> Result<Scratch, Error> {
        let make = || -> Result<OwnedFd, rustix::io::Errno> {
            let low = rustix::fs::memfd_create("guest memory block", MemfdFlags::CLOEXEC)?;
            // A process may be allowed fewer files than that.
            Ok(rustix::io::fcntl_dupfd_cloexec(&low, FIRST_NUMBER).unwrap_or(low))
        };
        let file = make().map_err(|error| Error::host("make a file in memory")(error.into()))?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Ok(Scratch { file: file.into(), path, _named: None })
    }

    /// A file in the temporary directory.
    pub fn on_disk() -> Result<Scratch, Error> {
        let make = || -> io::Result<Scratch> {
            let named = NamedTempFile::with_prefix("guest-memory-")?;
            let path = named.path().to_string_lossy().into_owned();
            Ok(Scratch { file: named.reopen()?, path, _named: Some(named) })
        };
        make().map_err(Error::host("make a temporary file"))
    }

    /// The name for the other side.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Forgets what is in the file.
    pub fn clear(&self) -> Result<(), Error> {
        self.file.set_len(0).map_err(Error::host("empty a scratch file"))
    }

    /// What the other side has written; `None` if that is more than `most` bytes.
    pub fn contents(&self, most: usize) -> Result<Option<Vec<u8>>, Error> {
        let read = || -> io::Result<Option<Vec<u8>>> {
            let length = self.file.metadata()?.len();
            if length > most as u64 {
                return Ok(None);
            }
            let mut bytes = vec![0; length as usize];
            self.file.read_exact_at(&mut bytes, 0)?;
            Ok(Some(bytes))
        };
        read().map_err(Error::host("read a scratch file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_name_is_read() {
        for scratch in [Scratch::in_memory(), Scratch::on_disk()] {
            let scratch = scratch.expect("a file");
            std::fs::write(scratch.path(), b"block").expect("a name that can be written");
            assert_eq!(scratch.contents(5).expect("a read").as_deref(), Some(&b"block"[..]));
            assert_eq!(scratch.contents(4).expect("a read"), None);
            scratch.clear().expect("an empty file");
            assert_eq!(scratch.contents(5).expect("a read").as_deref(), Some(&b""[..]));
        }
    }

    #[test]
    fn a_file_on_disk_goes_away() {
        let scratch = Scratch::on_disk().expect("a file");
        let path = scratch.path().to_owned();
        drop(scratch);
        assert!(!std::path::Path::new(&path).exists());
    }
}
