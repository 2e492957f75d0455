//! The memory of a guest that is asked for it by its monitor, or shared with it, or both.
//!
//! QMP's `pmemsave` writes physical memory to a file. It would read devices, too, and some of those change when they
//! are read; so only what the machine calls memory is asked for. One round trip takes as long as copying half a
//! megabyte, so whole blocks are fetched and kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use super::cache::Cache;
use super::scratch::Scratch;
use super::shared::Shared;
use crate::Memory;
use crate::error::Error;
use crate::memory::GuestMemory;
use crate::ranges::{self, MemoryRange};

/// Blocks begin at multiples of this, in bytes, and are so long.
const BLOCK: u64 = 256 << 10;
/// How long one block may take.
const BLOCK_LIMIT: Duration = Duration::from_secs(10);
/// How long all blocks of one stop may take together.
const TOTAL_LIMIT: Duration = Duration::from_secs(120);

/// The physical memory of an attached guest.
#[derive(Debug)]
pub struct AttachedMemory {
    shared: Arc<Shared>,
    ranges: Vec<MemoryRange>,
    /// RAM that both sides hold, if there is some.
    direct: Option<GuestMemory>,
    fetched: Mutex<Fetched>,
}

#[derive(Debug)]
struct Fetched {
    cache: Cache,
    scratch: Option<Scratch>,
    waited: Duration,
    /// Why nothing more can be read.
    trouble: Option<Error>,
}

impl AttachedMemory {
    pub(super) fn new(shared: Arc<Shared>, direct: Option<GuestMemory>) -> AttachedMemory {
        let fetched = Fetched {
            cache: Cache::default(),
            scratch: None,
            waited: Duration::ZERO,
            trouble: None,
        };
        AttachedMemory { shared, ranges: Vec::new(), direct, fetched: Mutex::new(fetched) }
    }

    /// Asks where memory is, and forgets what was read. To be called when the guest has stopped.
    pub(super) fn refresh(&mut self) -> Result<(), Error> {
        self.ranges = self.shared.monitor().memory_ranges()?;
        if let Some(direct) = &mut self.direct {
            direct.lay_out(&self.ranges);
        }
        let fetched = self.fetched.get_mut().unwrap_or_else(PoisonError::into_inner);
        fetched.cache.clear();
        fetched.waited = Duration::ZERO;
        fetched.trouble = None;
        Ok(())
    }

    /// Where memory is, in ascending order.
    pub fn ranges(&self) -> &[MemoryRange] {
        &self.ranges
    }

    /// Why reads have failed that should not have: QEMU is gone, or cannot write where we can read. To be asked after
    /// a look; what was seen then is not the guest's fault.
    pub fn trouble(&self) -> Option<Error> {
        self.fetched.lock().unwrap_or_else(PoisonError::into_inner).trouble.take()
    }

    /// Copies from the block that holds `address` and says how many bytes that were.
    fn copy(&self, address: u64, buffer: &mut [u8]) -> Option<usize> {
        let range = ranges::find(&self.ranges, address)?;
        let start = (address & !(BLOCK - 1)).max(range.start);
        let end = (address | (BLOCK - 1)).saturating_add(1).min(range.end);
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.cache.get(start).is_none() {
            if fetched.trouble.is_some() {
                return None;
            }
            match fetched.fetch(&self.shared, start, (end - start) as usize) {
                Ok(bytes) => fetched.cache.insert(start, bytes),
                Err(error) => {
                    fetched.trouble = Some(error);
                    return None;
                }
            }
        }
        let block = fetched.cache.get(start)?;
        let rest = block.get((address - start) as usize..)?;
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Some(length)
    }
}

impl Memory for AttachedMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        if let Some(direct) = &self.direct
            && direct.read(address, buffer)
        {
            return true;
        }
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else { return false };
            match self.copy(at, &mut buffer[done..]) {
                Some(length) if length > 0 => done += length,
                _ => return false,
            }
        }
        true
    }

    fn holds(&self, address: u64, bytes: u64) -> bool {
        ranges::hold(&self.ranges, address, bytes)
    }
}

impl Fetched {
    /// Asks for a block; a file that QEMU cannot reach is replaced once.
    fn fetch(&mut self, shared: &Shared, start: u64, length: usize) -> Result<Box<[u8]>, Error> {
        let begin = Instant::now();
        if self.waited > TOTAL_LIMIT {
            let source = std::io::ErrorKind::TimedOut.into();
            return Err(Error::Silent { command: "pmemsave".into(), source });
        }
        let fetched = match &self.scratch {
            Some(scratch) => save(shared, scratch, start, length),
            None => {
                let (scratch, bytes) = first(shared, start, length)?;
                self.scratch = Some(scratch);
                Ok(bytes)
            }
        };
        self.waited += begin.elapsed();
        fetched
    }
}

/// Finds a file that works.
fn first(shared: &Shared, start: u64, length: usize) -> Result<(Scratch, Box<[u8]>), Error> {
    let in_memory = Scratch::in_memory()?;
    if let Ok(bytes) = save(shared, &in_memory, start, length) {
        return Ok((in_memory, bytes));
    }
    let on_disk = Scratch::on_disk()?;
    let bytes = save(shared, &on_disk, start, length)?;
    Ok((on_disk, bytes))
}

fn save(shared: &Shared, scratch: &Scratch, start: u64, length: usize) -> Result<Box<[u8]>, Error> {
    scratch.clear()?;
    let arguments = json!({ "val": start, "size": length, "filename": scratch.path() });
    let answer = shared.monitor().execute_within("pmemsave", arguments, BLOCK_LIMIT);
    answer.map_err(|error| match error {
        Error::Refused { answer, .. } => Error::Hidden { answer },
        other => other,
    })?;
    let written = scratch.contents(length)?.filter(|bytes| bytes.len() == length);
    let missing = || Error::Hidden { answer: "it says that it did".into() };
    written.map(Vec::into_boxed_slice).ok_or_else(missing)
}
