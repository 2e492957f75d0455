//! A file that is being executed is not written, and the other way round (`ETXTBSY`).

use super::inode::Inode;
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};

/// Writers of an inode if positive, executions if negative.
#[derive(Default)]
pub struct Holds(AtomicI32);

/// One of them, until dropped.
pub struct Hold {
    inode: Arc<dyn Inode>,
    step: i32,
}

impl Hold {
    /// A writer's.
    ///
    /// # Errors
    /// `ETXTBSY` while the file is executed.
    pub fn writing(inode: &Arc<dyn Inode>) -> Result<Hold> {
        Hold::take(inode, 1)
    }

    /// An execution's.
    ///
    /// # Errors
    /// `ETXTBSY` while the file is open for writing.
    pub fn executing(inode: &Arc<dyn Inode>) -> Result<Hold> {
        Hold::take(inode, -1)
    }

    fn take(inode: &Arc<dyn Inode>, step: i32) -> Result<Hold> {
        if let Some(holds) = inode.holds() {
            let add = |now: i32| if now.signum() == -step { None } else { now.checked_add(step) };
            let order = Ordering::AcqRel;
            holds.0.fetch_update(order, Ordering::Acquire, add).map_err(|_| Errno::ETXTBSY)?;
        }
        Ok(Hold { inode: inode.clone(), step })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(holds) = self.inode.holds() {
            holds.0.fetch_sub(self.step, Ordering::AcqRel);
        }
    }
}
