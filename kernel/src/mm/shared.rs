//! Shared memory without a file: what MAP_SHARED and MAP_ANONYMOUS give, and fork passes on.
//!
//! An object with pages of its own, made when touched. To the rest of the kernel it is a file
//! without a name, as it is on Linux.

use super::mapping::MappedFile;
use super::page::{PAGE, Page};
use crate::errno::{Errno, Result};
use crate::fs::inode::{Kind, Metadata, Statistics};
use crate::fs::{Inode, Operations};
use crate::sync::Mutex;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Device number of such objects in /proc/PID/maps: 00:01.
const DEVICE: u64 = 1;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

struct SharedMemory {
    number: u64,
    bytes: u64,
    /// By page index.
    pages: Mutex<BTreeMap<u64, Page>>,
}

/// A new object of `bytes`.
pub(super) fn new(bytes: u64) -> Arc<MappedFile> {
    let number = NEXT_NUMBER.fetch_add(1, Relaxed);
    let inode = Arc::new(SharedMemory { number, bytes, pages: Mutex::new(BTreeMap::new()) });
    Arc::new(MappedFile { inode, path: b"/dev/zero (deleted)".to_vec(), writable: None })
}

impl Inode for SharedMemory {
    fn page(&self, index: u64) -> Result<Page> {
        if index >= self.bytes.div_ceil(PAGE) {
            return Err(Errno::ENXIO);
        }
        let mut pages = self.pages.lock();
        if let Some(page) = pages.get(&index) {
            return Ok(page.clone());
        }
        let page = Page::zeroed()?;
        pages.insert(index, page.clone());
        Ok(page)
    }

    fn size(&self) -> u64 {
        self.bytes
    }

    fn identity(&self) -> (u64, u64) {
        (DEVICE, self.number)
    }

    fn kind(&self) -> Kind {
        Kind::Regular
    }

    fn metadata(&self) -> Metadata {
        Metadata { device: DEVICE, number: self.number, size: self.bytes, ..Metadata::default() }
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn Operations>> {
        Err(Errno::ENXIO)
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}
