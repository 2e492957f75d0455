//! Runs tests, each as a process of its own, as many at a time as there are CPUs.
//!
//! Cargo runs one test program after the other, and at the end of each most CPUs wait for its longest test. Here they
//! go on with the next program. Cargo still builds them.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::tally::Tally;
use crate::parallel::each;
use crate::progress::seconds;
use crate::workspace::{made, root};

/// Programs with tests that take a minute: they begin first, so that none of them is left for the end.
const LONG: [&str; 5] = ["selftests", "same", "bochs", "windows", "bounds"];

/// How many of the slowest tests are named at the end.
const NAMED: usize = 8;

/// Which tests to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Arguments for `cargo test` that say which programs.
    pub programs: &'a [&'a str],
    /// Of these, the tests whose name contains this.
    pub filter: Option<&'a str>,
    /// The ignored ones instead of the others.
    pub ignored: bool,
    /// Run on this kernel instead of ours.
    pub kernel: Option<&'a Path>,
}

/// A program that cargo has built of tests.
#[derive(Clone, Debug)]
struct Program {
    name: String,
    file: PathBuf,
    /// The package's directory, in which cargo would run it.
    directory: PathBuf,
}

/// A test.
#[derive(Clone, Debug)]
struct Test<'a> {
    program: &'a Program,
    name: String,
}

/// Builds the programs, runs the tests, shows a line for each, and counts.
///
/// # Errors
///
/// When a program does not build or a test fails.
pub fn run(selection: &Selection<'_>, tally: &mut Tally) -> Result<()> {
    let programs = build(selection.programs)?;
    let mut tests = Vec::new();
    for program in &programs {
        let ignored = program.list(selection, true)?;
        let chosen = match selection.ignored {
            true => ignored,
            false => {
                tally.ignored += ignored.len() as u64;
                program.list(selection, false)?.difference(&ignored).cloned().collect()
            }
        };
        tests.extend(chosen.into_iter().map(|name| Test { program, name }));
    }
    tests.sort_by_key(|test| !LONG.contains(&test.program.name.as_str()));
    let ends = Mutex::new(Vec::new());
    each(&tests, |test| {
        let end = test.run(selection);
        ends.lock().expect("nobody panics with it").push(end);
        Ok(())
    })?;
    let ends = ends.into_inner().expect("nobody panics with it");
    show_slowest(&ends);
    let failed: Vec<_> =
        ends.iter().filter(|end| !end.passed).map(|end| end.name.as_str()).collect();
    tally.failed += failed.len() as u64;
    tally.passed += (ends.len() - failed.len()) as u64;
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// How a test has ended.
#[derive(Clone, Debug)]
struct End {
    name: String,
    passed: bool,
    time: Duration,
}

fn show_slowest(ends: &[End]) {
    let mut slowest: Vec<&End> = ends.iter().collect();
    slowest.sort_by_key(|end| Reverse(end.time));
    let shown = slowest.iter().take(NAMED);
    let shown: Vec<_> = shown.map(|end| format!("{} {}", end.name, seconds(end.time))).collect();
    println!("{} tests; the slowest: {}", ends.len(), shown.join(", "));
}

impl Program {
    fn command(&self, selection: &Selection<'_>) -> Command {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        command.env("RINGWALL_MADE", made()).stdin(Stdio::null());
        if let Some(kernel) = selection.kernel {
            command.env("RINGWALL_KERNEL", kernel);
        }
        command
    }

    /// The names of its tests, or of those of them that are ignored.
    fn list(&self, selection: &Selection<'_>, ignored: bool) -> Result<BTreeSet<String>> {
        let mut command = self.command(selection);
        command.args(["--list", "--format", "terse"]).args(selection.filter);
        if ignored {
            command.arg("--ignored");
        }
        let output = command.output().with_context(|| self.file.display().to_string())?;
        ensure!(output.status.success(), "{} does not list its tests", self.file.display());
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(lines
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .map(str::to_owned)
            .collect())
    }
}

impl Test<'_> {
    fn run(&self, selection: &Selection<'_>) -> End {
        let start = Instant::now();
        let mut command = self.program.command(selection);
        command.args(["--exact", &self.name]);
        if selection.ignored {
            command.arg("--ignored");
        }
        let output = command.output();
        let time = start.elapsed();
        let passed = matches!(&output, Ok(output) if output.status.success());
        let word = if passed { "ok" } else { "FAILED" };
        let name = format!("{}::{}", self.program.name, self.name);
        let mut text = format!("test {name} ... {word} {}", seconds(time));
        match &output {
            Ok(output) if !passed => text.push_str(&said(output)),
            Ok(_) => {}
            Err(error) => text.push_str(&format!("\n{error}")),
        }
        println!("{text}");
        End { name, passed, time }
    }
}

fn said(output: &Output) -> String {
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("\n{}\n{}", text[0].trim(), text[1].trim())
}

/// Builds the programs; cargo says on the terminal what it does.
fn build(arguments: &[&str]) -> Result<Vec<Program>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(["test", "--no-run", "--message-format=json-render-diagnostics"]).args(arguments);
    let output = command
        .current_dir(root())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("could not start `cargo test`")?;
    if !output.status.success() {
        bail!("the tests did not build: `cargo test --no-run` ended with {}", output.status);
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(lines.lines().filter_map(program).collect())
}

/// The program that a line of cargo's tells of, if it does.
fn program(line: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    Some(Program {
        name: message["target"]["name"].as_str()?.to_owned(),
        file: message["executable"].as_str()?.into(),
        directory: Path::new(message["manifest_path"].as_str()?).parent()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_lines_tell_of_programs_with_tests() {
        let line = r#"{"reason":"compiler-artifact","manifest_path":"/r/tests/Cargo.toml","target":{"name":"boot"},
            "profile":{"test":true},"executable":"/r/target/debug/deps/boot-0"}"#;
        let found = program(line).expect("a program");
        assert_eq!(
            (found.name.as_str(), found.directory.as_path()),
            ("boot", Path::new("/r/tests"))
        );
        assert!(program(&line.replace("true", "false")).is_none(), "no tests in it");
        assert!(program(&line.replace("\"/r/target/debug/deps/boot-0\"", "null")).is_none());
        assert!(program("cargo says something else").is_none());
    }
}
