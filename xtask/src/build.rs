//! `cargo xtask build`: the kernel, as a file that QEMU's `-kernel` boots.
//!
//! Each set of features has a file of its own below `target/ringwall/kernel`, so that a kernel
//! that can be broken on purpose never stands where the sound one is looked for:
//!
//! ```text
//!   ringwall-kernel                      the kernel
//!   ringwall-kernel+breaks               the same with all deliberate breaks; `break=NAME` turns one on
//!   ringwall-kernel@distribution         built by the distribution route
//!   ringwall-minimal                     the example, a kernel too
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::addresses;
use crate::commands;
use crate::setup::toolchain::{self, TARGET, Toolchain};
use crate::workspace::made;

const PACKAGE: &str = "ringwall-kernel";
const EXAMPLE: &str = "ringwall-minimal";

/// The profile of kernels that are not measured: soon built.
const QUICK: &str = "quick";

/// Options of `cargo xtask build`.
#[derive(clap::Args)]
pub struct Options {
    /// Cargo profile to build with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Features of the kernel crate, separated by commas.
    #[arg(long, value_delimiter = ',')]
    features: Vec<String>,
}

/// Builds, and prints the kernel's path as the last line.
///
/// # Errors
///
/// When there is no toolchain or the kernel does not compile.
pub fn run(options: &Options) -> Result<()> {
    let kernel = kernel(&toolchain::choose()?, &options.profile, &options.features)?;
    println!("{}", kernel.display());
    Ok(())
}

/// Builds the kernel with these features and returns where it is.
///
/// # Errors
///
/// When the kernel does not compile; the compiler has said why.
pub fn kernel(toolchain: &Toolchain, profile: &str, features: &[String]) -> Result<PathBuf> {
    let built = compile(toolchain, PACKAGE, profile, features)?;
    place(&built, &name(toolchain, profile, features))
}

/// Builds the kernel with all deliberate breaks in it, quickly.
///
/// # Errors
///
/// As [`kernel`].
pub fn breakable(toolchain: &Toolchain) -> Result<PathBuf> {
    let features = ["breaks".to_owned()];
    let built = compile(toolchain, PACKAGE, QUICK, &features)?;
    place(&built, &name(toolchain, "release", &features))
}

/// Builds the example, a small kernel of its own.
///
/// # Errors
///
/// As [`kernel`].
pub fn example(toolchain: &Toolchain) -> Result<PathBuf> {
    place(&compile(toolchain, EXAMPLE, QUICK, &[])?, EXAMPLE)
}

/// Compiles a package for the bare-metal target. Returns where cargo leaves its program.
fn compile(
    toolchain: &Toolchain,
    package: &str,
    profile: &str,
    features: &[String],
) -> Result<PathBuf> {
    let mut command = toolchain.cargo("rustc");
    command.args(["--package", package, "--bin", package, "--profile", profile]);
    if !features.is_empty() {
        command.args(["--features", &features.join(",")]);
    }
    if package == PACKAGE {
        // What the list of addresses is made of.
        command.args(["--", "-Clink-arg=--emit-relocs"]);
    }
    commands::run(&mut command).with_context(|| format!("{package} did not build"))?;
    // Cargo's name for the directory of the dev profile.
    let directory = if profile == "dev" { "debug" } else { profile };
    Ok(toolchain.target_directory().join(TARGET).join(directory).join(package))
}

/// Copies a kernel to where it is looked for, with the list by which it slides.
fn place(built: &Path, name: &str) -> Result<PathBuf> {
    let kernels = made().join("kernel");
    let kernel = kernels.join(name);
    fs::create_dir_all(&kernels)?;
    let mut file =
        fs::read(built).with_context(|| format!("could not read {}", built.display()))?;
    if name != EXAMPLE {
        addresses::put_into(&mut file)?;
    }
    fs::write(&kernel, file).with_context(|| format!("could not write {}", kernel.display()))?;
    Ok(kernel)
}

/// A file name that says what the kernel was built from.
fn name(toolchain: &Toolchain, profile: &str, features: &[String]) -> String {
    let mut name = PACKAGE.to_owned();
    for feature in features {
        name.push('+');
        name.push_str(feature);
    }
    if matches!(toolchain, Toolchain::Distribution(_)) {
        name.push_str("@distribution");
    }
    if profile != "release" {
        name.push('.');
        name.push_str(profile);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_build_has_its_own_file() {
        let current = Toolchain::Current;
        assert_eq!(name(&current, "release", &[]), "ringwall-kernel");
        let breakable = ["breaks".to_owned()];
        assert_eq!(name(&current, "release", &breakable), "ringwall-kernel+breaks");
        assert_eq!(name(&current, "dev", &[]), "ringwall-kernel.dev");
    }
}
