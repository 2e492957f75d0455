//! The distribution route: Debian's rustc and cargo, the library built from Debian's source.
//!
//! Debian builds no library for bare metal, so cargo builds it along with the kernel (`build-std`,
//! which a stable compiler allows when RUSTC_BOOTSTRAP says so). Nothing of this needs root: the
//! packages are unpacked below `target/`, and the loader is told where their libraries are.
//!
//! Debian's compiler comes without a linker for the target. Any of rustup's `rust-lld`, `ld.lld`
//! and GNU `ld` will do; they are looked for in that order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::commands::{find, output};
use crate::setup::debian;
use crate::setup::toolchain::TARGET;

/// Compiler, package manager, library source: the first set that is new enough is taken.
const PACKAGES: [[&str; 3]; 2] =
    [["rustc-web", "cargo-web", "rust-web-src"], ["rustc", "cargo", "rust-src"]];

/// Debian's Rust, unpacked.
#[derive(Debug)]
pub struct Distribution {
    tree: PathBuf,
    linker: Linker,
}

/// A linker for the bare-metal target.
#[derive(Debug, PartialEq, Eq)]
struct Linker {
    program: PathBuf,
    /// Whether its command line is lld's, which is what rustc writes for the target by itself.
    lld: bool,
}

impl Distribution {
    /// Fetches and unpacks what is missing.
    ///
    /// # Errors
    ///
    /// Off Debian, when Debian's Rust is too old, without a network, or without a linker.
    pub fn set_up() -> Result<Distribution> {
        let tree = debian::unpacked("rust", || debian::with_dependencies(&choose_packages()?))?;
        link_source(&tree)?;
        Ok(Distribution { tree, linker: Linker::find()? })
    }

    /// Debian's cargo with Debian's compiler, and the library from source.
    pub fn cargo(&self) -> Command {
        let mut command = Command::new(self.program("cargo"));
        self.environment(&mut command);
        command
            .env("RUSTC", self.program("rustc"))
            // build-std is unstable; this is the distributions' own way to use it.
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER");
        command
    }

    /// Arguments for cargo, after the subcommand.
    pub fn arguments(&self) -> Vec<String> {
        let linker = self.linker.program.display();
        let mut arguments = vec![
            "-Zbuild-std=core,alloc,compiler_builtins".into(),
            "-Zbuild-std-features=compiler-builtins-mem".into(),
            format!("--config=target.{TARGET}.linker=\"{linker}\""),
        ];
        if !self.linker.lld {
            // Joins the flags in .cargo/config.toml.
            arguments.push(format!("--config=target.{TARGET}.rustflags=[\"-Clinker-flavor=ld\"]"));
        }
        arguments
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let mut command = Command::new(self.program("rustc"));
        self.environment(&mut command);
        let version = output(command.arg("--version")).unwrap_or_default();
        format!("Debian's {}, linking with {}", version.trim(), self.linker.program.display())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.tree.join("usr/bin").join(name)
    }

    /// The unpacked libraries only: cargo has put those of the current toolchain in the variable.
    fn environment(&self, command: &mut Command) {
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let paths = libraries.map(|directory| self.tree.join(directory));
        let joined = std::env::join_paths(paths).expect("a target directory without a colon");
        command.env("LD_LIBRARY_PATH", joined);
    }
}

impl Linker {
    fn find() -> Result<Linker> {
        if let Some(program) = rustup_linker() {
            return Ok(Linker { program, lld: true });
        }
        if let Some(program) = find("ld.lld") {
            return Ok(Linker { program, lld: true });
        }
        if let Some(program) = find("ld") {
            return Ok(Linker { program, lld: false });
        }
        bail!("There is no linker for {TARGET}.\nType: sudo apt-get install binutils");
    }
}

/// `rust-lld` of the toolchain that runs this task, if it has one.
fn rustup_linker() -> Option<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    let libraries = Path::new(sysroot.trim()).join("lib/rustlib");
    let hosts = fs::read_dir(libraries).ok()?.flatten();
    hosts.map(|host| host.path().join("bin/rust-lld")).find(|program| program.is_file())
}

/// The first of [`PACKAGES`] that this workspace's `rust-version` allows.
fn choose_packages() -> Result<[&'static str; 3]> {
    let needed = version(env!("CARGO_PKG_RUST_VERSION")).context("rust-version in Cargo.toml")?;
    let mut seen = Vec::new();
    for packages in PACKAGES {
        if let Some(candidate) = debian::candidate(packages[0]) {
            if version(&candidate).is_some_and(|version| version >= needed) {
                return Ok(packages);
            }
            seen.push(format!("{} {candidate}", packages[0]));
        }
    }
    let offer = if seen.is_empty() { "none".into() } else { seen.join(" and ") };
    bail!(
        "Debian's Rust is too old: Ringwall needs {}.{}, apt offers {offer}.\n\
         If apt's lists are old, type: sudo apt-get update",
        needed.0,
        needed.1
    );
}

/// Major and minor number of a version such as `1.96.0+dfsg1-1`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Puts the library's source where `build-std` looks for it, if the packages have not.
fn link_source(tree: &Path) -> Result<()> {
    let place = tree.join("usr/lib/rustlib/src/rust");
    if place.join("library/core").is_dir() {
        return Ok(());
    }
    let sources = fs::read_dir(tree.join("usr/src"))?.flatten();
    let source = sources
        .map(|source| source.path())
        .find(|source| source.join("library/core").is_dir())
        .context("Debian's Rust source package holds no library")?;
    fs::create_dir_all(place.parent().expect("a path with a parent"))?;
    // The packages may have left a link that is good for an installed package only.
    if place.is_symlink() {
        fs::remove_file(&place)?;
    }
    std::os::unix::fs::symlink(&source, &place)?;
    ensure!(place.join("library/core").is_dir(), "no library source at {}", place.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_versions_compare_by_number() {
        assert_eq!(version("1.96.0+dfsg1-1~deb12u2"), Some((1, 96)));
        assert!(version("1.100.0") > version("1.95"));
        assert_eq!(version("nonsense"), None);
    }
}
