//! The terminal on the serial line: /dev/console, /dev/ttyS0 and, where it controls, /dev/tty.
//!
//! Input comes from the serial interrupt, which arrives only while a program or the idle loop runs,
//! so never under a lock taken here on the same CPU. Output is written straight to the line.
//!
//! A session has this terminal exactly if [`Terminal`] names it: there is no other.

mod control;

use super::current;
use super::transfer::{Sink, Source};
use super::turn::Turn;
use super::{File, Operations};
use crate::errno::{Errno, Result};
use crate::sync::WaitQueue;
use crate::sync::{Lazy, Mutex};
use crate::{arch::serial, task, time};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use linux_raw_sys::general as abi;
use ringwall_line::Discipline;

/// The terminal.
pub struct Terminal {
    discipline: Mutex<Discipline>,
    readable: WaitQueue,
    /// Woken when output goes on after ^S.
    restarted: WaitQueue,
    reading: Turn,
    /// Lines of several writers do not mix.
    writing: Turn,
    /// Session that it controls, 0 for none.
    session: AtomicU32,
    /// Process group in the foreground.
    foreground: AtomicU32,
    /// Rows, columns and pixels, as TIOCGWINSZ packs them.
    window: AtomicU64,
    activity: AtomicU32,
}

/// The only one.
pub static TERMINAL: Lazy<Arc<Terminal>> = Lazy::new(|| {
    Arc::new(Terminal {
        discipline: Mutex::new(Discipline::new()),
        readable: WaitQueue::new(),
        restarted: WaitQueue::new(),
        reading: Turn::new(),
        writing: Turn::new(),
        session: AtomicU32::new(0),
        foreground: AtomicU32::new(0),
        window: AtomicU64::new(0),
        activity: AtomicU32::new(0),
    })
});

/// Bytes that are processed between two looks at the world.
const CHUNK: usize = 128;

/// Collects bytes for the line.
struct Batch {
    bytes: [u8; CHUNK],
    length: usize,
}

impl Batch {
    const fn new() -> Batch {
        Batch { bytes: [0; CHUNK], length: 0 }
    }

    fn push(&mut self, byte: u8) {
        if self.length == CHUNK {
            self.send();
        }
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn send(&mut self) {
        serial::write(&self.bytes[..self.length]);
        self.length = 0;
    }
}

/// A byte from the serial line (called from its interrupt).
pub fn input(byte: u8) {
    let terminal = &**TERMINAL;
    let effect = {
        let mut discipline = terminal.discipline.lock();
        let mut batch = Batch::new();
        let effect = discipline.input(byte, &mut |byte| batch.push(byte));
        batch.send();
        effect
    };
    if let Some(signal) = effect.signal {
        let group = terminal.foreground.load(Ordering::Relaxed);
        if group != 0 {
            let _ = task::signal_group(group, signal);
        }
    }
    if effect.readable {
        terminal.activity.fetch_add(1, Ordering::Relaxed);
        terminal.readable.wake_all();
    }
    if effect.restarted {
        terminal.restarted.wake_all();
    }
}

/// The leader of `session` has ended: the session loses its terminal, and the foreground group is
/// told.
pub fn leader_ended(session: u32) {
    let terminal = &**TERMINAL;
    let order = Ordering::Relaxed;
    if terminal.session.compare_exchange(session, 0, order, order).is_err() {
        return;
    }
    let group = terminal.foreground.swap(0, Ordering::Relaxed);
    if group != 0 {
        let _ = task::signal_group(group, abi::SIGHUP);
        let _ = task::signal_group(group, abi::SIGCONT);
    }
}

/// The controlling terminal of `session` as /proc/PID/stat shows it: device number and foreground
/// group.
pub fn of_session(session: u32) -> (u64, i32) {
    let terminal = &**TERMINAL;
    if session == 0 || terminal.session.load(Ordering::Relaxed) != session {
        return (0, -1);
    }
    let device = super::inode::device_number(4, 64);
    (device, terminal.foreground.load(Ordering::Relaxed) as i32)
}

/// Opens the terminal. `controls`: it may become the controlling terminal of the opener.
pub fn open(controls: bool, flags: u32) -> Arc<Terminal> {
    let readable = flags & abi::O_ACCMODE != abi::O_WRONLY;
    if controls && readable && flags & abi::O_NOCTTY == 0 {
        TERMINAL.adopt(false);
    }
    TERMINAL.clone()
}

/// Opens the controlling terminal of the current process (/dev/tty).
///
/// # Errors
/// `ENXIO` if it has none.
pub fn open_own() -> Result<Arc<Terminal>> {
    if TERMINAL.controls_caller() { Ok(TERMINAL.clone()) } else { Err(Errno::ENXIO) }
}

impl Terminal {
    /// Becomes the controlling terminal of the caller's session, if the caller leads one and the
    /// terminal is free (or `force`). Whether it is now.
    fn adopt(&self, force: bool) -> bool {
        let session = current::session();
        if current::pid() != session {
            return false;
        }
        let order = Ordering::Relaxed;
        let taken = self.session.compare_exchange(0, session, order, order);
        match taken {
            Ok(_) => {}
            Err(owner) if owner == session => return true,
            Err(_) if force => self.session.store(session, order),
            Err(_) => return false,
        }
        self.foreground.store(current::group(), order);
        true
    }

    fn controls_caller(&self) -> bool {
        let session = current::session();
        session != 0 && self.session.load(Ordering::Relaxed) == session
    }

    /// Job control: a background process that reads or changes the terminal is stopped.
    ///
    /// # Errors
    /// `ERESTARTSYS` after the signal was sent; `EIO` where it would be without effect.
    fn check_foreground(&self, signal: u32) -> Result<()> {
        if !self.controls_caller() {
            return Ok(());
        }
        let group = current::group();
        let foreground = self.foreground.load(Ordering::Relaxed);
        if foreground == 0 || foreground == group {
            return Ok(());
        }
        if current::ignores(signal) {
            return if signal == abi::SIGTTIN { Err(Errno::EIO) } else { Ok(()) };
        }
        if task::table::group_is_orphaned(group) {
            return Err(Errno::EIO);
        }
        let _ = task::signal_group(group, signal);
        Err(Errno::ERESTARTSYS)
    }

    /// Copies out what there is. Gives the bytes, and whether the read is complete.
    fn take(&self, sink: &mut Sink<'_>) -> Result<(usize, bool)> {
        let mut done = 0;
        let mut chunk = [0; CHUNK];
        loop {
            let most = sink.remaining().min(CHUNK);
            let (copied, taken, complete) = self.discipline.lock().peek(&mut chunk[..most]);
            if taken == 0 {
                return Ok((done, sink.remaining() == 0));
            }
            if let Err(error) = sink.put(&chunk[..copied]) {
                return if done > 0 { Ok((done, true)) } else { Err(error) };
            }
            self.discipline.lock().consume(taken);
            done += copied;
            if complete {
                return Ok((done, true));
            }
        }
    }

    /// VMIN and VTIME of raw input; a whole line otherwise.
    fn demand(&self) -> (usize, u64) {
        let settings = self.discipline.lock().settings;
        if settings.canonical() {
            return (1, 0);
        }
        let character = |index: u32| settings.characters[index as usize];
        (character(abi::VMIN) as usize, u64::from(character(abi::VTIME)) * 100_000_000)
    }
}

impl Operations for Terminal {
    fn read(&self, file: &File, _at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        if sink.remaining() == 0 {
            return Ok(0);
        }
        self.check_foreground(abi::SIGTTIN)?;
        let _turn = if file.nonblocking() {
            self.reading.try_take().ok_or(Errno::EAGAIN)?
        } else {
            self.reading.take()?
        };
        let mut done = 0;
        loop {
            let (least, gap) = self.demand();
            let (moved, complete) = match self.take(sink) {
                Ok(moved) => moved,
                Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
            };
            done += moved;
            if complete || done > 0 && done >= least {
                return Ok(done);
            }
            if file.nonblocking() {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            // Without VMIN, VTIME limits the whole wait; with it, the gap between two bytes.
            let timed = gap > 0 && (least == 0 || done > 0);
            if least == 0 && gap == 0 {
                return Ok(done);
            }
            let deadline = timed.then(|| time::now().saturating_add(gap));
            let waited = self
                .readable
                .wait_until(deadline, || (self.discipline.lock().available() > 0).then_some(()));
            match waited {
                Ok(()) => {}
                Err(Errno::ETIMEDOUT) => return Ok(done),
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
            self.check_foreground(abi::SIGTTIN)?;
        }
    }

    fn write(&self, file: &File, _at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        let stops = self.discipline.lock().settings.local & abi::TOSTOP != 0;
        if stops {
            self.check_foreground(abi::SIGTTOU)?;
        }
        let _turn = if file.nonblocking() {
            self.writing.try_take().ok_or(Errno::EAGAIN)?
        } else {
            self.writing.take()?
        };
        let mut done = 0;
        let mut chunk = [0; CHUNK];
        while source.remaining() > 0 {
            if self.discipline.lock().stopped {
                if file.nonblocking() {
                    return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
                }
                let waited = self
                    .restarted
                    .wait_until(None, || (!self.discipline.lock().stopped).then_some(()));
                if let Err(error) = waited {
                    return if done > 0 { Ok(done) } else { Err(error) };
                }
            }
            let length = source.remaining().min(CHUNK);
            let taken = match source.take_some(&mut chunk[..length]) {
                Ok(taken) => taken,
                Err(error) => return if done > 0 { Ok(done) } else { Err(error) },
            };
            let mut discipline = self.discipline.lock();
            let mut batch = Batch::new();
            let settings = discipline.settings;
            for &byte in &chunk[..taken] {
                discipline.output.post(byte, &settings, &mut |byte| batch.push(byte));
            }
            batch.send();
            drop(discipline);
            done += taken;
            // The line is slow, and whoever writes much may be wanted to stop.
            if taken < length || task::breathe() {
                break;
            }
        }
        Ok(done)
    }

    fn poll(&self, _file: &File) -> u32 {
        let discipline = self.discipline.lock();
        let least = match discipline.settings.characters[abi::VMIN as usize] {
            _ if discipline.settings.canonical() => 1,
            _ if discipline.settings.characters[abi::VTIME as usize] != 0 => 1,
            least => (least as usize).max(1),
        };
        let mut events = 0;
        if discipline.available() >= least {
            events |= abi::POLLIN | abi::POLLRDNORM;
        }
        if !discipline.stopped {
            events |= abi::POLLOUT | abi::POLLWRNORM;
        }
        events
    }

    fn queues(&self, _file: &File) -> [Option<&WaitQueue>; 2] {
        [Some(&self.readable), Some(&self.restarted)]
    }

    fn activity(&self) -> u32 {
        self.activity.load(Ordering::Relaxed)
    }

    fn control(&self, _file: &File, request: u32, argument: u64) -> Result<usize> {
        self.ioctl(request, argument)
    }
}
