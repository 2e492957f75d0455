//! File systems whose files are made when they are read: /proc and /sys.
//!
//! ```text
//! Entry (static table: name, mode, content) + Subject (which process) = Node
//! ```
//!
//! Nothing is kept for a file but what names it; two lookups give two nodes with one number.

mod open;

use super::inode::{Change, Entry as Listed, Inode, Jump, Kind, Metadata, Statistics};
use super::{Operations, memory::anonymous_device};
use crate::errno::{Errno, Result};
use alloc::{sync::Arc, vec::Vec};
use linux_raw_sys::general as abi;

/// What a file is about.
#[derive(Clone, Copy, Default)]
pub struct Subject {
    /// A process.
    pub process: u32,
    /// One of its threads.
    pub thread: u32,
    /// It is about the thread alone.
    pub is_thread: bool,
    /// One of its descriptors.
    pub descriptor: u32,
    /// A CPU.
    pub cpu: u32,
}

/// A line of a table.
pub struct Entry {
    /// Its name; a template of numbered entries has none.
    pub name: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// What a file contains.
pub enum Content {
    /// Text.
    Text(fn(&Subject) -> Result<Vec<u8>>),
    /// Text that can be written.
    Setting(fn(&Subject) -> Result<Vec<u8>>, fn(&Subject, &[u8]) -> Result<()>),
    /// Entries.
    Directory(&'static [Entry]),
    /// Entries, and behind them numbered ones.
    Numbered(&'static [Entry], &'static Numbers),
    /// A symbolic link.
    Link(fn(&Subject) -> Result<Vec<u8>>),
    /// A symbolic link that leads somewhere without a path.
    Magic(fn(&Subject) -> Result<Vec<u8>>, fn(&Subject) -> Result<Jump>),
}

/// Numbered entries of a directory.
pub struct Numbers {
    /// What their names begin with.
    pub prefix: &'static str,
    /// What each is.
    pub template: Entry,
    /// Which there are, ascending.
    pub list: fn(&Subject) -> Vec<u32>,
    /// The subject of one, if there is such a one.
    pub find: fn(&Subject, u32) -> Option<Subject>,
}

/// One instance.
struct System {
    device: u64,
    magic: u32,
    /// Files show this size.
    size: u64,
    /// As /sys does it: what cannot be written cannot be opened for it either.
    is_strict: bool,
    created: u64,
}

/// A file.
pub struct Node {
    system: Arc<System>,
    entry: &'static Entry,
    subject: Subject,
    number: u64,
    above: Option<(Arc<Node>, Vec<u8>)>,
}

/// A new instance whose root is `entry`.
pub fn create(entry: &'static Entry, magic: u32, size: u64) -> Arc<Node> {
    let system = System {
        device: anonymous_device(),
        magic,
        size,
        is_strict: magic == abi::SYSFS_MAGIC,
        created: crate::time::realtime(),
    };
    Arc::new(Node {
        system: Arc::new(system),
        entry,
        subject: Subject::default(),
        number: 1,
        above: None,
    })
}

/// A number for `name` in directory `parent`: the same every time (FNV-1a).
fn number(parent: u64, name: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ parent;
    let hash = name
        .iter()
        .fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    // 2 to 2^48: never the root's, and readable.
    (hash & 0xffff_ffff_ffff) | 2
}

impl Entry {
    /// A text that everybody may read.
    pub const fn text(name: &'static str, text: fn(&Subject) -> Result<Vec<u8>>) -> Entry {
        Entry { name, mode: 0o444, content: Content::Text(text) }
    }

    /// A directory.
    pub const fn directory(name: &'static str, entries: &'static [Entry]) -> Entry {
        Entry { name, mode: 0o555, content: Content::Directory(entries) }
    }

    /// A symbolic link.
    pub const fn link(name: &'static str, target: fn(&Subject) -> Result<Vec<u8>>) -> Entry {
        Entry { name, mode: 0o777, content: Content::Link(target) }
    }

    fn kind(&self) -> Kind {
        match self.content {
            Content::Text(_) | Content::Setting(..) => Kind::Regular,
            Content::Directory(_) | Content::Numbered(..) => Kind::Directory,
            Content::Link(_) | Content::Magic(..) => Kind::Symlink,
        }
    }
}

impl Node {
    fn children(&self) -> Result<(&'static [Entry], Option<&'static Numbers>)> {
        match self.entry.content {
            Content::Directory(entries) => Ok((entries, None)),
            Content::Numbered(entries, numbers) => Ok((entries, Some(numbers))),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn owner(&self) -> (u32, u32) {
        if self.subject.process == 0 { (0, 0) } else { super::process::owner(self.subject.process) }
    }
}

impl Inode for Node {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let text = self.text()?;
        super::transfer::Sink::Kernel(into).put_from(&text, offset)
    }

    fn identity(&self) -> (u64, u64) {
        (self.system.device, self.number)
    }

    fn kind(&self) -> Kind {
        self.entry.kind()
    }

    fn metadata(&self) -> Metadata {
        let kind = self.kind();
        let (user, group) = self.owner();
        Metadata {
            device: self.system.device,
            number: self.number,
            mode: kind.bits() | self.entry.mode,
            links: if kind == Kind::Directory { 2 } else { 1 },
            user,
            group,
            size: if kind == Kind::Regular { self.system.size } else { 0 },
            accessed: self.system.created,
            modified: self.system.created,
            changed: self.system.created,
            ..Metadata::default()
        }
    }

    fn change(&self, change: &Change) -> Result<()> {
        // Times may be set (touch), and nobody will see it.
        if change.mode.is_some() || change.user.is_some() || change.group.is_some() {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn Operations>> {
        let writes = flags & abi::O_ACCMODE != abi::O_RDONLY;
        if writes && self.system.is_strict && self.entry.mode & 0o222 == 0 {
            return Err(Errno::EACCES);
        }
        if self.kind() == Kind::Directory { Ok(self) } else { Ok(open::Text::new(self)) }
    }

    fn truncate(&self, _size: u64) -> Result<()> {
        // `echo 1 > setting` truncates first; whether it can be written shows when it is.
        Ok(())
    }

    fn lookup(self: Arc<Self>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let (entries, numbers) = self.children()?;
        let mut found = entries
            .iter()
            .find(|entry| entry.name.as_bytes() == name)
            .map(|entry| (entry, self.subject));
        if found.is_none()
            && let Some(numbers) = numbers
        {
            let digits = name.strip_prefix(numbers.prefix.as_bytes()).ok_or(Errno::ENOENT)?;
            let number = parse(digits).ok_or(Errno::ENOENT)?;
            found = (numbers.find)(&self.subject, number).map(|found| (&numbers.template, found));
        }
        let (entry, subject) = found.ok_or(Errno::ENOENT)?;
        Ok(Arc::new(Node {
            system: self.system.clone(),
            entry,
            subject,
            number: number(self.number, name),
            above: Some((self, name.to_vec())),
        }))
    }

    fn location(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        let (above, name) = self.above.as_ref()?;
        Some((above.clone(), name.clone()))
    }

    fn list(&self, position: u64, each: &mut dyn FnMut(Listed<'_>) -> bool) -> Result<()> {
        /// Positions of the numbered entries: this, and the number.
        const NUMBERED: u64 = 1 << 16;
        let (entries, numbers) = self.children()?;
        for (index, entry) in entries.iter().enumerate() {
            let at = index as u64 + 2;
            let name = entry.name.as_bytes();
            let number = number(self.number, name);
            if at >= position && !each(Listed { name, number, kind: entry.kind(), next: at + 1 }) {
                return Ok(());
            }
        }
        let Some(numbers) = numbers else { return Ok(()) };
        for one in (numbers.list)(&self.subject) {
            let at = NUMBERED + u64::from(one);
            if at < position {
                continue;
            }
            let name = alloc::format!("{}{one}", numbers.prefix);
            let name = name.as_bytes();
            let number = number(self.number, name);
            let kind = numbers.template.kind();
            if !each(Listed { name, number, kind, next: at + 1 }) {
                break;
            }
        }
        Ok(())
    }

    fn create(self: Arc<Self>, name: &[u8], _new: super::inode::New<'_>) -> Result<Arc<dyn Inode>> {
        let is_strict = self.system.is_strict;
        Err(match self.lookup(name) {
            Ok(_) => Errno::EEXIST,
            Err(_) if is_strict => Errno::EPERM,
            Err(_) => Errno::ENOENT,
        })
    }

    fn target(&self) -> Result<Vec<u8>> {
        match self.entry.content {
            Content::Link(text) | Content::Magic(text, _) => text(&self.subject),
            _ => Err(Errno::EINVAL),
        }
    }

    fn jump(&self) -> Option<Result<Jump>> {
        match self.entry.content {
            Content::Magic(_, jump) => Some(jump(&self.subject)),
            _ => None,
        }
    }

    fn statistics(&self) -> Statistics {
        Statistics { magic: self.system.magic, ..Statistics::default() }
    }
}

/// A decimal number without leading zeros.
fn parse(name: &[u8]) -> Option<u32> {
    if name.is_empty() || name.len() > 9 || (name[0] == b'0' && name.len() > 1) {
        return None;
    }
    name.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'))
    })
}
