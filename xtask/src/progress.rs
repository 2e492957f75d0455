//! What a person sees of a task: one line per step, with a spinner and a time on a terminal.
//!
//! Without a terminal the same lines come plain, when a step begins and ends.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use console::style;
use indicatif::{ProgressBar, ProgressStyle};

thread_local! {
    /// Lines of this thread that wait for their place, if it works behind the scenes.
    static HELD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Works behind the scenes: gives the lines that this thread would have shown, for [`show`] to show in their place.
pub fn held<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    HELD.set(Some(Vec::new()));
    let result = work();
    (result, HELD.take().unwrap_or_default())
}

/// Whether this thread works behind the scenes.
pub fn is_held() -> bool {
    HELD.with_borrow(Option::is_some)
}

/// Shows lines, or holds them.
pub fn show(lines: Vec<String>) {
    HELD.with_borrow_mut(|held| match held {
        Some(held) => held.extend(lines),
        None => lines.iter().for_each(|line| eprintln!("{line}")),
    });
}

/// Runs one step that may take a while; `name` says what it does, as in "fetch busybox-static".
///
/// # Errors
///
/// Whatever the step returns.
pub fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    let spinner = (std::io::stderr().is_terminal() && !is_held()).then(|| spinner(name));
    if spinner.is_none() && !is_held() {
        eprintln!("  ... {name}");
    }
    let result = work();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    let mark = if result.is_ok() { style(" done").green() } else { style("failed").red() };
    let time = style(seconds(start.elapsed())).dim();
    show(vec![format!("{} {name} {}", mark.for_stderr(), time.for_stderr())]);
    result
}

/// Says something that a person should know, on a line of its own.
pub fn note(text: &str) {
    show(vec![format!(" {} {text}", style("note").yellow().for_stderr())]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_in_order_and_only_of_its_thread() {
        let (result, lines) = held(|| {
            note("one");
            let (inner, lines) =
                std::thread::spawn(|| held(|| note("two"))).join().expect("no panic");
            show(lines);
            inner
        });
        assert_eq!(result, ());
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("one") && lines[1].contains("two"), "{lines:?}");
        assert!(!is_held());
    }
}
