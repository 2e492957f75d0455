//! What the parts of an attachment share: the monitor, and the duty to put the guest back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Error, Monitor};

/// A monitor that several may ask, one after the other, and whether the guest is stopped because of us.
#[derive(Debug)]
pub(super) struct Shared {
    monitor: Mutex<Monitor>,
    stopped: AtomicBool,
}

impl Shared {
    pub fn new(monitor: Monitor) -> Shared {
        Shared { monitor: Mutex::new(monitor), stopped: AtomicBool::new(false) }
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

    /// Lets the guest go on if it was stopped by us.
    pub fn go_on(&self) -> Result<(), Error> {
        self.go_on_with(&mut self.monitor())
    }

    fn go_on_with(&self, monitor: &mut Monitor) -> Result<(), Error> {
        match self.stopped.swap(false, Ordering::SeqCst) {
            true => monitor.resume(),
            false => Ok(()),
        }
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
