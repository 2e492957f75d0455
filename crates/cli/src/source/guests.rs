//! Sources that run: a guest that is attached to, and one that is started for the look.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ringwall_audit::document::{Audit, BaseMotion, Boots, Motion};
use ringwall_emulator::{Attached, Held, Launched};

use super::Looker;
use crate::progress::Wait;
use crate::terminal::note;

/// A started guest may live so much longer than it is waited for: longer than any look takes. It ends with this
/// program in any case.
const FOR_THE_LOOK: Duration = Duration::from_secs(24 * 60 * 60);
/// So many boots are no chance.
const ENOUGH: usize = 3;
/// How often the wait for the console's text looks at the guest.
const TICK: Duration = Duration::from_millis(200);

impl Looker {
    pub(super) fn attached(&self, qmp: &Path) -> Result<Audit> {
        let place = qmp.display().to_string();
        let source = format!("QEMU at {place}");
        let mut guest = Attached::connect(&place)?;
        self.interrupt.guard(guest.restorer());
        let wait = Wait::new("ring 3");
        let held = match self.gdb.as_deref() {
            None => guest.hold(self.limit),
            Some("") => guest.catch(None, self.limit),
            stub => guest.catch(stub, self.limit),
        };
        let held = held.with_context(|| source.clone())?;
        drop(wait);
        let audit = self.held(source.clone(), &held);
        held.release().context(source)?;
        audit
    }

    /// Boots a guest as often as asked for. What all boots say together is in the first one's audit.
    pub(super) fn run(
        &self,
        arguments: &[OsString],
        after: Option<&str>,
        boots: u32,
    ) -> Result<Vec<Audit>> {
        let mut audits = Vec::new();
        for boot in 1..=boots {
            if boots > 1 {
                note(&format!("boot {boot} of {boots}"));
            }
            let mut audit = self.boot(arguments, after)?;
            if boot > 1 {
                // Of these only findings and addresses are needed, and there may be many.
                for view in &mut audit.views {
                    (view.user, view.filled, view.anomalies) = Default::default();
                }
            }
            audits.push(audit);
        }
        if boots > 1 {
            compare_boots(&mut audits);
        }
        Ok(audits)
    }

    fn boot(&self, arguments: &[OsString], after: Option<&str>) -> Result<Audit> {
        let deadline = Instant::now() + self.limit;
        let mut guest = Launched::start(arguments, self.limit + FOR_THE_LOOK)?;
        if let Some(text) = after {
            wait_for(&guest, text, deadline)?;
        }
        let wait = Wait::new("ring 3");
        let left = deadline.saturating_duration_since(Instant::now());
        let held = guest.catch(left)?;
        drop(wait);
        self.held(name(arguments), &held)
    }

    fn held(&self, source: String, held: &Held) -> Result<Audit> {
        let audit = self.at(source.clone(), held.memory(), &held.registers);
        // What was seen while reads failed is not the guest's fault, and says nothing.
        match held.memory().trouble() {
            Some(trouble) => Err(trouble).context(source),
            None => audit,
        }
    }
}

/// Adds what the boots say together to the first of them.
fn compare_boots(audits: &mut [Audit]) {
    let (boots, mut findings) = ringwall_audit::boots::boots(audits);
    if decided(&boots) {
        // What one boot made likely, several have shown or refuted.
        for audit in &mut *audits {
            audit.findings.retain(|finding| finding.id != "moves-with-kernel");
        }
    }
    let Some(first) = audits.first_mut() else { return };
    for finding in &mut findings {
        // A place that only a later boot has is in a view that is not shown.
        finding.places.retain(|place| place.view < first.views.len());
    }
    first.boots = Some(boots);
    first.findings.extend(findings);
    first.findings.sort_by_key(|finding| Reverse(finding.severity));
}

/// Whether the boots tell for sure what moves with what: the image was found, and enough of them were made.
fn decided(boots: &Boots) -> bool {
    let image = boots.bases.iter().any(|base| base.name == "kernel image");
    let bases = boots.bases.iter().all(|base| base.motion != BaseMotion::Undecided);
    image
        && bases
        && boots.tracks.iter().all(|track| track.motion != Motion::Undecided)
        && boots.boots >= ENOUGH
}

/// What a started guest is called: by its kernel and the kernel's command line.
fn name(arguments: &[OsString]) -> String {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let value = |option: &str| {
        let mut pairs = words.windows(2);
        pairs.find(|pair| pair[0].trim_start_matches('-') == option).map(|pair| pair[1].clone())
    };
    match (value("kernel"), value("append")) {
        (Some(kernel), Some(line)) => format!("QEMU with {kernel} ({line})"),
        (Some(kernel), None) => format!("QEMU with {kernel}"),
        _ => "QEMU, started for this".into(),
    }
}

/// Waits until the guest has written `text` to its console.
fn wait_for(guest: &Launched, text: &str, deadline: Instant) -> Result<()> {
    let wait = Wait::new(&format!("{text:?} on the console"));
    while !guest.console.wait_for(text, TICK) {
        wait.guest_says(&guest.console.text());
        let why = if guest.ended().is_some() || guest.console.closed() {
            "the guest ended"
        } else if Instant::now() >= deadline {
            "the time was up (--limit)"
        } else {
            continue;
        };
        drop(wait);
        bail!(
            "{why} before it wrote {text:?} to its first serial port; the last it said:\n{}",
            guest.said()
        );
    }
    Ok(())
}
