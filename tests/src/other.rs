//! Guests that somebody else started, as far as `ringwall` can tell: it has their monitor's socket and nothing more.

use std::path::Path;
use std::time::{Duration, Instant};

use ringwall_emulator::{Attached, Launched, Registers};
use tempfile::{NamedTempFile, TempDir};

use crate::boot::Boot;

/// How long a guest may take for anything, on a slow host and with others beside it.
const PATIENCE: Duration = Duration::from_secs(240);

/// A guest with a QMP socket that everybody may connect to. QEMU ends when this is dropped.
#[derive(Debug)]
pub struct Other {
    /// For who is not somebody else.
    pub launched: Launched,
    directory: TempDir,
    socket: String,
    _image: NamedTempFile,
}

impl Other {
    /// Starts it with `more` arguments for QEMU, and waits until it has said `ready`.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn start(boot: &Boot, more: &[&str], ready: &str) -> Other {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("qmp").to_str().expect("a path in UTF-8").to_owned();
        let listen = format!("unix:{socket},server=on,wait=off");
        let more: Vec<&str> = more.iter().copied().chain(["-qmp", &listen]).collect();
        let (launched, image) = boot.launch(&more);
        let came = launched.console.wait_for(ready, PATIENCE);
        assert!(came, "the guest never said {ready:?}: {}", launched.said());
        Other { launched, directory, socket, _image: image }
    }

    /// Where its monitor listens.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// A directory that is gone with it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Connects to it.
    ///
    /// # Panics
    ///
    /// When nobody answers.
    pub fn attach(&self) -> Attached {
        Attached::connect(&self.socket).expect("a monitor")
    }

    /// Whether it runs.
    ///
    /// # Panics
    ///
    /// When the monitor does not answer.
    pub fn runs(&self) -> bool {
        self.launched.attached.monitor().running().expect("a monitor that answers")
    }

    /// Its CPUs' registers. They change, if it runs.
    ///
    /// # Panics
    ///
    /// When the monitor does not answer.
    pub fn registers(&self) -> Vec<Registers> {
        self.launched.attached.monitor().all_registers().expect("a monitor that answers")
    }

    /// Waits until its CPUs have been in HLT at many looks in a row.
    ///
    /// # Panics
    ///
    /// When they never are.
    pub fn falls_asleep(&self) {
        let (start, mut halted) = (Instant::now(), 0);
        while halted < 20 {
            assert!(start.elapsed() < PATIENCE, "it does not sleep");
            std::thread::sleep(Duration::from_millis(10));
            halted = if self.registers().iter().all(|cpu| cpu.halted) { halted + 1 } else { 0 };
        }
    }
}
