//! The file system in memory: the root, tmpfs, ramfs, devtmpfs, devpts and memfd are all this.
//!
//! ```text
//! Memory (device number, limits) <- Node (number, attributes, body)
//!                                     body: pages | names | link text | pipe | device number
//! ```

mod attributes;
mod directory;
mod hole;
mod node;
pub mod pages;
mod regular;
mod rename;

pub use node::Node;

use super::inode::{Kind, Statistics};
use crate::errno::{Errno, Result};
use crate::mm::frame;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// One instance of the file system.
pub struct Memory {
    device: u64,
    magic: u32,
    next: AtomicU64,
    used: AtomicU64,
    /// Most pages of file data; 0: as many as there are.
    limit: AtomicU64,
}

/// A device number for a file system without a device: major 0, next minor.
pub fn anonymous_device() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(2);
    super::inode::device_number(0, NEXT.fetch_add(1, Ordering::Relaxed) as u32)
}

impl Memory {
    /// A new instance and its root directory. `limit` in pages, 0 for none.
    pub fn create(magic: u32, mode: u32, limit: u64) -> Arc<Node> {
        let memory = Arc::new(Memory {
            device: anonymous_device(),
            magic,
            next: AtomicU64::new(1),
            used: AtomicU64::new(0),
            limit: AtomicU64::new(limit),
        });
        Node::new(&memory, Kind::Directory, mode, 0)
    }

    /// Half of all memory: what tmpfs allows itself.
    pub fn half_of_memory() -> u64 {
        frame::totals().0 as u64 / 2
    }

    /// Changes the limit (remount).
    pub fn set_limit(&self, pages: u64) {
        self.limit.store(pages, Ordering::Relaxed);
    }

    fn charge(&self) -> Result<()> {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        let limit = self.limit.load(Ordering::Relaxed);
        if limit != 0 && used >= limit {
            self.discharge(1);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn discharge(&self, pages: u64) {
        self.used.fetch_sub(pages, Ordering::Relaxed);
    }

    fn statistics(&self) -> Statistics {
        let limit = self.limit.load(Ordering::Relaxed);
        if limit == 0 {
            return Statistics { magic: self.magic, ..Statistics::default() };
        }
        let total = frame::totals().0 as u64;
        let free = limit.saturating_sub(self.used.load(Ordering::Relaxed));
        let files = self.next.load(Ordering::Relaxed);
        Statistics {
            magic: self.magic,
            blocks: limit,
            free_blocks: free,
            files: total / 2,
            free_files: (total / 2).saturating_sub(files),
        }
    }
}
