//! Debian's packages, fetched and unpacked below `target/` without root, or installed as root.
//!
//! apt does the choosing, the downloading and the checking of signatures; `dpkg -x` the unpacking.
//! A set of packages is unpacked under a temporary name and renamed when it is whole, so that a
//! directory with its final name is complete, whatever interrupted an earlier run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::commands::{find, output};
use crate::progress::{note, step};
use crate::workspace::made;

/// Whether this machine has apt and dpkg.
pub fn present() -> bool {
    find("apt-get").is_some() && find("dpkg").is_some()
}

/// Whether packages can be installed.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Unpacks packages to `target/ringwall/packages/SET`, once, and returns that directory.
/// `packages` is asked for their names only if there is something to do.
///
/// # Errors
///
/// Off Debian, without package lists, and without a network; each says what to type.
pub fn unpacked(set: &str, packages: impl FnOnce() -> Result<Vec<String>>) -> Result<PathBuf> {
    unpacked_by(set, packages, |archive, tree| {
        output(Command::new("dpkg").arg("-x").arg(archive).arg(tree)).map(drop)
    })
}

/// As [`unpacked`], but `unpack` takes what it wants of each archive to the tree.
///
/// # Errors
///
/// As [`unpacked`], and whatever `unpack` returns.
pub fn unpacked_by(
    set: &str,
    packages: impl FnOnce() -> Result<Vec<String>>,
    unpack: impl Fn(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let directory = made().join("packages").join(set);
    if directory.is_dir() {
        return Ok(directory);
    }
    ensure!(
        present(),
        "{set} comes from Debian's packages, and this machine has no apt-get and dpkg.\n\
         Run this on Debian, or in a container of it."
    );
    ensure_lists()?;
    let packages = packages()?;
    step(&format!("fetch {set} ({})", summary(&packages)), || {
        let parent = made().join("packages");
        fs::create_dir_all(&parent)?;
        let partial = tempfile::Builder::new().prefix(".partial-").tempdir_in(&parent)?;
        let archives = partial.path().join("archives");
        let tree = partial.path().join("tree");
        fs::create_dir(&archives)?;
        fs::create_dir(&tree)?;
        download(&packages, &archives)?;
        for archive in fs::read_dir(&archives)? {
            unpack(&archive?.path(), &tree)?;
        }
        fs::rename(&tree, &directory)
            .or_else(|error| if directory.is_dir() { Ok(()) } else { Err(error) })
            .with_context(|| format!("could not put {set} in its place"))
    })?;
    Ok(directory)
}

/// Installs packages for the whole machine, as root.
///
/// # Errors
///
/// Not root or not Debian: the message is `purpose` and the command to type.
pub fn install(packages: &[&str], purpose: &str) -> Result<()> {
    let names = packages.join(" ");
    if !present() {
        bail!("{purpose}.\nInstall the equivalent of Debian's {names} and try again.");
    }
    if !is_root() {
        bail!("{purpose}.\nType: sudo apt-get install --no-install-recommends {names}");
    }
    ensure_lists()?;
    step(&format!("install {names}"), || {
        let install = || {
            output(
                Command::new("apt-get")
                    .args(["install", "-y", "--no-install-recommends"])
                    .args(packages)
                    .env("DEBIAN_FRONTEND", "noninteractive"),
            )
        };
        with_fresh_lists(install).map(drop)
    })
}

/// `packages` and what of their dependencies this machine does not have.
///
/// # Errors
///
/// When apt knows no way to install them.
pub fn with_dependencies(packages: &[&str]) -> Result<Vec<String>> {
    let plan = output(
        Command::new("apt-get")
            .args(["install", "--simulate", "--no-install-recommends", "--reinstall"])
            .args(packages),
    )?;
    Ok(planned(&plan, packages))
}

/// The version that apt would install, if it knows the package.
pub fn candidate(package: &str) -> Option<String> {
    let policy = output(Command::new("apt-cache").args(["policy", package])).ok()?;
    let line = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (line != "(none)").then(|| line.to_owned())
}

/// What a meta-package stands for: its first dependency.
///
/// # Errors
///
/// When apt does not know the package.
pub fn stands_for(package: &str) -> Result<String> {
    let text = output(Command::new("apt-cache").args(["depends", package]))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("Debian's {package} depends on nothing, unlike a meta-package"))
}

/// Makes sure that apt has package lists at all.
pub fn ensure_lists() -> Result<()> {
    let has_list = |directory: fs::ReadDir| {
        directory.flatten().any(|file| file.file_name().to_string_lossy().contains("_Packages"))
    };
    if fs::read_dir("/var/lib/apt/lists").is_ok_and(has_list) {
        return Ok(());
    }
    ensure!(is_root(), "apt has no package lists yet.\nType: sudo apt-get update");
    update()
}

fn update() -> Result<()> {
    step("apt-get update", || output(Command::new("apt-get").arg("update")).map(drop))
}

/// Runs a fetch; if it fails and this is root, the lists may be old: renews them and tries again.
fn with_fresh_lists(fetch: impl Fn() -> Result<String>) -> Result<String> {
    let first = match fetch() {
        Ok(text) => return Ok(text),
        Err(error) => error,
    };
    if !is_root() {
        return Err(first.context(
            "apt could not fetch the packages. If its lists are old, type: sudo apt-get update",
        ));
    }
    note("apt could not fetch the packages; its lists may be old");
    update().and_then(|()| fetch()).context("apt could not fetch the packages: no network?")
}

fn download(packages: &[String], directory: &Path) -> Result<()> {
    with_fresh_lists(|| {
        output(Command::new("apt-get").arg("download").args(packages).current_dir(directory))
    })
    .map(drop)
}

fn summary(packages: &[String]) -> String {
    match packages {
        [] => "nothing".into(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

/// The names in the `Inst` lines of a simulated install. Upgrades of packages that are installed
/// (an old version in brackets) are left out, unless they were asked for.
fn planned(plan: &str, asked: &[&str]) -> Vec<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, rest)| !rest.starts_with('[') || asked.contains(name))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrades_of_installed_packages_are_not_planned() {
        let plan = "Reading package lists...\n\
                    Inst libnew (1.0 Debian:12 [amd64])\n\
                    Inst libold [1.0] (1.1 Debian:12 [amd64]) []\n\
                    Inst tool [2.0] (2.0 Debian:12 [amd64])\n\
                    Conf libnew (1.0 Debian:12 [amd64])\n";
        assert_eq!(planned(plan, &["tool"]), ["libnew", "tool"]);
    }
}
