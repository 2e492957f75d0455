//! Other programs, run to their end, with errors that say what was run and what it said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress;

/// Runs a command whose output the person should see as it comes; behind the scenes, only if it fails.
///
/// # Errors
///
/// When the program cannot be started or ends with another status than 0.
pub fn run(command: &mut Command) -> Result<()> {
    if progress::is_held() {
        return output(command).map(drop);
    }
    let shown = show(command);
    let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs a command quietly and returns what it wrote to its standard output. On failure the error
/// holds all that it wrote.
///
/// # Errors
///
/// When the program cannot be started or ends with another status than 0.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start `{shown}`"))?;
    checked(&shown, output)
}

/// As [`output`], but kills the command when `limit` has passed.
///
/// # Errors
///
/// As [`output`], and when time is up.
pub fn output_within(limit: Duration, command: &mut Command) -> Result<String> {
    let shown = show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not start `{shown}`"))?;
    if !ended_within(limit, &mut child)? {
        child.kill().ok();
        child.wait().ok();
        bail!("`{shown}` had not ended after {} s and was stopped", limit.as_secs());
    }
    checked(&shown, child.wait_with_output()?)
}

/// The first directory of PATH that has `program`, if any has.
pub fn find(program: impl AsRef<Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(&program)).find(|p| p.is_file())
}

/// Polls for the end of a child that writes less than a pipe holds, if it writes into one.
///
/// # Errors
///
/// When the operating system does not say whether it has ended.
pub fn ended_within(limit: Duration, child: &mut Child) -> Result<bool> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(false)
}

fn checked(shown: &str, output: Output) -> Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = format!("{}\n{}", text.trim(), errors.trim());
    bail!("`{shown}` ended with {}; it said:\n{}", output.status, said.trim());
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args()).map(OsStr::to_string_lossy);
    let mut line = String::new();
    for word in words {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_run_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]))
            .expect_err("status 3");
        let text = error.to_string();
        assert!(text.starts_with("`sh -c"), "{text}");
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.ends_with("out\nerr"), "{text}");
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        let error = output_within(Duration::from_millis(100), Command::new("sleep").arg("60"))
            .expect_err("a time-out");
        assert!(error.to_string().contains("was stopped"));
    }
}
