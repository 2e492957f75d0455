//! `cargo xtask test`: everything that is checked, one step after the other.
//!
//! Kernels and programs are built behind the scenes of the first steps, so that no CPU is idle; what there is to say
//! of that comes in its place. A step that fails does not keep the others from running, unless they need what it makes. The last
//! line has the form of cargo's own test results and counts all of them; a step that is no test run
//! (formatting, a build) counts as one test.

mod looks;
mod processes;
mod tally;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::progress::{self, heading, seconds};
use crate::setup::packages;
use crate::setup::toolchain::{self, Route, Toolchain};
use crate::workspace::{made, root};
use crate::{build, programs, selftests, tidy};
use processes::Selection;
use tally::Tally;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Options {
    /// Run these steps only.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Step>,
    /// Run only scenarios whose name contains this; names are as they are printed, `windows::call`.
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Run the long campaign instead: an event inside an event at every instruction of every way, a million signal
    /// frames, a million rounds of `remap` in QEMU and in Bochs, storms, the other settings of the audits of Linux.
    /// Many hours.
    #[arg(long, conflicts_with_all = ["only", "kernel", "linux"])]
    campaign: bool,
    /// Run the scenarios on this kernel instead of ours.
    #[arg(long, value_name = "FILE", conflicts_with = "linux")]
    kernel: Option<PathBuf>,
    /// Run the scenarios on Debian's Linux kernel instead of ours.
    #[arg(long)]
    linux: bool,
}

/// A part of the whole test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    /// Formatting, lints, file headers.
    Tidy,
    /// Tests that run on the host.
    Host,
    /// The kernel, sound and with deliberate breaks, the user programs, and what they need.
    Build,
    /// The kernel by the distribution route, and one boot of it.
    Distribution,
    /// One boot per test.
    Scenarios,
}

impl Step {
    fn title(self) -> &'static str {
        match self {
            Step::Tidy => "Tidy",
            Step::Host => "Host tests",
            Step::Build => "Kernel and programs",
            Step::Distribution => "Kernel by the distribution route",
            Step::Scenarios => "Emulator scenarios",
        }
    }
}

/// Runs the steps and sums up.
///
/// # Errors
///
/// When anything failed, or nothing can be chosen.
pub fn run(options: &Options) -> Result<()> {
    if options.filter.is_some() && !options.wants(Step::Scenarios) {
        bail!("--filter chooses scenarios, and --only leaves them out");
    }
    let start = Instant::now();
    let mut total = Tally::default();
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let mut built = options.builds_ahead().then(|| {
            // Here, because the lints may ask rustup for something, too.
            let toolchain = toolchain::choose();
            scope.spawn(move || progress::held(|| timed(|| options.build(toolchain))))
        });
        for step in Step::value_variants().iter().copied().filter(|step| options.wants(*step)) {
            heading(step.title());
            let mut tally = Tally::default();
            let (result, time) = match built.take_if(|_| step == Step::Build) {
                Some(built) => {
                    let (done, lines) = built.join().expect("errors are no panics");
                    progress::show(lines);
                    done
                }
                None => timed(|| options.run_step(step, &mut tally)),
            };
            if let Err(error) = &result {
                progress::failure(error);
            }
            tally.count_step(result.is_ok());
            total.add(&tally);
            times.push((step, time, result.is_ok()));
            // Without a kernel every scenario fails, and says nothing new.
            if step == Step::Build && result.is_err() {
                break;
            }
        }
    });
    summary(&times, &total, start.elapsed());
    if total.failed > 0 {
        bail!("{} of the checks above failed", total.failed);
    }
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (work(), start.elapsed())
}

impl Options {
    fn wants(&self, step: Step) -> bool {
        match self.campaign {
            true => matches!(step, Step::Build | Step::Scenarios),
            false => self.only.is_empty() || self.only.contains(&step),
        }
    }

    /// Whether there is something to do on this thread while that is built.
    fn builds_ahead(&self) -> bool {
        self.wants(Step::Build) && (self.wants(Step::Tidy) || self.wants(Step::Host))
    }

    fn run_step(&self, step: Step, tally: &mut Tally) -> Result<()> {
        match step {
            Step::Tidy => tidy::run(),
            Step::Host => {
                let tested = processes::run(&Selection::default(), tally);
                cargo_test(&["--doc"], tally).and(tested)
            }
            Step::Build => self.build(toolchain::choose()),
            Step::Distribution => distribution(tally),
            Step::Scenarios => {
                let kernel = self.other_kernel()?;
                let scenarios = Selection {
                    programs: &["--package", "ringwall-tests"],
                    filter: self.filter.as_deref(),
                    ignored: self.campaign,
                    kernel: kernel.as_deref(),
                };
                remove_tables();
                looks::remove();
                let result = processes::run(&scenarios, tally);
                show_tables();
                result?;
                let all = self.filter.is_none() && !self.campaign && kernel.is_none();
                ensure!(!all || looks::looks().made > 0, "no scenario was looked at in ring 3");
                Ok(())
            }
        }
    }

    fn build(&self, toolchain: Result<Toolchain>) -> Result<()> {
        if self.other_kernel()?.is_some() {
            return parts();
        }
        let toolchain = toolchain?;
        progress::note(&format!("toolchain: {}", toolchain.describe()));
        // Linking the kernel takes one CPU a long time, and so does unpacking packages.
        std::thread::scope(|scope| {
            let kernels = scope.spawn(|| progress::held(|| kernels(&toolchain)));
            let parts = parts();
            if self.wants(Step::Distribution) {
                // If that fails, its own step fails again and says so.
                let _ = distribution_kernel();
            }
            let (kernels, lines) = kernels.join().expect("errors are no panics");
            progress::show(lines);
            parts.and(kernels)
        })
    }

    fn other_kernel(&self) -> Result<Option<PathBuf>> {
        if self.linux {
            return packages::linux().map(Some);
        }
        let kernel = self.kernel.as_ref();
        kernel.map(|file| file.canonicalize().context("the kernel to be tested")).transpose()
    }
}

/// What scenarios boot and need beside kernels.
fn parts() -> Result<()> {
    packages::qemu()?;
    packages::busybox()?;
    programs::build()?;
    if let Err(error) = packages::bochs() {
        progress::note(&format!("no Bochs, so its scenarios will fail: {error}"));
    }
    if let Err(error) = packages::chromium() {
        progress::note(&format!("no Chromium, so the test of the HTML page will fail: {error}"));
    }
    if let Err(error) = packages::linux() {
        progress::note(&format!("no Linux to compare with, so that scenario is skipped: {error}"));
    }
    if let Err(error) = selftests::build() {
        progress::note(&format!("no Linux selftests, so that scenario is skipped: {error:#}"));
    }
    Ok(())
}

/// Our kernels: the one that counts, the one that can be broken, and the example.
fn kernels(toolchain: &Toolchain) -> Result<()> {
    let built =
        |name: &str, build: &dyn Fn() -> Result<PathBuf>| progress::step(name, build).map(drop);
    built("the kernel", &|| build::kernel(toolchain, "release", &[]))?;
    built("the kernel with deliberate breaks", &|| build::breakable(toolchain))?;
    built("the example", &|| build::example(toolchain))
}

/// By the route that no developer takes by chance.
fn distribution_kernel() -> Result<PathBuf> {
    let toolchain = toolchain::by(Route::Distribution)?;
    progress::note(&format!("toolchain: {}", toolchain.describe()));
    build::kernel(&toolchain, "release", &[])
}

fn distribution(tally: &mut Tally) -> Result<()> {
    let kernel = distribution_kernel()?;
    let boot = Selection {
        programs: &["--package", "ringwall-tests", "--test", "boot"],
        filter: Some("isolation_on"),
        kernel: Some(&kernel),
        ..Selection::default()
    };
    processes::run(&boot, tally)
}

/// Where scenarios leave tables for people.
fn tables() -> impl Iterator<Item = PathBuf> {
    let files = fs::read_dir(made().join("tables")).into_iter().flatten().flatten();
    files.map(|file| file.path())
}

/// Removes what an earlier run has left.
fn remove_tables() {
    tables().for_each(|table| drop(fs::remove_file(table)));
}

/// Prints each table under its name.
fn show_tables() {
    for table in tables() {
        heading(&table.file_stem().unwrap_or_default().to_string_lossy());
        print!("{}", fs::read_to_string(&table).unwrap_or_default());
    }
}

/// Runs `cargo test`, shows what it writes, and counts.
fn cargo_test(arguments: &[&str], tally: &mut Tally) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.arg("test").args(arguments).current_dir(root()).env("RINGWALL_MADE", made());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start `cargo test`")?;
    let output = child.stdout.take().expect("standard output was asked for as a pipe");
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        tally.read(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`cargo test` ended with {status}");
    }
    Ok(())
}

fn summary(times: &[(Step, Duration, bool)], total: &Tally, elapsed: Duration) {
    heading("Summary");
    for (step, time, passed) in times {
        let mark = if *passed { "passed" } else { "FAILED" };
        println!("  {mark}  {:>8}  {}", seconds(*time), step.title());
    }
    let scenarios = times.iter().any(|(step, ..)| *step == Step::Scenarios);
    let looks = looks::looks();
    if scenarios && looks.boots > 0 {
        println!("\n  {looks}");
    }
    println!("\n{}", total.line(elapsed));
}
