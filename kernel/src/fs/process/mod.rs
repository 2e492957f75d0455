//! /proc.

pub use kernel::COMMAND_LINE;

mod kernel;
mod links;
mod processor;
mod ringwall;
mod state;
mod tables;
mod totals;

use super::current;
use super::generated::{self, Node};
use crate::errno::{Errno, Result};
use crate::task::{self, Process};
use alloc::sync::Arc;
use linux_raw_sys::general::PROC_SUPER_MAGIC;

/// A new instance.
pub fn create() -> Arc<Node> {
    generated::create(&tables::ROOT, PROC_SUPER_MAGIC, 0)
}

/// User and group of process `pid`.
pub fn owner(pid: u32) -> (u32, u32) {
    task::find(pid).map_or((0, 0), |process| current::owner(&process))
}

/// The process that a file is about.
fn process(subject: &generated::Subject) -> Result<Arc<Process>> {
    task::find(subject.process).ok_or(Errno::ESRCH)
}
