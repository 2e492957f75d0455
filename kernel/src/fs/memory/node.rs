//! A file of the in-memory file system.

use super::{Memory, attributes::Attributes, directory::Directory, regular::Regular};
use crate::errno::{Errno, Result};
use crate::fs::hold::Holds;
use crate::fs::inode::{Change, Entry, Inode, Kind, Metadata, New, Statistics};
use crate::fs::seal::Seals;
use crate::fs::{Operations, device, pipe::Pipe};
use crate::mm::Page;
use crate::sync::Mutex;
use alloc::{boxed::Box, sync::Arc, sync::Weak, vec::Vec};
use core::sync::atomic::Ordering;

/// An inode.
pub struct Node {
    pub(super) memory: Arc<Memory>,
    pub(super) number: u64,
    kind: Kind,
    special: u64,
    pub(super) attributes: Mutex<Attributes>,
    pub(super) body: Body,
}

/// What depends on the type.
pub enum Body {
    Regular(Regular),
    Directory(Directory),
    Symlink(Box<[u8]>),
    /// The pipe while somebody has it open.
    Fifo(Mutex<Weak<Pipe>>),
    /// Device nodes and sockets: nothing beyond the numbers.
    Plain,
}

impl Node {
    /// A node that no directory names yet.
    pub(super) fn new(memory: &Arc<Memory>, kind: Kind, mode: u32, special: u64) -> Arc<Node> {
        let body = match kind {
            Kind::Regular => Body::Regular(Regular::new()),
            Kind::Directory => Body::Directory(Directory::new()),
            Kind::Symlink => Body::Symlink(Box::default()),
            Kind::Fifo => Body::Fifo(Mutex::new(Weak::new())),
            Kind::Character | Kind::Block | Kind::Socket => Body::Plain,
        };
        Node::with_body(memory, kind, mode, special, body)
    }

    pub(super) fn with_body(
        memory: &Arc<Memory>,
        kind: Kind,
        mode: u32,
        special: u64,
        body: Body,
    ) -> Arc<Node> {
        let links = if kind == Kind::Directory { 2 } else { 1 };
        Arc::new(Node {
            memory: memory.clone(),
            number: memory.next.fetch_add(1, Ordering::Relaxed),
            kind,
            special,
            attributes: Mutex::new(Attributes::new(mode, links)),
            body,
        })
    }

    /// A file without a name, for memfd_create. Seals work on it, none is set.
    pub fn sealable(memory: &Arc<Memory>, mode: u32, seals: u32) -> Arc<Node> {
        let body = Body::Regular(Regular::sealable(seals));
        let node = Node::with_body(memory, Kind::Regular, mode, 0, body);
        node.attributes.lock().links = 0;
        node
    }

    /// A regular file without a name, for O_TMPFILE.
    pub fn unnamed(&self, mode: u32) -> Arc<Node> {
        let node = Node::new(&self.memory, Kind::Regular, mode, 0);
        node.attributes.lock().links = 0;
        node
    }

    /// The instance it belongs to.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Sets owner and times as an archive gives them.
    pub fn restore(&self, user: u32, group: u32, modified: u64) {
        let mut attributes = self.attributes.lock();
        attributes.user = user;
        attributes.group = group;
        attributes.accessed = modified;
        attributes.modified = modified;
    }

    pub(super) fn directory(&self) -> Result<&Directory> {
        match &self.body {
            Body::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn regular(&self) -> Option<&Regular> {
        match &self.body {
            Body::Regular(regular) => Some(regular),
            _ => None,
        }
    }

    /// The node behind an inode, if it is one of this file system's.
    pub fn of(inode: &dyn Inode) -> Option<&Node> {
        (inode as &dyn core::any::Any).downcast_ref::<Node>()
    }

    /// As [`Node::of`], shared.
    pub fn of_arc(inode: &Arc<dyn Inode>) -> Option<Arc<Node>> {
        let any: Arc<dyn core::any::Any + Send + Sync> = inode.clone();
        any.downcast().ok()
    }
}

impl Inode for Node {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        match &self.body {
            Body::Regular(regular) => {
                regular.read(offset, &mut crate::fs::transfer::Sink::Kernel(into))
            }
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn page(&self, index: u64) -> Result<Page> {
        self.regular().ok_or(Errno::ENODEV)?.page(&self.memory, index)
    }

    fn mappable(&self) -> bool {
        self.kind == Kind::Regular
    }

    fn size(&self) -> u64 {
        match &self.body {
            Body::Regular(regular) => regular.size(),
            // As tmpfs counts: "." and ".." too.
            Body::Directory(directory) => (directory.count() as u64 + 2) * 20,
            Body::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }

    fn identity(&self) -> (u64, u64) {
        (self.memory.device, self.number)
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn metadata(&self) -> Metadata {
        let attributes = *self.attributes.lock();
        Metadata {
            device: self.memory.device,
            number: self.number,
            mode: self.kind.bits() | attributes.mode,
            links: attributes.links,
            user: attributes.user,
            group: attributes.group,
            special: self.special,
            size: self.size(),
            blocks: self.regular().map_or(0, |regular| regular.count() * 8),
            accessed: attributes.accessed,
            modified: attributes.modified,
            changed: attributes.changed,
        }
    }

    fn change(&self, change: &Change) -> Result<()> {
        if self.kind == Kind::Symlink && change.mode.is_some() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.attributes.lock().apply(change);
        Ok(())
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn Operations>> {
        match &self.body {
            Body::Fifo(slot) => Ok(Pipe::open_named(slot, flags)?),
            Body::Plain if self.kind == Kind::Character => device::open(self.special, flags),
            Body::Plain | Body::Symlink(_) => Err(Errno::ENXIO),
            Body::Regular(_) | Body::Directory(_) => Ok(self),
        }
    }

    fn truncate(&self, size: u64) -> Result<()> {
        self.regular().ok_or(Errno::EINVAL)?.truncate(self, size)
    }

    fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<()> {
        self.regular().ok_or(Errno::ENODEV)?.allocate(self, mode, offset, length)
    }

    fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        self.regular().ok_or(Errno::EINVAL)?.seek(offset, hole)
    }

    fn lookup(self: Arc<Self>, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Ok(self.directory()?.get(name).ok_or(Errno::ENOENT)?)
    }

    fn location(&self) -> Option<(Arc<dyn Inode>, Vec<u8>)> {
        self.directory().ok()?.location()
    }

    fn list(&self, position: u64, each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> {
        self.directory()?.list(position, each);
        Ok(())
    }

    fn create(self: Arc<Self>, name: &[u8], new: New<'_>) -> Result<Arc<dyn Inode>> {
        let directory = self.directory()?;
        let node = match new {
            New::Symlink(target) => {
                let mut text = Vec::new();
                text.try_reserve_exact(target.len()).map_err(|_| Errno::ENOSPC)?;
                text.extend_from_slice(target);
                let body = Body::Symlink(text.into_boxed_slice());
                Node::with_body(&self.memory, Kind::Symlink, 0o777, 0, body)
            }
            New::Node { kind, mode, special } => Node::new(&self.memory, kind, mode, special),
        };
        self.inherit_group(&node);
        directory.insert(&self, name, node.clone())?;
        Ok(node)
    }

    fn link(self: Arc<Self>, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let node = Node::of_arc(target).ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&node.memory, &self.memory) {
            return Err(Errno::EXDEV);
        }
        if node.kind == Kind::Directory {
            return Err(Errno::EPERM);
        }
        // Before the name is there, since it may be removed as soon as it is.
        node.attributes.lock().links += 1;
        let inserted = self.directory()?.insert(&self, name, node.clone());
        let mut attributes = node.attributes.lock();
        match inserted {
            Ok(()) => attributes.changed = crate::time::realtime(),
            Err(_) => attributes.links -= 1,
        }
        inserted
    }

    fn remove(&self, name: &[u8], directory: bool) -> Result<()> {
        self.directory()?.remove(self, name, directory)
    }

    fn rename(
        self: Arc<Self>,
        name: &[u8],
        new_directory: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<()> {
        let new_directory = Node::of_arc(new_directory).ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&new_directory.memory, &self.memory) {
            return Err(Errno::EXDEV);
        }
        super::rename::rename(&self, name, &new_directory, new_name, flags)
    }

    fn target(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn holds(&self) -> Option<&Holds> {
        self.regular().map(|regular| &regular.holds)
    }

    fn sealing(&self) -> Option<&Seals> {
        self.regular().map(|regular| &regular.seals)
    }

    fn seals(&self, add: Option<u32>) -> Result<u32> {
        self.regular().ok_or(Errno::EINVAL)?.seals(add)
    }

    fn statistics(&self) -> Statistics {
        self.memory.statistics()
    }
}

impl Node {
    /// A set-group-ID directory gives its group to what is made in it.
    fn inherit_group(&self, node: &Node) {
        use linux_raw_sys::general::S_ISGID;
        let (mode, group) = {
            let attributes = self.attributes.lock();
            (attributes.mode, attributes.group)
        };
        if mode & S_ISGID != 0 {
            let mut attributes = node.attributes.lock();
            attributes.group = group;
            if node.kind == Kind::Directory {
                attributes.mode |= S_ISGID;
            }
        }
    }
}

impl Drop for Node {
    /// Frees a tree without recursion, which a program could make deeper than any kernel stack, and
    /// without memory, of which there may be none: directories wait in a list through themselves.
    fn drop(&mut self) {
        let directory = match &self.body {
            Body::Regular(regular) => return self.memory.discharge(regular.count()),
            Body::Directory(directory) => directory,
            _ => return,
        };
        let mut first = None;
        empty(directory, &mut first);
        while let Some(node) = first.take() {
            if let Body::Directory(directory) = &node.body {
                first = directory.0.lock().next_to_free.take();
                empty(directory, &mut first);
            }
        }
    }
}

/// Lets go of all entries of a directory; directories that have entries themselves go to the front
/// of the list `first`.
fn empty(directory: &Directory, first: &mut Option<Arc<Node>>) {
    for child in directory.drain() {
        if let Body::Directory(directory) = &child.body
            && Arc::strong_count(&child) == 1
            && directory.count() != 0
        {
            directory.0.lock().next_to_free = first.take();
            *first = Some(child);
        }
    }
}
