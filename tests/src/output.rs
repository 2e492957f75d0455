//! What a boot has left: its serial log and the way it ended. Every check shows the log if it fails.

use ringwall_emulator::Exit;

/// A boot that is over.
#[derive(Clone, Debug)]
pub struct Output {
    /// Everything that came over the first serial port.
    pub serial: String,
    /// How the guest ended.
    pub exit: Exit,
}

impl Output {
    /// Checks that the guest switched the machine off.
    ///
    /// # Panics
    ///
    /// When it ended in another way.
    pub fn powered_off(&self) -> &Output {
        assert!(self.exit == Exit::PoweredOff, "the guest ended with {:?}; {self}", self.exit);
        self
    }

    /// Checks that the guest came to an end by itself: power-off or reset, but no hang.
    ///
    /// # Panics
    ///
    /// When it hung, or QEMU ended for another reason.
    pub fn ended(&self) -> &Output {
        let ended = matches!(self.exit, Exit::PoweredOff | Exit::Reset);
        assert!(ended, "the guest ended with {:?}; {self}", self.exit);
        self
    }

    /// Checks that the guest wrote `text`.
    ///
    /// # Panics
    ///
    /// When it did not.
    pub fn says(&self, text: &str) -> &Output {
        assert!(self.serial.contains(text), "the guest did not say {text:?}; {self}");
        self
    }

    /// Checks that the guest did not write `text`.
    ///
    /// # Panics
    ///
    /// When it did.
    pub fn never_says(&self, text: &str) -> &Output {
        assert!(!self.serial.contains(text), "the guest said {text:?}; {self}");
        self
    }

    /// Checks that our init ran `program` and that all its checks passed.
    ///
    /// # Panics
    ///
    /// When a check failed or the program did not end.
    pub fn passed(&self, program: &str) -> &Output {
        self.powered_off().says(&format!("PASS {program}\n")).says("run: PASS")
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "its log:\n{}", self.serial)
    }
}
