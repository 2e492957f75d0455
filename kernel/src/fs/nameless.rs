//! The one inode behind all open files that are no files: eventfd, epoll.

use super::inode::{Inode, Kind, Metadata, Statistics};
use super::{Operations, memory::anonymous_device};
use crate::errno::{Errno, Result};
use crate::sync::Lazy;
use alloc::sync::Arc;
use linux_raw_sys::general::ANON_INODE_FS_MAGIC;

/// It has no contents.
pub struct Nameless {
    device: u64,
}

impl Nameless {
    /// The inode.
    pub fn inode() -> Arc<dyn Inode> {
        static INODE: Lazy<Arc<Nameless>> =
            Lazy::new(|| Arc::new(Nameless { device: anonymous_device() }));
        INODE.clone()
    }
}

impl Inode for Nameless {
    fn identity(&self) -> (u64, u64) {
        (self.device, 1)
    }

    fn kind(&self) -> Kind {
        Kind::Socket
    }

    fn metadata(&self) -> Metadata {
        // Linux's have permission bits and no type at all.
        Metadata { device: self.device, number: 1, mode: 0o600, links: 1, ..Metadata::default() }
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn Operations>> {
        Err(Errno::ENXIO)
    }

    fn statistics(&self) -> Statistics {
        Statistics { magic: ANON_INODE_FS_MAGIC, ..Statistics::default() }
    }
}
