//! `cargo xtask fuzz`: libFuzzer on what the tools read of guests that are not trusted.
//!
//! The targets are the files in `fuzz/targets`. They are built with stable Rust: LLVM's coverage for fuzzers is a pass
//! of the compiler that needs no unstable option. No sanitizer, as there is no unsafe code to watch; the limits are
//! what counts: memory, and seconds for one input.
//!
//! ```text
//!   fuzz/seeds/TARGET            to begin with, in the repository
//!   target/ringwall/fuzz/TARGET  what the runs so far have found worth keeping, and inputs that failed
//! ```

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::commands::{self, output};
use crate::progress::{heading, step};
use crate::setup::packages;
use crate::workspace::{made, root, target};

/// LLVM's coverage instrumentation for libFuzzer, and debug assertions.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// More than a tool may use on any input, in MiB.
const MEMORY_MIB: u32 = 256;
/// No input that a fuzzer makes keeps a tool busy for so long, in seconds.
const INPUT_SECONDS: u32 = 10;

/// Options of `cargo xtask fuzz`.
#[derive(clap::Args)]
pub struct Options {
    /// Run this target only.
    target: Option<String>,
    /// How long to run each target, in seconds.
    #[arg(long, value_name = "N", default_value_t = 600)]
    seconds: u32,
}

/// Builds the targets and runs them, one after the other.
///
/// # Errors
///
/// When there is no such target, when it does not build, or when an input made it fail; libFuzzer has said where that
/// input is.
pub fn run(options: &Options) -> Result<()> {
    let all = targets()?;
    let wanted: Vec<&String> =
        all.iter().filter(|name| options.target.as_ref().is_none_or(|one| one == *name)).collect();
    ensure!(!wanted.is_empty(), "there is no such target; there are: {}", all.join(", "));
    packages::cxx_compiler()?;
    let programs = step("fuzz targets", build)?;
    for name in wanted {
        heading(&format!("Fuzz target {name}"));
        fuzz(&programs.join(name), name, options.seconds)?;
    }
    Ok(())
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root().join("fuzz/targets")).context("the fuzz targets")? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds all targets; returns the directory that they are in.
fn build() -> Result<PathBuf> {
    // With a target named, build scripts and macros are not instrumented.
    let host = output(Command::new("rustc").arg("--print=host-tuple"))?;
    let directory = target().join("fuzz");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--quiet", "--release", "--locked", "--target", host.trim()])
        .arg("--manifest-path")
        .arg(root().join("fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &directory)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .current_dir(root());
    commands::run(&mut cargo)?;
    Ok(directory.join(host.trim()).join("release"))
}

fn fuzz(program: &PathBuf, name: &str, seconds: u32) -> Result<()> {
    let kept = made().join("fuzz").join(name);
    let corpus = kept.join("corpus");
    fs::create_dir_all(&corpus).context("a directory for the inputs")?;
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"))
        .arg(format!("-timeout={INPUT_SECONDS}"))
        .arg(format!("-artifact_prefix={}/", kept.display()))
        .arg("-print_final_stats=1")
        .arg(corpus)
        .arg(root().join("fuzz/seeds").join(name));
    commands::run(&mut command)
}
