//! The types of file system that can be mounted.

use super::device::DEVICES;
use super::inode::{Inode, Kind, New, device_number};
use super::memory::{Memory, Node};
use super::{process, system};
use crate::errno::{Errno, Result};
use crate::sync::Lazy;
use alloc::{format, string::String, sync::Arc};
use linux_raw_sys::general as abi;

/// A type.
pub struct Type {
    /// Its name for mount(2).
    pub name: &'static str,
    /// Makes the root, and the options that /proc/mounts shows.
    pub create: fn(&Options) -> (Arc<dyn Inode>, String),
}

/// What mount(2)'s data string asks for.
#[derive(Default)]
pub struct Options {
    /// In pages; `None` if it was not given.
    size: Option<u64>,
    mode: Option<u32>,
}

/// All types, in the order of /proc/filesystems.
pub static TYPES: &[Type] = &[
    Type { name: "sysfs", create: sysfs },
    Type { name: "tmpfs", create: tmpfs },
    Type { name: "proc", create: proc },
    Type { name: "devtmpfs", create: devtmpfs },
    Type { name: "devpts", create: devpts },
    Type { name: "ramfs", create: ramfs },
];

/// The type called `name`.
///
/// # Errors
/// `ENODEV`.
pub fn find(name: &[u8]) -> Result<&'static Type> {
    TYPES.iter().find(|kind| kind.name.as_bytes() == name).ok_or(Errno::ENODEV)
}

impl Options {
    /// Parses "size=10m,mode=1777"; options of other types are let through.
    ///
    /// # Errors
    /// `EINVAL` for a value that is none.
    pub fn parse(text: &[u8]) -> Result<Options> {
        let mut options = Options::default();
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        for option in text.split(',') {
            match option.split_once('=') {
                Some(("size", value)) => options.size = Some(pages(value).ok_or(Errno::EINVAL)?),
                Some(("nr_blocks", value)) => {
                    options.size = Some(value.parse().map_err(|_| Errno::EINVAL)?);
                }
                Some(("mode", value)) => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    options.mode = Some(mode & 0o7777);
                }
                _ => {}
            }
        }
        Ok(options)
    }

    /// The size, if one was given.
    pub fn size(&self) -> Option<u64> {
        self.size
    }
}

/// A size with a suffix, or in percent of all memory, as pages.
fn pages(text: &str) -> Option<u64> {
    if let Some(percent) = text.strip_suffix('%') {
        return (Memory::half_of_memory() * 2).checked_mul(percent.parse().ok()?)?.checked_div(100);
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    Some(digits.parse::<u64>().ok()?.checked_mul(1 << shift)?.div_ceil(4096))
}

/// As on Linux, mounting it again shows the same instance.
fn sysfs(_options: &Options) -> (Arc<dyn Inode>, String) {
    static ROOT: Lazy<Arc<super::generated::Node>> = Lazy::new(system::create);
    (ROOT.clone(), String::new())
}

fn proc(_options: &Options) -> (Arc<dyn Inode>, String) {
    (process::create(), String::new())
}

fn tmpfs(options: &Options) -> (Arc<dyn Inode>, String) {
    let limit = options.size.unwrap_or_else(Memory::half_of_memory);
    let mode = options.mode.unwrap_or(0o1777);
    let mut text = String::new();
    if options.size.is_some_and(|size| size != 0) {
        text = format!("size={}k,", limit * 4);
    }
    if mode != 0o1777 {
        text.push_str(&format!("mode={mode:o},"));
    }
    text.push_str("inode64");
    (Memory::create(abi::TMPFS_MAGIC, mode, limit), text)
}

fn ramfs(options: &Options) -> (Arc<dyn Inode>, String) {
    (Memory::create(abi::RAMFS_MAGIC, options.mode.unwrap_or(0o755), 0), String::new())
}

fn devpts(_options: &Options) -> (Arc<dyn Inode>, String) {
    let root = Memory::create(abi::DEVPTS_SUPER_MAGIC, 0o755, 0);
    (root, String::from("mode=600,ptmxmode=000"))
}

/// There is one devtmpfs, however often it is mounted.
fn devtmpfs(_options: &Options) -> (Arc<dyn Inode>, String) {
    static ROOT: Lazy<Arc<Node>> = Lazy::new(|| {
        let root = Memory::create(abi::TMPFS_MAGIC, 0o755, Memory::half_of_memory());
        for device in DEVICES {
            let (major, minor) = device.number;
            let special = device_number(major, minor);
            let new = New::Node { kind: Kind::Character, mode: device.mode, special };
            // Nothing is there yet, so nothing can be in the way.
            let _ = root.clone().create(device.name.as_bytes(), new);
        }
        root
    });
    let limit = Memory::half_of_memory();
    let text = format!("size={}k,nr_inodes={limit},mode=755,inode64", limit * 4);
    (ROOT.clone(), text)
}
