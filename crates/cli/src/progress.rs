//! What a person sees on standard error while they wait: a bar for a look that takes longer than a second, and what a
//! guest that boots is waited for.
//!
//! Where standard error is no terminal there is none of it.

use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::plain;

/// What takes less time than this needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most of a guest's last line that is shown.
const LAST_LINE: usize = 60;

/// A bar that appears when a look has taken a while.
#[derive(Debug)]
pub struct Progress {
    start: Instant,
    bar: OnceCell<ProgressBar>,
    percent: Cell<u64>,
}

impl Progress {
    /// A look begins.
    pub fn new() -> Progress {
        Progress { start: Instant::now(), bar: OnceCell::new(), percent: Cell::new(0) }
    }

    /// So much is done of so much. Cheap enough to be called for every table.
    pub fn update(&self, done: u64, total: u64) {
        let percent = done.min(total).saturating_mul(100) / total.max(1);
        if percent == self.percent.replace(percent) || self.start.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_init(|| {
            let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
            bar.set_style(style("reading page tables {wide_bar} {percent}% {elapsed}"));
            bar
        });
        bar.set_position(percent);
    }

    /// How long it has taken.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A line that says what is waited for, how long already, and what the guest wrote last.
#[derive(Debug)]
pub struct Wait {
    bar: ProgressBar,
    what: String,
}

impl Wait {
    /// A wait for `what` begins.
    pub fn new(what: &str) -> Wait {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(style("{spinner} {elapsed} {wide_msg}"));
        bar.set_message(format!("waiting for {}", plain(what)));
        bar.enable_steady_tick(Duration::from_millis(200));
        Wait { bar, what: what.into() }
    }

    /// Shows the guest's last line beside it.
    pub fn guest_says(&self, console: &str) {
        let Some(line) = console.lines().map(str::trim).rfind(|line| !line.is_empty()) else {
            return;
        };
        let line: String = plain(line).chars().take(LAST_LINE).collect();
        self.bar.set_message(format!("waiting for {}; the guest says: {line}", plain(&self.what)));
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template that a test has seen")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_look_shows_nothing() {
        let progress = Progress::new();
        progress.update(5, 10);
        progress.update(u64::MAX, 0);
        assert!(progress.bar.get().is_none());
    }

    #[test]
    fn a_long_look_shows_a_bar() {
        let mut progress = Progress::new();
        let Some(start) = progress.start.checked_sub(PATIENCE) else { return };
        progress.start = start;
        progress.update(5, 10);
        assert_eq!(progress.bar.get().map(ProgressBar::position), Some(50));
    }

    #[test]
    fn a_wait_has_a_style_and_takes_any_text() {
        let wait = Wait::new("ring 3");
        wait.guest_says("one\n\u{1b}[2Jtwo\n\n");
        assert_eq!(wait.bar.message(), "waiting for ring 3; the guest says: \u{fffd}[2Jtwo");
    }
}
