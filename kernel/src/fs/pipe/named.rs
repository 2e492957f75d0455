//! Opening and closing the sides of a pipe; a named one waits until both are open.

use super::Pipe;
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use alloc::sync::{Arc, Weak};
use linux_raw_sys::general as abi;

/// Which sides open flags ask for: reading, writing.
fn sides(flags: u32) -> (bool, bool) {
    match flags & abi::O_ACCMODE {
        abi::O_RDONLY => (true, false),
        abi::O_WRONLY => (false, true),
        _ => (true, true),
    }
}

impl Pipe {
    /// Counts the sides that `flags` open. Gives how often readers and writers have opened it by then.
    pub(super) fn enter(&self, flags: u32) -> (u32, u32) {
        let (read, write) = sides(flags);
        let mut state = self.state.lock();
        state.readers += u32::from(read);
        state.writers += u32::from(write);
        state.reader_opens = state.reader_opens.wrapping_add(u32::from(read));
        state.writer_opens = state.writer_opens.wrapping_add(u32::from(write));
        (state.reader_opens, state.writer_opens)
    }

    /// Counts them out, and tells who waits for the other side.
    pub(super) fn leave(&self, flags: u32) {
        let (read, write) = sides(flags);
        let (readers, writers) = {
            let mut state = self.state.lock();
            state.readers -= u32::from(read);
            state.writers -= u32::from(write);
            (state.readers, state.writers)
        };
        if readers == 0 || writers == 0 {
            self.readable.wake_all();
            self.writable.wake_all();
        }
    }

    pub(super) fn readers(&self) -> bool {
        self.state.lock().readers > 0
    }

    /// Opens the pipe of a FIFO, making it if nobody has it open.
    ///
    /// # Errors
    /// `ENXIO` for a writer that will not wait for a reader, `ERESTARTSYS`, `ENOMEM`.
    pub fn open_named(slot: &Mutex<Weak<Pipe>>, flags: u32) -> Result<Arc<Pipe>> {
        let pipe = {
            let mut slot = slot.lock();
            match slot.upgrade() {
                Some(pipe) => pipe,
                None => {
                    let pipe = Pipe::create()?;
                    *slot = Arc::downgrade(&pipe);
                    pipe
                }
            }
        };
        pipe.wait_for_other_side(flags)?;
        Ok(pipe)
    }

    /// Enters the sides of `flags`; one that is alone waits for the other.
    ///
    /// # Errors
    /// `ENXIO`, `ERESTARTSYS`; the sides are not entered then.
    pub(super) fn wait_for_other_side(&self, flags: u32) -> Result<()> {
        let waits = flags & abi::O_NONBLOCK == 0;
        let (read, write) = sides(flags);
        if write && !read && !waits && !self.readers() {
            return Err(Errno::ENXIO);
        }
        let before = self.enter(flags);
        // Whoever waits to open the other side sleeps on one of these.
        self.readable.wake_all();
        self.writable.wake_all();
        let alone = || {
            let state = self.state.lock();
            if read {
                state.writers == 0 && state.writer_opens == before.1
            } else {
                state.readers == 0 && state.reader_opens == before.0
            }
        };
        if read == write || !waits || !alone() {
            return Ok(());
        }
        let queue = if read { &self.readable } else { &self.writable };
        let waited = queue.wait_until(None, || (!alone()).then_some(()));
        if waited.is_err() {
            self.leave(flags);
        }
        waited
    }
}
