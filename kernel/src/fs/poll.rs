//! Waiting for several files at once.

use super::File;
use crate::errno::{Errno, Result};
use crate::sync::{self, WaitQueue};
use alloc::{sync::Arc, vec::Vec};
use linux_raw_sys::general as abi;

/// Reported whether asked for or not.
pub const ALWAYS: u32 = abi::POLLERR | abi::POLLHUP | abi::POLLNVAL;

/// One file to watch.
pub struct Watch {
    /// The file; `None` is not watched at all.
    pub file: Option<Arc<File>>,
    /// What to wait for, besides [`ALWAYS`].
    pub events: u32,
    /// What there is.
    pub result: u32,
}

impl Watch {
    /// Looks once.
    fn look(&mut self) -> bool {
        if let Some(file) = &self.file {
            self.result = file.poll() & (self.events | ALWAYS);
        }
        self.result != 0
    }
}

/// Looks at all; the number of those with results.
fn look(watches: &mut [Watch]) -> Option<usize> {
    let count = watches.iter_mut().map(Watch::look).filter(|&ready| ready).count();
    (count > 0).then_some(count)
}

/// Waits until one of `watches` has a result, or `deadline` (nanoseconds of [`crate::time::now`])
/// passes. Gives the number of those that have one.
///
/// # Errors
/// `ERESTARTNOHAND` when a signal came, `ENOMEM`.
pub fn wait(watches: &mut [Watch], deadline: Option<u64>) -> Result<usize> {
    wait_with(watches, deadline, look)
}

fn wait_with(
    watches: &mut [Watch],
    deadline: Option<u64>,
    look: impl Fn(&mut [Watch]) -> Option<usize>,
) -> Result<usize> {
    if let Some(count) = look(watches) {
        return Ok(count);
    }
    if deadline.is_some_and(|deadline| deadline <= crate::time::now()) {
        return Ok(0);
    }
    let mut files: Vec<Arc<File>> = Vec::new();
    files.try_reserve_exact(watches.len()).map_err(|_| Errno::ENOMEM)?;
    files.extend(watches.iter().filter_map(|watch| watch.file.clone()));
    let queues = queues(&files)?;
    outcome(sync::wait_on_any(&queues, deadline, || look(watches)))
}

/// As [`wait`] for select, where an unwanted hang-up is not a result: it waits for exactly the
/// events of each watch.
///
/// # Errors
/// As [`wait`].
pub fn wait_exactly(watches: &mut [Watch], deadline: Option<u64>) -> Result<usize> {
    let look = |watches: &mut [Watch]| {
        let count = watches.iter_mut().filter_map(|watch| {
            watch.look();
            watch.result &= watch.events;
            (watch.result != 0).then_some(())
        });
        let count = count.count();
        (count > 0).then_some(count)
    };
    wait_with(watches, deadline, look)
}

/// The queues of all `files`.
///
/// # Errors
/// `ENOMEM`.
pub fn queues(files: &[Arc<File>]) -> Result<Vec<&WaitQueue>> {
    let mut queues = Vec::new();
    queues.try_reserve(files.len() * 2).map_err(|_| Errno::ENOMEM)?;
    queues.extend(files.iter().flat_map(|file| file.queues()).flatten());
    Ok(queues)
}

/// A wait's end as poll reports it: nothing ready when the time is over.
pub fn outcome(waited: Result<usize>) -> Result<usize> {
    match waited {
        Err(Errno::ETIMEDOUT) => Ok(0),
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOHAND),
        other => other,
    }
}
