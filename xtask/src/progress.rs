//! What a person sees of a task: one line per step, with a spinner and a time on a terminal.
//!
//! Without a terminal the same lines come plain, when a step begins and ends.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressStyle};

/// Runs one step that may take a while; `name` says what it does, as in "fetch busybox-static".
///
/// # Errors
///
/// Whatever the step returns.
pub fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    let spinner = std::io::stderr().is_terminal().then(|| spinner(name));
    if spinner.is_none() {
        eprintln!("  ... {name}");
    }
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let mark = if result.is_ok() { style(" done").green() } else { style("failed").red() };
    eprintln!(
        "{} {name} {}",
        mark.for_stderr(),
        style(seconds(start.elapsed())).dim().for_stderr()
    );
    result
}

/// Says something that a person should know, on a line of its own.
pub fn note(text: &str) {
    eprintln!(" {} {text}", style("note").yellow().for_stderr());
}

/// A heading above what follows.
pub fn heading(text: &str) {
    println!("\n{}", style(text).bold().cyan());
}

/// Says why a task failed, with its causes.
pub fn failure(error: &anyhow::Error) {
    eprintln!("{} {error}", style("error:").red().bold().for_stderr());
    for cause in error.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
}

/// A time with a sensible number of digits.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn spinner(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("  {spinner} {msg} {elapsed:.dim}")
        .expect("a template that is tested by every run");
    let bar = ProgressBar::new_spinner().with_style(style).with_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
