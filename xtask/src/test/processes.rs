//! Runs tests, each as a process of its own, as many at a time as there are CPUs.
//!
//! Cargo runs one test program after the other, and at the end of each most CPUs wait for its longest test. Here they
//! go on with the next program. Cargo still builds them.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::tally::Tally;
use crate::commands::ended_within;
use crate::parallel::each;
use crate::progress::seconds;
use crate::workspace::{made, root};

/// Programs with tests that take ten seconds or more: they begin first, so that none of them is left for the end.
const LONG: [&str; 8] =
    ["selftests", "same", "bochs", "windows", "bounds", "several", "shootdown", "visible"];

/// What no test takes, on a busy host either: one that goes on for longer hangs.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// The same for the campaign's.
const LONG_LIMIT: Duration = Duration::from_secs(13 * 60 * 60);

/// Properties are tested with the same numbers each time, so that two runs of one commit say the same. `cargo test` by
/// hand draws others, and so does who sets this.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "20261123");

/// How many of the slowest tests are named at the end.
const NAMED: usize = 8;

/// Which tests to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'a> {
    /// Arguments for `cargo test` that say which programs.
    pub programs: &'a [&'a str],
    /// Of these, the tests whose name, with the program's before it, contains this.
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
/// When a program does not build, no test is chosen, or a test fails.
pub fn run(selection: &Selection<'_>, tally: &mut Tally) -> Result<()> {
    let programs = build(selection.programs)?;
    let (mut tests, mut others) = (Vec::new(), 0);
    for program in &programs {
        let ignored = program.list(selection, true)?;
        let all = program.list(selection, false)?;
        let usual: BTreeSet<String> = all.difference(&ignored).cloned().collect();
        let (chosen, other) = if selection.ignored { (ignored, usual) } else { (usual, ignored) };
        others += other.len();
        tests.extend(chosen.into_iter().map(|name| Test { program, name }));
    }
    ensure!(!tests.is_empty(), "{}", selection.says_nothing_is_chosen(others));
    if !selection.ignored {
        tally.ignored += others as u64;
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

impl Selection<'_> {
    /// Whether a name, as this prints it, is chosen.
    fn chooses(&self, name: &str) -> bool {
        self.filter.is_none_or(|filter| name.contains(filter))
    }

    fn limit(&self) -> Duration {
        if self.ignored { LONG_LIMIT } else { LIMIT }
    }

    /// `others` would be, if it were or were not the campaign.
    fn says_nothing_is_chosen(&self, others: usize) -> String {
        let hint = match (others, self.ignored) {
            (0, _) => "",
            (_, false) => "; of the campaign's some do: --campaign",
            (_, true) => "; some that are not of the campaign do: leave --campaign out",
        };
        match self.filter {
            Some(filter) => format!("no test's name contains {filter:?}{hint}"),
            None => "there are no tests".into(),
        }
    }
}

impl Program {
    /// A test's name with the program's before it.
    fn whole_name(&self, test: &str) -> String {
        format!("{}::{test}", self.name)
    }

    fn command(&self, selection: &Selection<'_>) -> Command {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        command.env("RINGWALL_MADE", made()).stdin(Stdio::null());
        if std::env::var_os(SEED.0).is_none() {
            command.env(SEED.0, SEED.1);
        }
        if let Some(kernel) = selection.kernel {
            command.env("RINGWALL_KERNEL", kernel);
        }
        command
    }

    /// The names of its tests that are chosen, or of those of them that are ignored.
    fn list(&self, selection: &Selection<'_>, ignored: bool) -> Result<BTreeSet<String>> {
        let mut command = self.command(selection);
        command.args(["--list", "--format", "terse"]);
        if ignored {
            command.arg("--ignored");
        }
        let output = command.output().with_context(|| self.file.display().to_string())?;
        ensure!(output.status.success(), "{} does not list its tests", self.file.display());
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(lines
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .filter(|name| selection.chooses(&self.whole_name(name)))
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
        let ended = ended(&mut command, selection.limit());
        let time = start.elapsed();
        let passed = matches!(&ended, Ok((Some(status), _)) if status.success());
        let word = if passed { "ok" } else { "FAILED" };
        let name = self.program.whole_name(&self.name);
        let mut text = format!("test {name} ... {word} {}", seconds(time));
        match &ended {
            Ok((_, _)) if passed => {}
            Ok((status, said)) => {
                text.push_str(&format!("\n{}", said.trim()));
                if status.is_none() {
                    text.push_str(&format!("\n{name} had not ended by then and was stopped"));
                }
            }
            Err(error) => text.push_str(&format!("\n{error:#}")),
        }
        println!("{text}");
        End { name, passed, time }
    }
}

/// How a command has ended, if it did within `limit`, and what it wrote. Otherwise it is killed, and its emulators die
/// with it.
fn ended(command: &mut Command, limit: Duration) -> Result<(Option<ExitStatus>, String)> {
    // A pipe would be full some time.
    let mut file = tempfile::tempfile()?;
    let mut child = command.stdout(file.try_clone()?).stderr(file.try_clone()?).spawn()?;
    let in_time = ended_within(limit, &mut child)?;
    if !in_time {
        child.kill()?;
    }
    let status = child.wait()?;
    let mut said = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut said)?;
    Ok((in_time.then_some(status), String::from_utf8_lossy(&said).into_owned()))
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

    #[test]
    fn a_printed_name_can_be_given_back() {
        let program =
            Program { name: "windows".into(), file: PathBuf::new(), directory: PathBuf::new() };
        let by = |filter| Selection { filter: Some(filter), ..Selection::default() };
        let chosen = |filter, test| by(filter).chooses(&program.whole_name(test));
        assert!(chosen("windows::call", "call"));
        assert!(chosen("windows", "call") && chosen("call", "call"));
        assert!(chosen("call", "open_call") && !chosen("windows::call", "open_call"));
        assert!(!chosen("boot", "call"));
    }

    #[test]
    fn nothing_chosen_is_told_and_where_there_would_be_something() {
        let mut selection = Selection { filter: Some("xyz"), ..Selection::default() };
        assert_eq!(selection.says_nothing_is_chosen(0), "no test's name contains \"xyz\"");
        assert!(selection.says_nothing_is_chosen(2).ends_with("some do: --campaign"));
        selection.ignored = true;
        assert!(selection.says_nothing_is_chosen(2).ends_with("leave --campaign out"));
    }

    #[test]
    fn a_test_that_hangs_is_stopped_and_what_it_said_is_kept() {
        let run = |script: &str, limit| {
            ended(Command::new("sh").args(["-c", script]), limit).expect("a shell")
        };
        // A busy host may need longer to start a shell: then it has said less than all.
        let mut limits = (1..=7).map(|doublings| Duration::from_millis(250) * (1 << doublings));
        let stopped = limits.any(|limit| {
            let (status, said) = run("echo out; echo err >&2; exec sleep 600", limit);
            assert_eq!(status, None);
            assert!("out\nerr\n".starts_with(&said), "{said:?}");
            said == "out\nerr\n"
        });
        assert!(stopped, "what it said is lost");
        // More than a pipe holds.
        let (status, said) = run("seq 100000; exit 3", Duration::from_secs(60));
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        assert!(said.ends_with("\n100000\n"));
    }
}
