//! A compiler for the bare-metal target, by the first route that works:
//!
//! 1. `installed`: the current toolchain has the target's library,
//! 2. `rustup`: rustup can add it,
//! 3. `distribution`: Debian's own Rust, with the library built from Debian's source.
//!
//! `RINGWALL_TOOLCHAIN` forces one of them by name. The distribution route has a target directory
//! of its own, so that going back and forth rebuilds nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::commands::{find, output, output_within};
use crate::progress::{note, step};
use crate::setup::distribution::Distribution;
use crate::workspace::{root, target};

/// The target that kernels are built for.
pub const TARGET: &str = "x86_64-unknown-none";

/// The variable that forces a route.
pub const VARIABLE: &str = "RINGWALL_TOOLCHAIN";

/// rustup without a network waits long before it gives up.
const RUSTUP_LIMIT: Duration = Duration::from_secs(120);

/// A way to a compiler for the bare-metal target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The current toolchain already has the target.
    Installed,
    /// rustup adds the target to the current toolchain.
    Rustup,
    /// Debian's Rust packages, and the library built from source.
    Distribution,
}

/// A toolchain that can build kernels.
#[derive(Debug)]
pub enum Toolchain {
    /// The one that runs this task.
    Current,
    /// Debian's, unpacked below `target/`.
    Distribution(Distribution),
}

impl Route {
    fn parse(name: &str) -> Result<Route> {
        Ok(match name {
            "installed" => Route::Installed,
            "rustup" => Route::Rustup,
            "distribution" => Route::Distribution,
            _ => bail!("{VARIABLE}={name}: no such route; say installed, rustup or distribution"),
        })
    }
}

impl Toolchain {
    /// A cargo command that builds for the bare-metal target, to be completed with packages.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match self {
            Toolchain::Current => Command::new(current("CARGO", "cargo")),
            Toolchain::Distribution(distribution) => distribution.cargo(),
        };
        command
            .arg(subcommand)
            .args(["--target", TARGET, "--target-dir"])
            .arg(self.target_directory())
            .current_dir(root());
        // These would replace the flags in .cargo/config.toml that a kernel cannot do without.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        if let Toolchain::Distribution(distribution) = self {
            command.args(distribution.arguments());
        }
        command
    }

    /// Where this toolchain's builds go.
    pub fn target_directory(&self) -> PathBuf {
        match self {
            Toolchain::Current => target(),
            Toolchain::Distribution(_) => target().join("distribution"),
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match self {
            Toolchain::Current => format!("current, with {TARGET}"),
            Toolchain::Distribution(distribution) => distribution.describe(),
        }
    }
}

/// The toolchain by the route that `RINGWALL_TOOLCHAIN` names, or by the first that works.
///
/// # Errors
///
/// When no route works: says why each did not.
pub fn choose() -> Result<Toolchain> {
    match std::env::var(VARIABLE) {
        Ok(name) if !name.is_empty() => by(Route::parse(&name)?),
        _ => first_that_works(),
    }
}

/// The toolchain by one route.
///
/// # Errors
///
/// When that route does not work.
pub fn by(route: Route) -> Result<Toolchain> {
    match route {
        Route::Installed => installed(),
        Route::Rustup => rustup(),
        Route::Distribution => Ok(Toolchain::Distribution(Distribution::set_up()?)),
    }
}

fn first_that_works() -> Result<Toolchain> {
    if let Ok(toolchain) = installed() {
        return Ok(toolchain);
    }
    let rustup_error = match rustup() {
        Ok(toolchain) => return Ok(toolchain),
        Err(error) => error,
    };
    note(&format!("the target {TARGET} is not here and rustup could not add it; taking Debian's"));
    by(Route::Distribution).with_context(|| {
        format!(
            "There is no compiler for {TARGET}. rustup: {rustup_error}\n\
             With a network, type: rustup target add {TARGET}\n\
             Debian's Rust, the last resort, failed too"
        )
    })
}

fn installed() -> Result<Toolchain> {
    let library = output(
        Command::new(current("RUSTC", "rustc"))
            .args(["--print", "target-libdir", "--target", TARGET])
            .current_dir(root()),
    )?;
    ensure!(
        has_core(Path::new(library.trim())),
        "The current toolchain has no {TARGET}.\nType: rustup target add {TARGET}"
    );
    Ok(Toolchain::Current)
}

fn rustup() -> Result<Toolchain> {
    ensure!(find("rustup").is_some(), "there is no rustup here");
    step(&format!("rustup target add {TARGET}"), || {
        let mut command = Command::new("rustup");
        command.args(["target", "add", TARGET]).current_dir(root());
        output_within(RUSTUP_LIMIT, &mut command)
    })?;
    installed()
}

fn has_core(library: &Path) -> bool {
    std::fs::read_dir(library).is_ok_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// A program of the toolchain that runs this task.
fn current(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| name.into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_route_is_refused_with_the_known_ones() {
        let error = Route::parse("nightly").expect_err("no such route");
        assert!(error.to_string().contains("installed, rustup or distribution"));
        assert_eq!(Route::parse("distribution").expect("a route"), Route::Distribution);
    }
}
