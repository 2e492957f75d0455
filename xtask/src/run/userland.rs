//! The initramfs archives that the tour boots: busybox, our programs, and an init.

use std::fs;

use anyhow::{Context, Result};
use ringwall_emulator::Initramfs;
use tempfile::NamedTempFile;

use crate::programs::{self, Library};
use crate::setup::packages;
use crate::workspace::{made, root};

/// busybox with all its names, the console, and `programs/tour/SCRIPT` as init.
///
/// # Errors
///
/// When busybox cannot be had or the script is not there.
pub fn with_script(script: &str) -> Result<Initramfs> {
    let applets = packages::busybox_applets()?;
    Ok(Initramfs::new()
        .device("/dev/console", 0o600, 5, 1)
        .directory("/proc")
        .directory("/sys")
        .directory("/tmp")
        .busybox(fs::read(packages::busybox()?)?, applets.iter().map(String::as_str))
        .file("/init", 0o755, self::script(script)?))
}

/// One of the scripts in `programs/tour`.
///
/// # Errors
///
/// When it is not there.
pub fn script(name: &str) -> Result<Vec<u8>> {
    let path = root().join("programs/tour").join(name);
    fs::read(&path).with_context(|| format!("could not read {}", path.display()))
}

/// Our own init and one of our programs, which it runs.
///
/// # Errors
///
/// When they have not been compiled.
pub fn with_program(name: &str) -> Result<Initramfs> {
    Ok(Initramfs::new()
        .device("/dev/console", 0o600, 5, 1)
        .file("/init", 0o755, programs::read(Library::Glibc, "run")?)
        .file(&format!("/programs/{name}"), 0o755, programs::read(Library::Glibc, name)?))
}

/// Puts an archive in a file that goes away by itself.
///
/// # Errors
///
/// When the target directory cannot be written to.
pub fn in_file(archive: &Initramfs) -> Result<NamedTempFile> {
    let images = made().join("images");
    fs::create_dir_all(&images)?;
    let file = NamedTempFile::new_in(&images)?;
    fs::write(file.path(), archive.build())?;
    Ok(file)
}
