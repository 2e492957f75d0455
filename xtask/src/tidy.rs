//! `cargo xtask tidy`: formatting, lints, and a `//!` at the head of every Rust file.
//!
//! A machine without rustfmt or clippy, and without rustup to add them, cannot check those two:
//! it says so and checks the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::commands::{self, output, output_within};
use crate::progress::{note, step};
use crate::setup::toolchain::{self, Route, Toolchain};
use crate::workspace::root;

/// Packages that exist only for the bare-metal target.
const BARE_METAL: [&str; 2] = ["ringwall-kernel", "ringwall-minimal"];

/// Checks everything.
///
/// # Errors
///
/// On the first kind of finding; the tool that found it has said what it is.
pub fn run() -> Result<()> {
    step("file headers", headers)?;
    if have("fmt", "rustfmt") {
        step("formatting", || commands::run(cargo("fmt").args(["--all", "--check"])))?;
        let fuzz = ["--check", "--manifest-path", "fuzz/Cargo.toml"];
        step("formatting of the fuzz targets", || commands::run(cargo("fmt").args(fuzz)))?;
    }
    if have("clippy", "clippy") {
        step("lints, host", || {
            let mut command = cargo("clippy");
            command.args(["--quiet", "--workspace", "--all-targets"]);
            for package in BARE_METAL {
                command.args(["--exclude", package]);
            }
            commands::run(command.args(["--", "--deny", "warnings"]))
        })?;
        bare_metal_lints()?;
    }
    Ok(())
}

fn bare_metal_lints() -> Result<()> {
    // Clippy and the library have to be of one version, so Debian's compiler is no help here.
    let usable = [Route::Installed, Route::Rustup];
    let Some(toolchain) = usable.into_iter().find_map(|route| toolchain::by(route).ok()) else {
        note(
            "lints of the bare-metal packages are left out: the current toolchain lacks the target",
        );
        return Ok(());
    };
    step("lints, bare metal", || lint_bare_metal(&toolchain))
}

fn lint_bare_metal(toolchain: &Toolchain) -> Result<()> {
    let mut command = toolchain.cargo("clippy");
    // Not `--release`: the macros that run on the host are there already, for the lints of the host's packages.
    command.arg("--quiet");
    for package in BARE_METAL {
        command.args(["--package", package]);
    }
    commands::run(command.args(["--", "--deny", "warnings"]))
}

/// Whether cargo has a subcommand, after asking rustup for it.
fn have(subcommand: &str, component: &str) -> bool {
    let works = || output(cargo(subcommand).arg("--version")).is_ok();
    if works() {
        return true;
    }
    let mut add = Command::new("rustup");
    add.args(["component", "add", component]).current_dir(root());
    let added = step(&format!("rustup component add {component}"), || {
        output_within(Duration::from_secs(120), &mut add)
    });
    if added.is_ok() && works() {
        return true;
    }
    note(&format!("{component} is not here, so what it checks is not checked"));
    false
}

fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.arg(subcommand).current_dir(root());
    command
}

/// Every Rust file says in its first line what it is for.
fn headers() -> Result<()> {
    let mut bare = Vec::new();
    for file in rust_files(&root())? {
        if !fs::read_to_string(&file)?.starts_with("//! ") {
            bare.push(file.strip_prefix(root()).unwrap_or(&file).display().to_string());
        }
    }
    ensure!(bare.is_empty(), "these files do not open with `//!`: {}", bare.join(", "));
    Ok(())
}

/// All Rust files below `directory`, except in hidden and target directories.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files.extend(rust_files(&path)?);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
