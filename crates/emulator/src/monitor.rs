//! QEMU's monitor: QMP, one JSON object a line, and through it the human monitor (HMP).
//!
//! Events arrive between answers; they are kept for [`Monitor::shutdown_reason`]. Every read has a
//! time limit, so a stuck QEMU is an error and not a hang.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Error, Registers};

/// How long an answer may take. `stop` waits for every virtual CPU to leave its translated code.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection to the monitor of one guest.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Monitor {
    /// Takes over a fresh connection: reads the greeting and leaves negotiation mode.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] when QEMU has ended or does not speak QMP.
    pub fn new(stream: UnixStream) -> Result<Monitor, Error> {
        stream.set_read_timeout(Some(ANSWER_LIMIT)).map_err(Error::host("limit the monitor"))?;
        let mut monitor = Monitor { stream: BufReader::new(stream), events: Vec::new() };
        monitor.receive().map_err(|source| Error::Silent { command: "greeting".into(), source })?;
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Executes a QMP command and returns its `return` value.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] when no answer comes, [`Error::Refused`] when QEMU says no.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let silent = |source| Error::Silent { command: command.into(), source };
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        let stream = self.stream.get_mut();
        stream.write_all(request.as_bytes()).map_err(silent)?;
        stream.write_all(b"\n").map_err(silent)?;
        loop {
            let mut message = self.receive().map_err(silent)?;
            if message.get("event").is_some() {
                self.events.push(message);
            } else if let Some(value) = message.get_mut("return") {
                return Ok(value.take());
            } else {
                let answer = message["error"]["desc"].as_str().unwrap_or_default().to_owned();
                return Err(Error::Refused { command: command.into(), answer });
            }
        }
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

    /// Sends the first CPU a non-maskable interrupt. It is dropped if the guest has masked LINT1 of its local
    /// APIC; if the CPU is stopped, it stays pending.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn inject_nmi(&mut self) -> Result<(), Error> {
        self.human("nmi", 0).map(drop)
    }

    /// Makes the first CPU find an error in its machine-check bank `bank` and raise #MC; `status` is what the
    /// bank's MCi_STATUS then says and `global` IA32_MCG_STATUS (SDM vol. 3, 16.3). Without CR4.MCE the
    /// machine shuts down.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`].
    pub fn inject_machine_check(
        &mut self,
        bank: u8,
        status: u64,
        global: u64,
    ) -> Result<(), Error> {
        let command = format!("mce 0 {bank} {status:#x} {global:#x} 0 0");
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

    /// Why the guest ended, in QEMU's words (`guest-shutdown`, `guest-reset`, `guest-panic`, ...),
    /// if it said so. Reads what is left of a closed connection; call it when QEMU has ended.
    pub fn shutdown_reason(&mut self) -> Option<String> {
        while let Ok(message) = self.receive() {
            self.events.push(message);
        }
        let shutdown = self.events.iter().rev().find(|event| event["event"] == "SHUTDOWN")?;
        shutdown["data"]["reason"].as_str().map(str::to_owned)
    }

    fn receive(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        serde_json::from_str(&line).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A monitor that says `script`, whatever it is asked, and then hangs up.
    fn scripted(script: &str) -> Result<Monitor, Error> {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        let text = format!("{{\"QMP\": {{}}}}\n{{\"return\": {{}}}}\n{script}");
        theirs.write_all(text.as_bytes()).expect("room for the script");
        theirs.shutdown(std::net::Shutdown::Write).expect("an open socket");
        // Keeps the other side open for requests.
        std::mem::forget(theirs);
        Monitor::new(ours)
    }

    #[test]
    fn events_before_an_answer_are_kept() {
        let mut monitor = scripted(concat!(
            "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\n",
            "{\"return\": \"text\\r\\n\"}\n",
        ))
        .expect("a greeting");
        assert_eq!(monitor.human("info status", 0).expect("an answer"), "text\n");
        assert_eq!(monitor.shutdown_reason().as_deref(), Some("guest-reset"));
    }

    #[test]
    fn a_refusal_is_an_error_with_its_reason() {
        let mut monitor =
            scripted("{\"error\": {\"desc\": \"no such command\"}}\n").expect("a greeting");
        let error = monitor.execute("nonsense", json!({})).expect_err("a refusal");
        assert_eq!(error.to_string(), "QEMU refused `nonsense`: no such command");
    }

    #[test]
    fn a_closed_connection_is_an_error() {
        let mut monitor = scripted("").expect("a greeting");
        assert!(matches!(monitor.stop(), Err(Error::Silent { .. })));
    }
}
