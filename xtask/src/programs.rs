//! Our own user programs: each C file in `programs/`, statically linked with glibc and with musl.
//!
//! The results are in `target/ringwall/programs/{glibc,musl}` and are made again when a source or a
//! header is newer. musl need not be installed: the compiler is told where the unpacked one is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use crate::commands::output;
use crate::parallel::each;
use crate::progress::step;
use crate::setup::packages;
use crate::workspace::{made, root};

/// C libraries that every program is linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// The host's.
    Glibc,
    /// Debian's musl, unpacked.
    Musl,
}

impl Library {
    /// Both.
    pub const ALL: [Library; 2] = [Library::Glibc, Library::Musl];

    /// The name of the directory that its programs are in.
    pub fn name(self) -> &'static str {
        match self {
            Library::Glibc => "glibc",
            Library::Musl => "musl",
        }
    }
}

/// Where the programs for one library are.
pub fn directory(library: Library) -> PathBuf {
    made().join("programs").join(library.name())
}

/// Compiles what is out of date, for both libraries.
///
/// # Errors
///
/// Without a C compiler or musl, and when a program does not compile.
pub fn build() -> Result<()> {
    packages::c_compiler()?;
    let newest_header = newest(&with_extension("h")?);
    for library in Library::ALL {
        fs::create_dir_all(directory(library))?;
        let mut stale = with_extension("c")?;
        stale.retain(|source| {
            modified(&program(library, source)) <= modified(source).max(newest_header)
        });
        if !stale.is_empty() {
            let title = format!("compile {} programs with {}", stale.len(), library.name());
            step(&title, || compile(library, &stale))?;
        }
    }
    Ok(())
}

/// The program that a source becomes.
fn program(library: Library, source: &Path) -> PathBuf {
    directory(library).join(source.file_stem().unwrap_or_default())
}

fn compile(library: Library, sources: &[PathBuf]) -> Result<()> {
    // Fetched before two ask for it.
    if library == Library::Musl {
        packages::musl()?;
    }
    each(sources, |source| {
        let mut command = compiler(library, &["-Wall"], &[source], &program(library, source))?;
        output(&mut command).map(drop)
    })
}

/// The bytes of one program.
///
/// # Errors
///
/// When there is no such program; [`build`] makes them all.
pub fn read(library: Library, name: &str) -> Result<Vec<u8>> {
    let path = directory(library).join(name);
    fs::read(&path).with_context(|| format!("programs/{name}.c has not been compiled"))
}

/// The compiler's command line for one static program of these sources.
///
/// # Errors
///
/// As [`packages::musl`].
pub fn compiler(
    library: Library,
    flags: &[&str],
    sources: &[&Path],
    program: &Path,
) -> Result<Command> {
    let mut command = Command::new("cc");
    command.args(["-O2", "-static", "-no-pie", "-pthread"]).args(flags).arg("-o").arg(program);
    match library {
        Library::Glibc => {
            command.args(sources);
        }
        Library::Musl => {
            let musl = packages::musl()?;
            let part = |name: &str| musl.join("usr/lib/x86_64-linux-musl").join(name);
            let intrinsics = output(Command::new("cc").arg("-print-file-name=include"))?;
            command
                .args(["-nostdinc", "-nostdlib", "-isystem"])
                .arg(musl.join("usr/include/x86_64-linux-musl"))
                .args(["-isystem", intrinsics.trim()])
                .args([part("crt1.o"), part("crti.o")])
                .args(sources)
                .arg("-Wl,--start-group")
                .arg(part("libc.a"))
                .args(["-lgcc", "-lgcc_eh", "-Wl,--end-group"])
                .arg(part("crtn.o"));
        }
    }
    Ok(command)
}

/// The files in `programs/` that end so, in order.
fn with_extension(extension: &str) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("programs"))
        .context("could not list programs/")?
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    Ok(files)
}

fn newest(files: &[PathBuf]) -> Option<SystemTime> {
    files.iter().filter_map(|file| modified(file)).max()
}

/// When a file was changed: `None` for one that is not there, which is less than any time.
pub fn modified(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|data| data.modified()).ok()
}
