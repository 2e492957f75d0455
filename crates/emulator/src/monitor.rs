//! QEMU's monitor: QMP, one JSON object a line, and through it the human monitor (HMP).
//!
//! Events arrive between answers; of them only the reason of a shutdown is kept. Every answer has a time limit and a
//! largest size, so a stuck QEMU, or something that is none, is an error and not a hang. An answer that came too late
//! is told from the next one by its number.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::quote;
use crate::{Connection, Error, MemoryRange, Registers};

/// How long an answer may take. `stop` waits for every virtual CPU to leave its translated code.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long the greeting of a QEMU that runs already may take. It serves one client at a time and lets others wait.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// How long the answer to the last command may take, when another one is missing already.
const LAST_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may still take when QEMU has said that the guest has ended: it may hang then, and never answer.
const AFTER_THE_END: Duration = Duration::from_secs(5);
/// The longest answer. `info tlb` of a kernel with all of its memory mapped is a few MiB.
const LONGEST_ANSWER: usize = 48 << 20;
/// The longest answer that is read as any JSON: a value takes many times the space of its text. Longer ones can only
/// be a string.
const LONGEST_VALUE: usize = 1 << 20;
/// Longer reasons are none.
const LONGEST_REASON: usize = 100;

/// A connection to the monitor of one guest.
#[derive(Debug)]
pub struct Monitor {
    stream: Connection,
    /// What has come and was not yet used.
    received: Vec<u8>,
    /// How much of that is known to hold no line end.
    searched: usize,
    /// The number of the command that was sent last.
    number: u64,
    /// No answer came, or the owner is done: there is nothing to be asked any more.
    closed: bool,
    shutdown: Option<String>,
}

/// An answer that is too long to be anything but text.
#[derive(Deserialize)]
struct LongText {
    id: Option<u64>,
    #[serde(rename = "return")]
    text: String,
}

impl Monitor {
    /// Connects to a monitor that QEMU offers with `-qmp unix:PATH,server=on,wait=off` or `-qmp tcp:...`; see
    /// [`Connection::open`].
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Busy`] when nobody greets, [`Error::Unreadable`] when what does is no QMP.
    pub fn connect(place: &str) -> Result<Monitor, Error> {
        let connected = Connection::open(place);
        let stream = connected.map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => Error::Busy { place: place.into(), source },
            _ => Error::Connect { place: place.into(), source },
        })?;
        Monitor::greeted(stream, GREETING_LIMIT).map_err(|error| match error {
            Error::Silent { source, .. } => Error::Busy { place: place.into(), source },
            other => other,
        })
    }

    /// Takes over a fresh connection: reads the greeting and leaves negotiation mode.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] when QEMU has ended, [`Error::Unreadable`] when it does not speak QMP.
    pub fn new(stream: impl Into<Connection>) -> Result<Monitor, Error> {
        Monitor::greeted(stream.into(), ANSWER_LIMIT)
    }

    fn greeted(stream: Connection, limit: Duration) -> Result<Monitor, Error> {
        stream.set_write_timeout(ANSWER_LIMIT).map_err(Error::host("limit the monitor"))?;
        let mut monitor = Monitor {
            stream,
            received: Vec::new(),
            searched: 0,
            number: 0,
            closed: false,
            shutdown: None,
        };
        let greeting = monitor
            .receive(Instant::now() + limit)
            .map_err(|source| Error::Silent { command: "greeting".into(), source })?;
        if greeting.get("QMP").is_none() {
            return Err(Error::unreadable("greeting", "QMP in it", &greeting.to_string()));
        }
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Executes a QMP command and returns its `return` value.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] when no answer comes, and for every command after that; [`Error::Refused`] when QEMU says no.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.execute_within(command, arguments, ANSWER_LIMIT)
    }

    /// As [`Monitor::execute`], for what may take longer or must not take as long.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn execute_within(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, Error> {
        let silent = |source| Error::Silent { command: command.into(), source };
        if self.closed {
            return Err(silent(io::ErrorKind::NotConnected.into()));
        }
        let answer = self.ask(command, arguments, Instant::now() + limit);
        // What comes after a missing answer cannot be trusted to belong to anything.
        self.closed |= answer.is_err();
        let mut message = answer.map_err(silent)?;
        if let Some(value) = message.get_mut("return") {
            return Ok(value.take());
        }
        let answer = quote(message["error"]["desc"].as_str().unwrap_or_default());
        Err(Error::Refused { command: command.into(), answer })
    }

    fn ask(&mut self, command: &str, arguments: Value, mut deadline: Instant) -> io::Result<Value> {
        self.number += 1;
        let request = json!({ "execute": command, "arguments": arguments, "id": self.number });
        self.stream.write_all(format!("{request}\n").as_bytes())?;
        loop {
            let message = self.receive(deadline)?;
            let answer = message.get("return").is_some() || message.get("error").is_some();
            if answer && message.get("id").is_none_or(|id| *id == self.number) {
                return Ok(message);
            }
            if message["event"] == "SHUTDOWN" {
                deadline = deadline.min(Instant::now() + AFTER_THE_END);
            }
        }
    }

    /// Refuses every command from now on.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Executes a command of the human monitor and returns what it prints.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn human(&mut self, command: &str, cpu: usize) -> Result<String, Error> {
        let arguments = json!({ "command-line": command, "cpu-index": cpu });
        let answer = self.execute("human-monitor-command", arguments)?;
        Ok(answer.as_str().unwrap_or_default().replace("\r\n", "\n"))
    }

    /// Stops all virtual CPUs, each between two instructions.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn stop(&mut self) -> Result<(), Error> {
        self.execute("stop", json!({})).map(drop)
    }

    /// Lets all virtual CPUs run.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn resume(&mut self) -> Result<(), Error> {
        self.execute("cont", json!({})).map(drop)
    }

    /// Executes a command that puts something back, though an answer may be missing and nothing else can be asked any
    /// more: QEMU reads what is sent to it in order, so this is obeyed once it is done with what kept it.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`]. The command was sent then, unless nobody is there.
    pub(crate) fn execute_at_last(&mut self, command: &str, arguments: Value) -> Result<(), Error> {
        if !self.closed {
            return self.execute(command, arguments).map(drop);
        }
        let answer = self.ask(command, arguments, Instant::now() + LAST_LIMIT);
        answer.map(drop).map_err(|source| Error::Silent { command: command.into(), source })
    }

    /// Sends every CPU a non-maskable interrupt. It is dropped where the guest has masked LINT1 of the local
    /// APIC; if the CPU is stopped, it stays pending.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn inject_nmi(&mut self) -> Result<(), Error> {
        self.human("nmi", 0).map(drop)
    }

    /// [`Monitor::inject_machine_check_on`] the first CPU.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn inject_machine_check(
        &mut self,
        bank: u8,
        status: u64,
        global: u64,
    ) -> Result<(), Error> {
        self.inject_machine_check_on(0, bank, status, global)
    }

    /// Makes a CPU find an error in its machine-check bank `bank` and raise #MC; `status` is what the
    /// bank's MCi_STATUS then says and `global` IA32_MCG_STATUS (SDM vol. 3, 16.3). Without CR4.MCE the
    /// machine shuts down.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn inject_machine_check_on(
        &mut self,
        cpu: usize,
        bank: u8,
        status: u64,
        global: u64,
    ) -> Result<(), Error> {
        let command = format!("mce {cpu} {bank} {status:#x} {global:#x} 0 0");
        let said = self.human(&command, 0)?;
        match said.trim() {
            "" => Ok(()),
            answer => Err(Error::Refused { command, answer: answer.into() }),
        }
    }

    /// The registers of one CPU. Only a stopped guest has a consistent set.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`], and [`Error::Unreadable`] if QEMU's listing has changed shape.
    pub fn registers(&mut self, cpu: usize) -> Result<Registers, Error> {
        Registers::parse(&self.human("info registers", cpu)?)
    }

    /// The registers of all CPUs, in ascending order. Only a stopped guest has a consistent set.
    ///
    /// # Errors
    ///
    /// As [`Monitor::registers`].
    pub fn all_registers(&mut self) -> Result<Vec<Registers>, Error> {
        Registers::parse_all(&self.human("info registers -a", 0)?)
    }

    /// Which physical addresses are memory, in ascending order.
    ///
    /// # Errors
    ///
    /// As [`Monitor::registers`].
    pub fn memory_ranges(&mut self) -> Result<Vec<MemoryRange>, Error> {
        MemoryRange::parse_all(&self.human("info mtree -f", 0)?)
    }

    /// Whether the guest runs: its CPUs are not stopped by anybody.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn running(&mut self) -> Result<bool, Error> {
        let status = self.execute("query-status", json!({}))?;
        let running = status.get("running").and_then(Value::as_bool);
        running.ok_or_else(|| Error::unreadable("query-status", "`running`", &status.to_string()))
    }

    /// Whether QEMU has said, before or instead of an answer, that the guest has ended.
    pub fn has_shut_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Why the guest ended, in QEMU's words (`guest-shutdown`, `guest-reset`, `guest-panic`, ...),
    /// if it said so. Reads what is left of a closed connection; call it when QEMU has ended.
    pub fn shutdown_reason(&mut self) -> Option<String> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        while self.receive(deadline).is_ok() {}
        self.shutdown.clone()
    }

    /// The next message. Notes a shutdown in passing.
    fn receive(&mut self, deadline: Instant) -> io::Result<Value> {
        let end = self.line(deadline)?;
        let line = &self.received[..end];
        let message = if line.len() <= LONGEST_VALUE {
            serde_json::from_slice::<Value>(line)
        } else {
            serde_json::from_slice::<LongText>(line)
                .map(|long| json!({ "return": long.text, "id": long.id.unwrap_or(self.number) }))
        };
        self.received.drain(..=end);
        self.searched = 0;
        if self.received.is_empty() {
            // A long answer's space is not kept.
            self.received.shrink_to(LONGEST_VALUE);
        }
        let message = message.map_err(io::Error::from)?;
        if message["event"] == "SHUTDOWN" {
            let reason = message["data"]["reason"].as_str().unwrap_or_default();
            self.shutdown = Some(reason.chars().take(LONGEST_REASON).collect());
        }
        Ok(message)
    }

    /// Receives until there is a whole line and says where its end is.
    fn line(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut chunk = [0; 1 << 16];
        loop {
            let fresh = &self.received[self.searched..];
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                return Ok(self.searched + end);
            }
            self.searched = self.received.len();
            if self.searched > LONGEST_ANSWER {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer has no end"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(left)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests;
