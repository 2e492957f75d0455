//! The gdb stub of an attached guest, for as long as it is needed.
//!
//! A stub stops the guest when somebody connects, and its breakpoints stay in the guest when the connection closes:
//! the guest would stop at one with nobody there. So whoever ends a session takes the breakpoints away first, lets the
//! guest run, and switches the stub off if it was off before.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Connection, CpuState, Error, Monitor, Stub};

/// A connection to the stub, with what has to be undone.
#[derive(Debug)]
pub(super) struct Session {
    stub: Stub,
    breakpoints: Vec<u64>,
    /// Where the stub's socket is, if the stub was switched on by us.
    ours: Option<TempDir>,
}

impl Session {
    /// Connects to the stub at `place`, or switches one on. The guest is stopped then.
    pub fn open(monitor: &mut Monitor, place: Option<&str>) -> Result<Session, Error> {
        if let Some(place) = place {
            return Ok(Session { stub: connect(place)?, breakpoints: Vec::new(), ours: None });
        }
        let devices = monitor.execute("query-chardev", json!({}))?;
        let is_stub = |device: &Value| device["label"] == "gdb";
        if devices.as_array().is_some_and(|devices| devices.iter().any(is_stub)) {
            let answer = "it has a gdb stub already, which may be in use: name its socket".into();
            return Err(Error::Refused { command: "gdbserver".into(), answer });
        }
        let directory = tempfile::tempdir().map_err(Error::host("make a directory"))?;
        let socket = directory.path().join("gdb").to_string_lossy().into_owned();
        let said = monitor.human(&format!("gdbserver unix:{socket},server=on,wait=off"), 0)?;
        match connect(&socket) {
            Ok(stub) => Ok(Session { stub, breakpoints: Vec::new(), ours: Some(directory) }),
            Err(Error::Connect { .. }) => {
                let answer = crate::error::quote(said.trim());
                Err(Error::Refused { command: "gdbserver".into(), answer })
            }
            Err(error) => {
                switch_off(monitor);
                Err(error)
            }
        }
    }

    /// Makes these addresses the only ones that the guest stops at.
    pub fn break_at(&mut self, addresses: &[u64]) -> Result<(), Error> {
        while let Some(address) = self.breakpoints.last() {
            self.stub.clear_breakpoint(*address)?;
            self.breakpoints.pop();
        }
        for address in addresses {
            self.stub.set_breakpoint(*address)?;
            self.breakpoints.push(*address);
        }
        Ok(())
    }

    /// Lets the guest run for a while; true if it has stopped at a breakpoint. It is stopped in any case.
    pub fn run(&mut self, limit: Duration) -> Result<bool, Error> {
        self.stub.run(limit)
    }

    /// Executes one instruction of the CPU that has stopped: it would not get past a breakpoint otherwise.
    pub fn step(&mut self) -> Result<(), Error> {
        self.stub.step()
    }

    /// The CPU that has stopped.
    pub fn stopped(&mut self) -> Result<CpuState, Error> {
        self.stub.registers()
    }

    /// Undoes everything. The guest runs.
    pub fn close(mut self, monitor: &mut Monitor) -> Result<(), Error> {
        let cleared = self.break_at(&[]);
        let detached = self.stub.detach();
        if self.ours.is_some() {
            switch_off(monitor);
        }
        cleared.and(detached)
    }
}

fn connect(place: &str) -> Result<Stub, Error> {
    let refused = |source| Error::Connect { place: place.into(), source };
    Stub::attach(Connection::open(place).map_err(refused)?)
}

fn switch_off(monitor: &mut Monitor) {
    // If the monitor does not answer, what follows will say so.
    let none = json!({ "command-line": "gdbserver none" });
    let _ = monitor.execute_at_last("human-monitor-command", none);
}
