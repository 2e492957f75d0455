//! Pipes, with and without a name.
//!
//! Invariant: bytes leave the ring only after they reached the reader, and count as written only
//! after they came from the writer; so a copy that faults changes nothing. A write of at most
//! `PIPE_BUF` bytes goes in whole, and is counted once, when all of it is there: a reader on another
//! CPU never finds a part of it.

mod named;
mod ring;

use super::inode::{Inode, Kind, Metadata, Statistics};
use super::transfer::{Sink, Source};
use super::turn::Turn;
use super::{File, Operations, file::Origin, memory::anonymous_device};
use crate::errno::{Errno, Result};
use crate::mm::Page;
use crate::sync::WaitQueue;
use crate::sync::{Lazy, Mutex};
use crate::task::{self, Breath};
use crate::{time, user};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::{general as abi, ioctl};
use ring::{PAGE, Ring};

/// Largest write that is never torn.
const PIPE_BUF: usize = 4096;
/// Pages of a new pipe.
const SLOTS: usize = 16;
/// Largest capacity that can be asked for, in pages (fs.pipe-max-size).
const MOST_SLOTS: usize = 256;

/// In [`Pipe::activity`]: somebody has asked for the queues. By edges, a write is an event even where nobody has read what
/// was there before, so all writes wake from then on; others need the first alone.
const POLLED: u32 = 1;
/// In [`Pipe::activity`]: one more read or write.
const ONCE_MORE: u32 = 2;

/// A pipe.
pub struct Pipe {
    state: Mutex<State>,
    reading: Turn,
    writing: Turn,
    readable: WaitQueue,
    writable: WaitQueue,
    /// [`POLLED`], and how often bytes came or went, in steps of [`ONCE_MORE`].
    activity: AtomicU32,
    number: u64,
    created: u64,
}

struct State {
    ring: Ring,
    readers: u32,
    writers: u32,
    /// How often each side was opened, for those who wait for it.
    reader_opens: u32,
    writer_opens: u32,
}

/// Why no more bytes moved.
enum Stop {
    /// All did.
    Done,
    /// The other side is closed.
    Closed,
    /// Nothing there, or no room.
    Wait,
    /// The copy failed.
    Fault(Errno),
}

impl Pipe {
    fn create() -> Result<Arc<Pipe>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let state = State {
            ring: Ring::new(SLOTS)?,
            readers: 0,
            writers: 0,
            reader_opens: 0,
            writer_opens: 0,
        };
        Ok(Arc::new(Pipe {
            state: Mutex::new(state),
            reading: Turn::new(),
            writing: Turn::new(),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
            activity: AtomicU32::new(0),
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            created: time::realtime(),
        }))
    }

    /// A nameless pipe: its reading and its writing end.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn pair(flags: u32) -> Result<(Arc<File>, Arc<File>)> {
        let pipe = Pipe::create()?;
        let (read, write) = (flags | abi::O_RDONLY, flags | abi::O_WRONLY);
        pipe.enter(read);
        pipe.enter(write);
        let end = |flags| File::with(pipe.clone(), pipe.clone(), Origin::Nameless("pipe:"), flags);
        Ok((end(read), end(write)))
    }

    /// Moves bytes out until the sink is full or the pipe empty.
    #[inline]
    fn try_read(&self, sink: &mut Sink<'_>) -> Result<(usize, Stop)> {
        let _turn = self.reading.take()?;
        let mut done = 0;
        let mut wake = false;
        let mut breath = Breath::start();
        let stop = loop {
            if sink.remaining() == 0 {
                break Stop::Done;
            }
            let (start, length) = {
                let state = self.state.lock();
                match state.ring.front(sink.remaining()) {
                    Some(front) => front,
                    None if state.writers == 0 => break Stop::Closed,
                    None => break Stop::Wait,
                }
            };
            // SAFETY: the bytes lie in a page of the ring that only this side, whose turn is ours,
            // can release; no writer touches them before they are consumed.
            let bytes = unsafe { core::slice::from_raw_parts(start, length) };
            if let Err(error) = sink.put(bytes) {
                break Stop::Fault(error);
            }
            let mut state = self.state.lock();
            wake |= state.ring.free() < PIPE_BUF;
            state.ring.consume(length, !self.writing.is_taken());
            drop(state);
            done += length;
            if sink.remaining() > 0 && breath.ends_after(length) {
                break Stop::Fault(Errno::ERESTARTSYS);
            }
        };
        if wake {
            self.activity.fetch_add(ONCE_MORE, Ordering::Relaxed);
            self.writable.wake_all();
        }
        Ok((done, stop))
    }

    /// Moves bytes in until the source is empty or the pipe full; if `whole`, all or none.
    #[inline]
    fn try_write(&self, source: &mut Source<'_>, whole: bool) -> Result<(usize, Stop)> {
        let _turn = self.writing.take()?;
        let mut done = 0;
        let mut wake = false;
        let mut breath = Breath::start();
        let stop = loop {
            if source.remaining() == 0 {
                break Stop::Done;
            }
            let back = {
                let state = self.state.lock();
                if state.readers == 0 {
                    break Stop::Closed;
                }
                let free = state.ring.free();
                if free == 0 || whole && done == 0 && free < source.remaining() {
                    break Stop::Wait;
                }
                state.ring.back(0, source.remaining())
            };
            let Some((start, mut length)) = back else {
                match Page::zeroed() {
                    Ok(page) => self.state.lock().ring.supply(0, page),
                    Err(error) => break Stop::Fault(error),
                }
                continue;
            };
            // SAFETY: the room lies behind the last byte, in a page of the ring; only this side,
            // whose turn is ours, touches it before it is counted.
            let bytes = unsafe { core::slice::from_raw_parts_mut(start, length) };
            if let Err(error) = source.take(bytes) {
                break Stop::Fault(error);
            }
            if whole && source.remaining() > 0 {
                match self.fill_next_page(length, source) {
                    Ok(more) => length += more,
                    Err(error) => break Stop::Fault(error),
                }
            }
            let mut state = self.state.lock();
            wake |= state.ring.available() == 0;
            state.ring.produce(length);
            drop(state);
            done += length;
            // A reader on another CPU that is as fast never lets it wait.
            if source.remaining() > 0 && breath.ends_after(length) {
                break Stop::Fault(Errno::ERESTARTSYS);
            }
        };
        let mut polled = false;
        if done > 0 {
            polled = self.activity.fetch_add(ONCE_MORE, Ordering::SeqCst) & POLLED != 0;
        }
        if wake || polled {
            self.readable.wake_all();
        }
        Ok((done, stop))
    }

    /// Copies the rest of a write of at most `PIPE_BUF` bytes, `before` of which are in the ring's page before. The turn
    /// to write is the caller's, and there is room. Readers see none of it before the caller counts it.
    #[cold]
    fn fill_next_page(&self, before: usize, source: &mut Source<'_>) -> Result<usize> {
        let (start, length) = loop {
            let back = self.state.lock().ring.back(before, source.remaining());
            match back {
                Some(room) => break room,
                None => {
                    let page = Page::zeroed()?;
                    self.state.lock().ring.supply(before, page);
                }
            }
        };
        // SAFETY: as in `try_write`; the ring does not start anew while the turn to write is taken, so the room stays
        // where it was found.
        source.take(unsafe { core::slice::from_raw_parts_mut(start, length) })?;
        Ok(length)
    }

    fn capacity(&self) -> usize {
        self.state.lock().ring.capacity()
    }

    /// F_GETPIPE_SZ.
    pub fn size(&self) -> usize {
        self.capacity()
    }

    /// F_SETPIPE_SZ: gives the capacity it has then.
    ///
    /// # Errors
    /// `EINVAL`, `EPERM` if too large, `EBUSY` if the contents do not fit, `ENOMEM`.
    pub fn resize(&self, bytes: usize) -> Result<usize> {
        if bytes > i32::MAX as usize {
            return Err(Errno::EINVAL);
        }
        let slots = bytes.div_ceil(PAGE).max(1).next_power_of_two();
        if slots > MOST_SLOTS {
            return Err(Errno::EPERM);
        }
        let _reading = self.reading.take()?;
        let _writing = self.writing.take()?;
        self.state.lock().ring.resize(slots)?;
        self.writable.wake_all();
        Ok(slots * PAGE)
    }
}

impl Operations for Pipe {
    fn read(&self, file: &File, _at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        if sink.remaining() == 0 {
            return Ok(0);
        }
        loop {
            match self.try_read(sink)? {
                (done, _) if done > 0 => return Ok(done),
                (_, Stop::Wait) if !file.nonblocking() => {}
                (_, Stop::Wait) => return Err(Errno::EAGAIN),
                (_, Stop::Fault(error)) => return Err(error),
                _ => return Ok(0),
            }
            self.readable.wait_until(None, || {
                let state = self.state.lock();
                (state.ring.available() > 0 || state.writers == 0).then_some(())
            })?;
        }
    }

    fn write(&self, file: &File, _at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        let total = source.remaining();
        if total == 0 {
            return Ok(0);
        }
        let whole = total <= PIPE_BUF;
        let needed = if whole { total } else { 1 };
        let mut done = 0;
        let or_done = |done: usize, error| if done > 0 { Ok(done) } else { Err(error) };
        loop {
            let (moved, stop) = match self.try_write(source, whole) {
                Ok(result) => result,
                Err(error) => return or_done(done, error),
            };
            done += moved;
            match stop {
                Stop::Done => return Ok(done),
                Stop::Closed => {
                    task::signal_current(abi::SIGPIPE);
                    return or_done(done, Errno::EPIPE);
                }
                Stop::Fault(error) => return or_done(done, error),
                Stop::Wait if file.nonblocking() => return or_done(done, Errno::EAGAIN),
                Stop::Wait => {}
            }
            let waited = self.writable.wait_until(None, || {
                let state = self.state.lock();
                (state.ring.free() >= needed || state.readers == 0).then_some(())
            });
            if let Err(error) = waited {
                return or_done(done, error);
            }
        }
    }

    fn poll(&self, file: &File) -> u32 {
        let (read, write) = file.modes();
        let state = self.state.lock();
        let mut events = 0;
        if read {
            if state.ring.available() > 0 {
                events |= abi::POLLIN | abi::POLLRDNORM;
            }
            if state.writers == 0 && state.writer_opens > 0 {
                events |= abi::POLLHUP;
            }
        }
        if write {
            if state.ring.free() >= PIPE_BUF {
                events |= abi::POLLOUT | abi::POLLWRNORM;
            }
            if state.readers == 0 {
                events |= abi::POLLERR;
            }
        }
        events
    }

    fn queues(&self, file: &File) -> [Option<&WaitQueue>; 2] {
        let (read, write) = file.modes();
        self.activity.fetch_or(POLLED, Ordering::SeqCst);
        [read.then_some(&self.readable), write.then_some(&self.writable)]
    }

    fn activity(&self) -> u32 {
        self.activity.load(Ordering::Relaxed) & !POLLED
    }

    fn control(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        if request != ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let available = self.state.lock().ring.available() as u32;
        user::write(argument, &available)?;
        Ok(0)
    }

    fn released(&self, flags: u32) {
        self.leave(flags);
    }

    fn pipe(&self) -> Option<&Pipe> {
        Some(self)
    }
}

/// Device number of nameless pipes.
static DEVICE: Lazy<u64> = Lazy::new(anonymous_device);

impl Inode for Pipe {
    fn identity(&self) -> (u64, u64) {
        (*DEVICE, self.number)
    }

    fn kind(&self) -> Kind {
        Kind::Fifo
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            device: *DEVICE,
            number: self.number,
            mode: abi::S_IFIFO | 0o600,
            links: 1,
            accessed: self.created,
            modified: self.created,
            changed: self.created,
            ..Metadata::default()
        }
    }

    fn open(self: Arc<Self>, flags: u32) -> Result<Arc<dyn Operations>> {
        self.wait_for_other_side(flags)?;
        Ok(self)
    }

    fn statistics(&self) -> Statistics {
        Statistics { magic: abi::PIPEFS_MAGIC, ..Statistics::default() }
    }
}
