//! Sources that run: a guest that is attached to, and one that is started for the look.

use std::path::Path;

use anyhow::{Context, Result};
use ringwall_audit::document::Audit;
use ringwall_emulator::Attached;

use super::Looker;
use crate::progress::Wait;

impl Looker {
    pub(super) fn attached(&self, qmp: &Path) -> Result<Audit> {
        let place = qmp.display().to_string();
        let source = format!("QEMU at {place}");
        let mut guest = Attached::connect(&place)?;
        self.interrupt.guard(guest.restorer());
        self.hold_and_look(source, &mut guest)
    }

    /// Stops a guest in ring 3, looks, and lets it go on.
    fn hold_and_look(&self, source: String, guest: &mut Attached) -> Result<Audit> {
        let wait = Wait::new("ring 3");
        let held = guest.hold(self.limit).with_context(|| source.clone())?;
        drop(wait);
        let audit = self.at(source.clone(), held.memory(), &held.registers);
        // What was seen while reads failed is not the guest's fault, and says nothing.
        if let Some(trouble) = held.memory().trouble() {
            return Err(trouble).context(source);
        }
        held.release().context(source)?;
        audit
    }
}
