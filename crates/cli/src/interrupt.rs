//! Ctrl-C: an attached guest goes on as it was found, a started one ends, and so does the program.
//!
//! A thread waits for the signals. A guest that was stopped for a look is let go by its [`Restorer`], which waits for
//! the command to QEMU that is under way; a second Ctrl-C does not wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use ringwall_emulator::Restorer;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit status when the look was broken off: it could not be finished.
const STATUS: i32 = 2;

/// What has to be put back before the program may end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    guests: Arc<Mutex<Vec<Restorer>>>,
}

impl Interrupt {
    /// Waits for Ctrl-C and its like from now on.
    ///
    /// # Errors
    ///
    /// When the operating system gives no handler or no thread.
    pub fn new() -> Result<Interrupt> {
        let interrupt = Interrupt::default();
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot wait for signals")?;
        let handler = interrupt.clone();
        let wait = move || {
            let mut signals = signals.forever();
            if signals.next().is_none() {
                return;
            }
            thread::spawn(move || handler.end());
            if signals.next().is_some() {
                std::process::exit(STATUS);
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(wait)
            .context("cannot start a thread")?;
        Ok(interrupt)
    }

    /// From now on this guest is put back before the program ends.
    pub fn guard(&self, guest: Restorer) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).push(guest);
    }

    fn end(&self) {
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        for guest in guests.iter() {
            if let Err(error) = guest.restore() {
                eprintln!("ringwall: the guest may still be stopped: {error}");
            }
        }
        eprintln!("ringwall: interrupted");
        std::process::exit(STATUS);
    }
}
