//! A client of QEMU's gdb stub: single steps, breakpoints, all registers, memory as the CPU sees it.
//!
//! Every answer is waited for with a time limit. Known of the stub, and relied on:
//!
//! - A step is one instruction; SYSCALL, SYSRETQ, IRETQ, INT and an instruction that faults are one step
//!   each and end on the first instruction of the other side. So does an interrupt that arrives.
//! - By default a step holds back interrupts, NMIs and machine checks; they stay pending.
//!   [`Stub::hold_events`] changes that. A step that delivers one may have to be repeated: it can end
//!   where it began.
//! - Breakpoints match an address, mapped or not, under any root. Going on from one stops there
//!   again: step off it first.
//! - The description must have been read, or the stub leaves out the control registers.
//! - Every stop stops all CPUs. A step that names one CPU leaves the others where they are.

mod packet;
mod state;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::{Connection, Error};
use packet::Taken;
use state::Layout;
pub use state::{CpuState, GENERAL, RSP};

/// How long the stub may take to answer what needs no running of the guest; a single step too.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long a stub may take to say that it has stopped the guest for us.
const GREETING_LIMIT: Duration = Duration::from_secs(2);
/// The most that may come without making a packet, and the longest description.
const LONGEST: usize = 1 << 20;
/// The most that is asked for at once: the stub's packets are 4 KiB.
const CHUNK: usize = 0x700;
/// What interrupts a running guest.
const BREAK_IN: &[u8] = b"\x03";

/// A connection to the gdb stub of one guest. One CPU is looked at: the first, unless [`Stub::look_at`] says otherwise.
#[derive(Debug)]
pub struct Stub {
    stream: Connection,
    received: Vec<u8>,
    layout: Layout,
    /// The CPU that was asked for. Without one, a step is one of all CPUs.
    cpu: Option<usize>,
    /// The CPU that the last stop was about.
    stopped: usize,
}

impl Stub {
    pub(crate) fn new(stream: impl Into<Connection>) -> Stub {
        let layout = Layout::parse("");
        Stub { stream: stream.into(), received: Vec::new(), layout, cpu: None, stopped: 0 }
    }

    /// Takes over a connection to the stub of a guest that runs. The stub stops it and says so by itself.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`].
    pub(crate) fn attach(stream: Connection) -> Result<Stub, Error> {
        stream.set_write_timeout(ANSWER_LIMIT).map_err(Error::host("limit the gdb stub"))?;
        let mut stub = Stub::new(stream);
        match stub.wait_for_stop(GREETING_LIMIT) {
            Err(Error::Silent { source, .. }) if is_late(&source) => stub.stop()?,
            stopped => {
                stopped?;
                stub.describe()?;
            }
        }
        Ok(stub)
    }

    /// Leaves the guest to itself: it runs, and the stub takes no more commands from here.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`].
    pub(crate) fn detach(mut self) -> Result<(), Error> {
        self.succeed("D")
    }

    /// Stops the running guest and reads what the stub's registers are.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] when no answer comes, [`Error::Unreadable`] when it makes no sense.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.write("stop", BREAK_IN)?;
        self.wait_for_stop(ANSWER_LIMIT)?;
        if self.layout.number("rip").is_none() {
            self.describe()?;
        }
        Ok(())
    }

    /// From now on it is about this CPU of the stopped guest: registers, memory as it sees it, breakpoints, single
    /// steps. While it makes a step the others stand still.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`], and [`Error::Refused`] if there is no such CPU.
    pub fn look_at(&mut self, cpu: usize) -> Result<(), Error> {
        self.cpu = Some(cpu);
        self.select(cpu)
    }

    fn select(&mut self, cpu: usize) -> Result<(), Error> {
        self.succeed(&format!("Hg{:x}", cpu + 1))
    }

    /// Lets one CPU run alone, for this long, and stops it wherever it is.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`].
    pub fn run_alone(&mut self, cpu: usize, time: Duration) -> Result<(), Error> {
        self.send(&format!("vCont;c:{:x}", cpu + 1))?;
        std::thread::sleep(time);
        self.write("stop", BREAK_IN)?;
        self.wait_for_stop(ANSWER_LIMIT)
    }

    /// Whether steps hold interrupts, NMIs and machine checks back, which is how the stub begins.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`], and [`Error::Refused`].
    pub fn hold_events(&mut self, hold: bool) -> Result<(), Error> {
        // Bits: 1 single step, 2 no interrupts, 4 no timers.
        self.succeed(if hold { "Qqemu.sstep=7" } else { "Qqemu.sstep=5" })
    }

    /// Executes one instruction.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`].
    pub fn step(&mut self) -> Result<(), Error> {
        match self.cpu {
            None => self.send("vCont;s")?,
            Some(cpu) => self.send(&format!("vCont;s:{:x}", cpu + 1))?,
        }
        self.wait_for_stop(ANSWER_LIMIT)
    }

    /// Lets the guest run until the CPU that is looked at stops at a breakpoint; false if it has not within `limit`, and
    /// it is stopped then wherever it is. Other CPUs pass breakpoints.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`]. The guest's end is [`Error::Silent`].
    pub fn run(&mut self, limit: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + limit;
        loop {
            self.resume()?;
            match self.wait_for_stop(deadline.saturating_duration_since(Instant::now())) {
                Ok(()) if self.cpu.is_none_or(|cpu| cpu == self.stopped) => return Ok(true),
                Ok(()) => {
                    let other = self.stopped;
                    self.send(&format!("vCont;s:{:x}", other + 1))?;
                    self.wait_for_stop(ANSWER_LIMIT)?;
                }
                Err(Error::Silent { source, .. }) if is_late(&source) => {
                    self.write("stop", BREAK_IN)?;
                    self.wait_for_stop(ANSWER_LIMIT)?;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the guest run on.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`].
    pub fn resume(&mut self) -> Result<(), Error> {
        self.send("vCont;c")
    }

    /// Sets a breakpoint at a virtual address.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`], and [`Error::Refused`].
    pub fn set_breakpoint(&mut self, address: u64) -> Result<(), Error> {
        self.succeed(&format!("Z1,{address:x},1"))
    }

    /// Takes a breakpoint away.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`], and [`Error::Refused`] if there is none.
    pub fn clear_breakpoint(&mut self, address: u64) -> Result<(), Error> {
        self.succeed(&format!("z1,{address:x},1"))
    }

    /// All registers of the stopped guest's first CPU.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`].
    pub fn registers(&mut self) -> Result<CpuState, Error> {
        let answer = self.ask("g")?;
        let packet = packet::bytes(&answer).ok_or_else(|| unreadable("g", &answer))?;
        self.layout.read(&packet)
    }

    /// Changes one register, by the stub's name for it.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`], and [`Error::Refused`] if the stub does not let itself be told.
    pub fn set_register(&mut self, name: &str, value: u64) -> Result<(), Error> {
        let Some((number, size)) = self.layout.number(name) else {
            return Err(unreadable("target.xml", name.as_bytes()));
        };
        let digits = packet::digits(&value.to_le_bytes()[..size.min(8)]);
        self.succeed(&format!("P{number:x}={digits}"))
    }

    /// The bytes at a virtual address, through the root that CR3 holds now; `None` where that maps
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`Stub::stop`].
    pub fn read(&mut self, address: u64, length: usize) -> Result<Option<Vec<u8>>, Error> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let chunk = (length - bytes.len()).min(CHUNK);
            let command = format!("m{:x},{chunk:x}", address.wrapping_add(bytes.len() as u64));
            let answer = self.ask(&command)?;
            if answer.first() == Some(&b'E') {
                return Ok(None);
            }
            let part = packet::bytes(&answer).filter(|part| !part.is_empty());
            bytes.extend(part.ok_or_else(|| unreadable(&command, &answer))?);
        }
        Ok(Some(bytes))
    }

    /// Reads the register description, which makes the stub send all registers, too.
    fn describe(&mut self) -> Result<(), Error> {
        let target = self.document("target.xml")?;
        let included = target.split("href=\"").nth(1).and_then(|rest| rest.split('"').next());
        let Some(name) = included else {
            return Err(unreadable("target.xml", target.as_bytes()));
        };
        self.layout = Layout::parse(&self.document(name)?);
        Ok(())
    }

    fn document(&mut self, name: &str) -> Result<String, Error> {
        let mut text = Vec::new();
        loop {
            let command = format!("qXfer:features:read:{name}:{:x},{CHUNK:x}", text.len());
            let answer = self.ask(&command)?;
            match answer.split_first() {
                Some((b'm', part)) if !part.is_empty() && text.len() < LONGEST => text.extend(part),
                Some((b'l', part)) => {
                    text.extend(part);
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
                _ => return Err(unreadable(&command, &answer)),
            }
        }
    }

    fn succeed(&mut self, command: &str) -> Result<(), Error> {
        let answer = self.ask(command)?;
        if answer == b"OK" {
            return Ok(());
        }
        let answer = crate::error::quote(&String::from_utf8_lossy(&answer));
        Err(Error::Refused { command: command.into(), answer })
    }

    fn ask(&mut self, command: &str) -> Result<Vec<u8>, Error> {
        self.send(command)?;
        self.receive(command, ANSWER_LIMIT)
    }

    fn wait_for_stop(&mut self, limit: Duration) -> Result<(), Error> {
        let answer = self.receive("vCont", limit)?;
        match answer.first() {
            Some(b'T' | b'S') => {
                self.stopped = packet::stopped_cpu(&answer).unwrap_or(0);
                // The stub looks at whoever stopped.
                match self.cpu {
                    Some(cpu) if cpu != self.stopped => self.select(cpu),
                    _ => Ok(()),
                }
            }
            // The guest has ended.
            Some(b'W' | b'X') => {
                let source = io::ErrorKind::UnexpectedEof.into();
                Err(Error::Silent { command: "vCont".into(), source })
            }
            _ => Err(unreadable("vCont", &answer)),
        }
    }

    fn send(&mut self, command: &str) -> Result<(), Error> {
        // The first byte acknowledges the packet before.
        let mut bytes = vec![b'+'];
        bytes.extend(packet::frame(command));
        self.write(command, &bytes)
    }

    fn write(&mut self, command: &str, bytes: &[u8]) -> Result<(), Error> {
        let silent = |source| Error::Silent { command: command.into(), source };
        self.stream.write_all(bytes).map_err(silent)
    }

    fn receive(&mut self, command: &str, limit: Duration) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + limit;
        let silent = |source| Error::Silent { command: command.into(), source };
        loop {
            match packet::take(&self.received) {
                Taken::Whole(data, length) => {
                    self.received.drain(..length);
                    return Ok(data);
                }
                Taken::Damaged => return Err(unreadable(command, &self.received)),
                Taken::Part if self.received.len() > LONGEST => {
                    return Err(unreadable(command, &self.received));
                }
                Taken::Part => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(silent(io::ErrorKind::TimedOut.into()));
            }
            self.stream.set_read_timeout(left).map_err(silent)?;
            let mut buffer = [0; 0x2000];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(silent(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.received.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(silent(error)),
            }
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

fn unreadable(command: &str, answer: &[u8]) -> Error {
    Error::unreadable(command, "sense", &String::from_utf8_lossy(answer))
}
