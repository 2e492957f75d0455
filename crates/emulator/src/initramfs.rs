//! Initramfs archives: newc cpio, plain or gzip, as Linux boots them.
//!
//! The same calls make the same bytes: entries keep their order, times are zero, inode numbers
//! count from 1, and gzip's header carries neither name nor time.

use std::collections::BTreeSet;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};

/// File-type bits of a mode, as `stat` has them.
const FORMAT: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive under construction. Parent directories come by themselves, before what is in them.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    entries: Vec<Entry>,
    directories: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Entry {
    path: String,
    mode: u32,
    contents: Vec<u8>,
    device: (u32, u32),
}

impl Initramfs {
    /// An archive with nothing in it.
    pub fn new() -> Initramfs {
        Initramfs::default()
    }

    /// Adds a regular file. `path` is absolute or relative to the root; `mode` is the permissions.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, contents: impl Into<Vec<u8>>) -> Initramfs {
        self.entry(path, REGULAR | mode, contents.into(), (0, 0))
    }

    /// Adds a symbolic link at `path` that says `target`.
    #[must_use]
    pub fn link(self, path: &str, target: &str) -> Initramfs {
        self.entry(path, LINK | 0o777, target.into(), (0, 0))
    }

    /// Adds busybox as `/bin/busybox`, with a link in `/bin` for each name that it answers to.
    #[must_use]
    pub fn busybox<'a>(
        self,
        program: impl Into<Vec<u8>>,
        applets: impl IntoIterator<Item = &'a str>,
    ) -> Initramfs {
        let with_program = self.file("/bin/busybox", 0o755, program);
        applets
            .into_iter()
            .filter(|name| *name != "busybox")
            .fold(with_program, |archive, name| archive.link(&format!("/bin/{name}"), "busybox"))
    }

    /// Adds a character device, for instance `/dev/console`, which is 5:1.
    #[must_use]
    pub fn device(self, path: &str, mode: u32, major: u32, minor: u32) -> Initramfs {
        self.entry(path, CHARACTER_DEVICE | mode, Vec::new(), (major, minor))
    }

    /// Adds a directory, with its parents; one that is there already stays as it is.
    #[must_use]
    pub fn directory(mut self, path: &str) -> Initramfs {
        let mut end = 0;
        let path = path.trim_matches('/');
        while end < path.len() {
            end = path[end + 1..].find('/').map_or(path.len(), |next| end + 1 + next);
            if self.directories.insert(path[..end].to_owned()) {
                self.entries.push(Entry {
                    path: path[..end].to_owned(),
                    mode: DIRECTORY | 0o755,
                    contents: Vec::new(),
                    device: (0, 0),
                });
            }
        }
        self
    }

    /// The plain archive.
    ///
    /// # Panics
    ///
    /// When a file has 4 GiB or more: newc cannot say that.
    pub fn build(&self) -> Vec<u8> {
        self.write().expect("a Vec takes all that is written to it")
    }

    /// The archive, compressed as `gzip -9n` would.
    ///
    /// # Panics
    ///
    /// As [`Initramfs::build`].
    pub fn build_gzip(&self) -> Vec<u8> {
        let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        encoder
            .write_all(&self.build())
            .and_then(|()| encoder.finish())
            .expect("a Vec takes all that is written to it")
    }

    fn entry(self, path: &str, mode: u32, contents: Vec<u8>, device: (u32, u32)) -> Initramfs {
        let path = path.trim_matches('/').to_owned();
        let parent = path.rfind('/').map_or("", |end| &path[..end]).to_owned();
        let mut with_parent = self.directory(&parent);
        with_parent.entries.push(Entry { path, mode, contents, device });
        with_parent
    }

    fn write(&self) -> io::Result<Vec<u8>> {
        let mut archive = Vec::new();
        for (entry, number) in self.entries.iter().zip(1..) {
            let size = u32::try_from(entry.contents.len()).expect("a file below 4 GiB");
            let mut writer = cpio::newc::Builder::new(&entry.path)
                .ino(number)
                .mode(entry.mode)
                .nlink(if entry.mode & FORMAT == DIRECTORY { 2 } else { 1 })
                .rdev_major(entry.device.0)
                .rdev_minor(entry.device.1)
                .write(&mut archive, size);
            writer.write_all(&entry.contents)?;
            writer.finish()?;
        }
        cpio::newc::trailer(&mut archive)?;
        Ok(archive)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn names_and_modes(archive: &[u8]) -> Vec<(String, u32)> {
        let mut list = Vec::new();
        let mut rest = archive;
        loop {
            let reader = cpio::NewcReader::new(rest).expect("a whole entry");
            if reader.entry().is_trailer() {
                return list;
            }
            list.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish().expect("a whole entry");
        }
    }

    fn example() -> Initramfs {
        Initramfs::new()
            .file("/init", 0o755, "text")
            .file("/usr/bin/tool", 0o755, vec![1, 2, 3])
            .link("/usr/bin/alias", "tool")
            .device("/dev/console", 0o600, 5, 1)
    }

    #[test]
    fn parents_come_first_and_once() {
        let expected = [
            ("init", 0o100_755),
            ("usr", 0o040_755),
            ("usr/bin", 0o040_755),
            ("usr/bin/tool", 0o100_755),
            ("usr/bin/alias", 0o120_777),
            ("dev", 0o040_755),
            ("dev/console", 0o020_600),
        ];
        let expected: Vec<_> = expected.map(|(name, mode)| (name.to_owned(), mode)).into();
        assert_eq!(names_and_modes(&example().build()), expected);
    }

    #[test]
    fn gzip_holds_the_same_and_repeats() {
        let zipped = example().build_gzip();
        assert_eq!(zipped, example().build_gzip());
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&zipped[..]).read_to_end(&mut plain).expect("valid gzip");
        assert_eq!(plain, example().build());
    }
}
