//! A look at every scenario, at random moments in ring 3, as a matter of course.
//!
//! ```text
//!   boot ──┬────┬───────┬────────────┬─────────────────────┬──── ... at most 12
//!        0.1 s          each gap longer than the one before, up to half more or less of it by chance
//! ```
//!
//! While a scenario waits for its guest, the guest is stopped now and then. If a CPU is in ring 3 then, all that user
//! mode can see is audited and held against `kernel/visible.toml`; then the guest goes on. It cannot tell: its clocks
//! stand still meanwhile.
//!
//! Not looked at are guests that
//!
//! - run without isolation, or another kernel than ours and the example: the expectations are not theirs;
//! - count instructions: a stop moves the moments at which host and guest meet, and the counts have to repeat;
//! - are stepped by a gdb stub: it owns the stops, and `windows` looks at every instruction anyway;
//! - run in Bochs: it has no monitor;
//! - switch their isolation off, which is told, of course, or replace LDTs all the time ([`crate::Boot::replaces_ldts`]);
//! - are broken on purpose, or leave their stacks unscrubbed, for a check that has to notice that by itself. [`crate::Boot::looked_at`] asks for
//!   looks nevertheless.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ringwall_audit::Expectations;
use ringwall_audit::document::{Audit, Finding};
use ringwall_cli::cpu;
use ringwall_emulator::{Error, Guest};

use crate::looking::audit;
use crate::made;

/// What may be visible.
const EXPECTATIONS: &str = include_str!("../../kernel/visible.toml");

/// Most looks at one boot.
const MOST: u32 = 12;
/// The mean of the first pause, and how much longer each is than the one before.
const FIRST: Duration = Duration::from_millis(100);
const LONGER: f64 = 1.6;

/// A guest that is in the kernel is tried again so often, so soon.
const TRIES: u32 = 8;
const AGAIN: Duration = Duration::from_millis(2);

/// How long a guest may take to stop on a busy host.
const PATIENCE: Duration = Duration::from_secs(60);
/// A guest whose monitor has hung up is given so long to end.
const FAREWELL: Duration = Duration::from_secs(40);

/// Repeats the pauses of a run that failed.
const SEED: &str = "RINGWALL_SEED";

/// The looks at one boot.
#[derive(Debug)]
pub struct Looks {
    random: fastrand::Rng,
    seed: u64,
    started: Instant,
    next: Instant,
    pause: Duration,
    moments: u32,
    /// How often a CPU was in ring 3.
    made: u32,
}

impl Looks {
    /// For a guest that starts now.
    pub fn new() -> Looks {
        let given = std::env::var(SEED).ok().and_then(|digits| digits.parse().ok());
        let seed = given.unwrap_or_else(|| fastrand::u64(..));
        let started = Instant::now();
        let random = fastrand::Rng::with_seed(seed);
        let mut looks =
            Looks { random, seed, started, next: started, pause: FIRST, moments: 0, made: 0 };
        looks.plan();
        looks
    }

    /// How long it is until the next look; `None` when there have been enough.
    pub fn pause(&self) -> Option<Duration> {
        let left = self.next.saturating_duration_since(Instant::now());
        (self.moments < MOST).then_some(left)
    }

    /// How often a CPU was in ring 3 when the guest was looked at.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Some time, no longer than `longest`.
    pub fn any_pause(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.random.f64())
    }

    fn plan(&mut self) {
        self.next = Instant::now() + self.pause.mul_f64(0.5 + self.random.f64());
        self.pause = self.pause.mul_f64(LONGER);
    }

    /// Stops the guest, looks if a CPU is in ring 3, and lets it go on. A guest that has ended meanwhile is none of
    /// this function's business.
    ///
    /// # Panics
    ///
    /// When user mode sees something that is not declared, or the monitor of a guest that runs does not answer.
    pub fn look(&mut self, guest: &mut Guest) {
        self.moments += 1;
        self.plan();
        let after = self.started.elapsed();
        let seen = (0..TRIES).find_map(|number| {
            if number > 0 {
                std::thread::sleep(AGAIN * number);
            }
            stopped_audit(guest).transpose()
        });
        let mut audit = match seen {
            Some(Ok(audit)) => audit,
            Some(Err(error)) => {
                let ended = guest.end_if_shut_down() || guest.console.wait_for_end(FAREWELL);
                assert!(ended, "could not look: {error}; its log:\n{}", guest.console.text());
                return;
            }
            None => return,
        };
        self.made += 1;
        if let Some(told) = undeclared(&mut audit) {
            panic!(
                "user mode sees what kernel/visible.toml does not declare, {:.3} s after the start, in look {} \
                 ({SEED}={}):\n{told}its log:\n{}",
                after.as_secs_f64(),
                self.made,
                self.seed,
                guest.console.text()
            );
        }
    }
}

/// Holds an audit against `kernel/visible.toml`; in words what is wrong, if something is.
pub fn undeclared(audit: &mut Audit) -> Option<String> {
    EXPECTED.apply(audit);
    (!audit.findings.is_empty()).then(|| told(audit))
}

impl Default for Looks {
    fn default() -> Looks {
        Looks::new()
    }
}

/// Leaves a line for `cargo xtask test`, which sums up.
impl Drop for Looks {
    fn drop(&mut self) {
        if let Some(path) = made::looks() {
            let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
            // It is a number for people: no reason for a test to fail, least of all while another panic is under way.
            let _ = file.and_then(|mut file| file.write_all(format!("{}\n", self.made).as_bytes()));
        }
    }
}

static EXPECTED: LazyLock<Expectations> =
    LazyLock::new(|| Expectations::parse(EXPECTATIONS).unwrap_or_else(|error| panic!("{error}")));

/// An audit of this very moment; `None` if no CPU is in ring 3.
fn stopped_audit(guest: &mut Guest) -> Result<Option<Audit>, Error> {
    // QEMU that goes down just now does not answer.
    guest.monitor.execute_within("stop", serde_json::json!({}), PATIENCE)?;
    let cpus: Vec<_> = guest.monitor.all_registers()?.iter().map(cpu).collect();
    let audit = cpus.iter().any(|cpu| cpu.in_ring_3()).then(|| audit(&guest.memory, &cpus));
    guest.monitor.resume()?;
    Ok(audit)
}

/// Findings with their places, and what the CPUs were doing.
fn told(audit: &Audit) -> String {
    let mut text = String::new();
    for cpu in &audit.cpus {
        let registers = &cpu.cpu;
        let (index, cpl) = (registers.index, registers.cpl);
        let _ = writeln!(
            text,
            "  CPU {index} in ring {cpl} at {:#x}, CR3 {:#x}",
            registers.rip, registers.cr3
        );
    }
    for Finding { id, title, places, .. } in &audit.findings {
        let _ = writeln!(text, "  {id}: {title}");
        for place in places.iter().take(8) {
            let value = place.value.map(|value| format!(" holds {value:#x}")).unwrap_or_default();
            let (address, bytes) = (place.address, place.bytes);
            let _ = writeln!(text, "    {address:#x}, {bytes} bytes{value}: {}", place.note);
        }
    }
    text
}
