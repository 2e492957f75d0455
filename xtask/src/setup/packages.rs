//! The programs that tests and tours need besides a compiler.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use ringwall_emulator::QEMU;

use crate::commands::{find, output};
use crate::setup::debian;

/// Debian's package of the kernel source that the selftests come from, and the name of the
/// directory in it.
const LINUX_SOURCE: &str = "linux-source-6.1";

/// Makes sure that QEMU is installed.
///
/// # Errors
///
/// When it is not and cannot be installed.
pub fn qemu() -> Result<()> {
    if find(QEMU).is_none() {
        debian::install(&["qemu-system-x86"], &format!("{QEMU} is needed and not installed"))?;
    }
    Ok(())
}

/// Debian's statically linked busybox, unpacked. Returns the program's path.
///
/// # Errors
///
/// As [`debian::unpacked`].
pub fn busybox() -> Result<PathBuf> {
    let tree = debian::unpacked("busybox", || Ok(vec!["busybox-static".into()]))?;
    // Debian 12 has it in /bin, later ones in /usr/bin.
    ["bin/busybox", "usr/bin/busybox"]
        .map(|path| tree.join(path))
        .into_iter()
        .find(|path| path.is_file())
        .context("Debian's busybox-static holds no busybox where it used to")
}

/// The names that busybox answers to.
///
/// # Errors
///
/// When busybox cannot be had or does not run here.
pub fn busybox_applets() -> Result<Vec<String>> {
    let list = output(Command::new(busybox()?).arg("--list"))?;
    Ok(list.lines().map(str::to_owned).collect())
}

/// musl's headers and static library, unpacked. Returns the root of the tree.
///
/// # Errors
///
/// As [`debian::unpacked`].
pub fn musl() -> Result<PathBuf> {
    debian::unpacked("musl", || Ok(vec!["musl-dev".into()]))
}

/// Makes sure that there is a C++ compiler, for libFuzzer.
///
/// # Errors
///
/// When there is none and it cannot be installed.
pub fn cxx_compiler() -> Result<()> {
    if find("c++").is_none() {
        debian::install(&["g++"], "libFuzzer needs a C++ compiler (c++)")?;
    }
    Ok(())
}

/// Makes sure that there is a C compiler and a static C library.
///
/// # Errors
///
/// When there is none and it cannot be installed.
pub fn c_compiler() -> Result<()> {
    let has_library = || {
        let path = output(Command::new("cc").arg("-print-file-name=libc.a"))?;
        // Without the file, the compiler repeats its bare name.
        ensure!(path.trim().contains('/'), "no libc.a");
        Ok(())
    };
    if find("cc").is_none() || has_library().is_err() {
        debian::install(
            &["gcc", "libc6-dev"],
            "The user programs need a C compiler and a static C library (cc, libc.a)",
        )?;
    }
    Ok(())
}

/// Bochs, and GRUB's tools for a CD that boots in it, unpacked with their libraries. Returns the root of
/// the tree.
///
/// # Errors
///
/// As [`debian::unpacked`].
pub fn bochs() -> Result<PathBuf> {
    // Without bochs-term, apt would take a display library with a desktop behind it.
    const PACKAGES: [&str; 7] =
        ["bochs", "bochs-term", "bochsbios", "vgabios", "grub-common", "grub-pc-bin", "xorriso"];
    debian::unpacked("bochs", || debian::with_dependencies(&PACKAGES))
}

/// Chromium without a window, with its libraries and one family of fonts. Returns the root of the tree.
///
/// # Errors
///
/// As [`debian::unpacked`].
pub fn chromium() -> Result<PathBuf> {
    const PACKAGES: [&str; 2] = ["chromium-headless-shell", "fonts-dejavu-core"];
    // Drivers of graphics cards and the compiler in them: a quarter of it all, and never loaded.
    const DRIVERS: [&str; 3] = ["libllvm", "libz3", "libgl1-mesa-dri"];
    let needed = |package: &String| !DRIVERS.iter().any(|driver| package.starts_with(driver));
    debian::unpacked("chromium", || {
        let packages = debian::with_dependencies(&PACKAGES)?;
        Ok(packages.into_iter().filter(needed).collect())
    })
}

/// The files of Linux's x86 selftests, and of the headers beside them that they include.
const SELFTESTS: [&str; 3] = [
    "tools/testing/selftests/x86",
    "tools/testing/selftests/kselftest.h",
    "arch/x86/include/asm/desc_defs.h",
];

/// The source of Linux 6.1's x86 selftests: 40 files out of Debian's package of the whole kernel's
/// source. Returns the root of that tree.
///
/// # Errors
///
/// As [`debian::unpacked`].
pub fn selftests() -> Result<PathBuf> {
    let busybox = busybox()?;
    debian::unpacked_by(
        "selftests",
        || Ok(vec![LINUX_SOURCE.into()]),
        |archive, tree| {
            output(Command::new("dpkg").arg("-x").arg(archive).arg(tree))?;
            // The package holds one archive more, whose compression tar alone may not know.
            let inner = tree.join(format!("usr/src/{LINUX_SOURCE}.tar.xz"));
            let wanted = SELFTESTS.map(|path| format!("{LINUX_SOURCE}/{path}"));
            output(
                Command::new(&busybox)
                    .args(["tar", "-xJf"])
                    .arg(&inner)
                    .args(wanted)
                    .current_dir(tree),
            )?;
            fs::remove_dir_all(tree.join("usr")).context("could not remove the rest of the source")
        },
    )
    .map(|tree| tree.join(LINUX_SOURCE))
}

/// Debian's Linux kernel, unpacked. Returns the bootable image's path.
///
/// # Errors
///
/// As [`debian::unpacked`].
pub fn linux() -> Result<PathBuf> {
    let tree = debian::unpacked("linux", || Ok(vec![debian::stands_for("linux-image-amd64")?]))?;
    for file in fs::read_dir(tree.join("boot"))? {
        let file = file?;
        if file.file_name().to_string_lossy().starts_with("vmlinuz") {
            return Ok(file.path());
        }
    }
    bail!("Debian's linux-image-amd64 holds no boot/vmlinuz-*");
}
