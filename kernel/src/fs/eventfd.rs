//! eventfd: a counter to wait for.

use super::file::Origin;
use super::nameless::Nameless;
use super::transfer::{Sink, Source};
use super::{File, Operations};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use crate::sync::WaitQueue;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use linux_raw_sys::general as abi;

/// The counter; its largest value is one less than `u64::MAX`.
struct Event {
    count: Mutex<u64>,
    semaphore: bool,
    readable: WaitQueue,
    writable: WaitQueue,
    activity: AtomicU32,
}

/// A new eventfd; `flags` are eventfd2's.
///
/// # Errors
/// `EINVAL`.
pub fn create(initial: u32, flags: u32) -> Result<Arc<File>> {
    if flags & !(abi::EFD_SEMAPHORE | abi::EFD_CLOEXEC | abi::EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let event = Arc::new(Event {
        count: Mutex::new(u64::from(initial)),
        semaphore: flags & abi::EFD_SEMAPHORE != 0,
        readable: WaitQueue::new(),
        writable: WaitQueue::new(),
        activity: AtomicU32::new(0),
    });
    let open = abi::O_RDWR | flags & abi::O_NONBLOCK;
    let origin = Origin::Nameless("anon_inode:[eventfd]");
    Ok(File::with(event, Nameless::inode(), origin, open))
}

impl Event {
    fn take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        if *count == 0 {
            return None;
        }
        let value = if self.semaphore { 1 } else { *count };
        *count -= value;
        Some(value)
    }

    fn add(&self, value: u64) -> Option<()> {
        let mut count = self.count.lock();
        if u64::MAX - *count <= value {
            return None;
        }
        *count += value;
        Some(())
    }
}

impl Operations for Event {
    fn read(&self, file: &File, _at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        if sink.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let value = match self.take() {
            Some(value) => value,
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => self.readable.wait_until(None, || self.take())?,
        };
        self.activity.fetch_add(1, Ordering::Relaxed);
        self.writable.wake_all();
        sink.put(&value.to_ne_bytes())?;
        Ok(8)
    }

    fn write(&self, file: &File, _at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        if source.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut bytes = [0; 8];
        source.take(&mut bytes)?;
        let value = u64::from_ne_bytes(bytes);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        match self.add(value) {
            Some(()) => {}
            None if file.nonblocking() => return Err(Errno::EAGAIN),
            None => self.writable.wait_until(None, || self.add(value))?,
        }
        self.activity.fetch_add(1, Ordering::Relaxed);
        self.readable.wake_all();
        Ok(8)
    }

    fn poll(&self, _file: &File) -> u32 {
        let count = *self.count.lock();
        let mut events = 0;
        if count > 0 {
            events |= abi::POLLIN;
        }
        if count < u64::MAX - 1 {
            events |= abi::POLLOUT;
        }
        events
    }

    fn queues(&self, _file: &File) -> [Option<&WaitQueue>; 2] {
        [Some(&self.readable), Some(&self.writable)]
    }

    fn activity(&self) -> u32 {
        self.activity.load(Ordering::Relaxed)
    }
}
