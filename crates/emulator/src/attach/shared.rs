//! What the parts of an attachment share: the monitor, the gdb stub, and the duty to put the guest back.
//!
//! Who needs both locks takes the monitor's first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::Session;
use crate::{Error, Monitor};

/// A monitor that several may ask, one after the other, and whether the guest is stopped because of us.
#[derive(Debug)]
pub(super) struct Shared {
    monitor: Mutex<Monitor>,
    session: Mutex<Option<Session>>,
    stopped: AtomicBool,
}

impl Shared {
    pub fn new(monitor: Monitor) -> Shared {
        let (monitor, session) = (Mutex::new(monitor), Mutex::new(None));
        Shared { monitor, session, stopped: AtomicBool::new(false) }
    }

    pub fn monitor(&self) -> MutexGuard<'_, Monitor> {
        self.monitor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops a guest that runs.
    pub fn stop(&self) -> Result<(), Error> {
        let mut monitor = self.monitor();
        // Before it is so: letting a guest go that was not stopped does no harm.
        self.stopped.store(true, Ordering::SeqCst);
        monitor.stop()
    }

    /// Connects to the guest's gdb stub, which stops the guest.
    pub fn open_session(&self, place: Option<&str>) -> Result<(), Error> {
        let mut monitor = self.monitor();
        self.stopped.store(true, Ordering::SeqCst);
        let session = Session::open(&mut monitor, place)?;
        *self.session() = Some(session);
        Ok(())
    }

    /// Does something with the gdb stub.
    pub fn with_session(
        &self,
        with: &mut dyn FnMut(&mut Session) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match &mut *self.session() {
            Some(session) => with(session),
            None => {
                let source = std::io::ErrorKind::NotConnected.into();
                Err(Error::Silent { command: "gdb stub".into(), source })
            }
        }
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the guest go on if it was stopped by us.
    pub fn go_on(&self) -> Result<(), Error> {
        self.go_on_with(&mut self.monitor())
    }

    fn go_on_with(&self, monitor: &mut Monitor) -> Result<(), Error> {
        if !self.stopped.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let session = self.session().take();
        let closed = session.map_or(Ok(()), |session| session.close(monitor));
        monitor.execute_at_last("cont", json!({})).and(closed)
    }
}

/// Puts the guest back as it was found, from any thread: for a handler of Ctrl-C.
#[derive(Clone, Debug)]
pub struct Restorer {
    shared: Arc<Shared>,
}

impl Restorer {
    pub(super) fn new(shared: &Arc<Shared>) -> Restorer {
        Restorer { shared: Arc::clone(shared) }
    }

    /// Lets the guest run if it was stopped by us, and leaves it alone from then on: the attachment can ask it nothing
    /// more. Waits for the command that is under way.
    ///
    /// # Errors
    ///
    /// As [`Monitor::execute`]: the guest may still be stopped.
    pub fn restore(&self) -> Result<(), Error> {
        let mut monitor = self.shared.monitor();
        let restored = self.shared.go_on_with(&mut monitor);
        monitor.close();
        restored
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::thread::{JoinHandle, spawn};
    use std::time::Duration;

    use serde_json::Value;

    use super::*;

    /// A monitor that answers everything but what it is to be silent about; in the end, all that it was asked.
    fn monitor(silent: &'static str) -> (Monitor, JoinHandle<Vec<String>>) {
        let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        theirs.write_all(b"{\"QMP\": {}}\n").expect("room");
        let answers = spawn(move || {
            let mut asked = Vec::new();
            let mut output = theirs.try_clone().expect("a descriptor");
            for line in BufReader::new(theirs).lines().map_while(Result::ok) {
                let request: Value = serde_json::from_str(&line).expect("JSON");
                let command = request["execute"].as_str().expect("a command").to_owned();
                if command != silent {
                    let answer = json!({ "return": {}, "id": request["id"] });
                    // Whoever asks may be gone.
                    let _ = writeln!(output, "{answer}");
                }
                asked.push(command);
            }
            asked
        });
        (Monitor::new(ours).expect("a greeting"), answers)
    }

    #[test]
    fn a_guest_is_let_go_after_a_command_that_nobody_answers() {
        let (monitor, answers) = monitor("pmemsave");
        let shared = Shared::new(monitor);
        shared.stop().expect("an answer");
        let missing =
            shared.monitor().execute_within("pmemsave", json!({}), Duration::from_millis(20));
        assert!(missing.is_err());
        shared.go_on().expect("the last answer");
        shared.go_on().expect("nothing to do");
        drop(shared);
        let asked = answers.join().expect("an end");
        assert_eq!(asked, ["qmp_capabilities", "stop", "pmemsave", "cont"]);
    }
}
