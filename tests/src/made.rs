//! What `cargo xtask` has made for the scenarios, below `target/ringwall`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Names another kernel to run the scenarios on.
const KERNEL: &str = "RINGWALL_KERNEL";

/// Names the directory that everything was made in, if it is not the usual one.
const MADE: &str = "RINGWALL_MADE";

/// The C library that a program is linked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// glibc, static.
    Glibc,
    /// musl, static.
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

/// The kernel.
pub fn kernel() -> PathBuf {
    match std::env::var_os(KERNEL) {
        Some(file) => file.into(),
        None => existing("kernel/ringwall-kernel"),
    }
}

/// The kernel with all deliberate breaks, of which `break=NAME` turns one on.
pub fn breakable() -> PathBuf {
    assert!(!other_kernel(), "{KERNEL} is set, and only our kernel has deliberate breaks");
    existing("kernel/ringwall-kernel+breaks")
}

/// The example: a small kernel on the library's public API.
pub fn example() -> PathBuf {
    existing("kernel/ringwall-minimal")
}

/// Where Debian's packages for Bochs and GRUB are unpacked, if they were fetched.
pub fn bochs() -> PathBuf {
    directory().join("packages/bochs")
}

/// Where Debian's packages for Chromium are unpacked, if they were fetched.
pub fn chromium() -> PathBuf {
    directory().join("packages/chromium")
}

/// Debian's Linux kernel, if it was fetched.
pub fn linux() -> Option<PathBuf> {
    let files = std::fs::read_dir(directory().join("packages/linux/boot")).ok()?;
    let is_kernel = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    };
    files.flatten().map(|file| file.path()).find(is_kernel)
}

/// The same for a scenario of Linux's own, which is skipped without it.
///
/// # Panics
///
/// When it is missing though the scenarios were to run on another kernel than ours.
pub fn linux_or_skip() -> Option<PathBuf> {
    let kernel = linux();
    if kernel.is_none() {
        assert!(!other_kernel(), "Debian's Linux is not there: run `cargo xtask setup --linux`");
        println!("skipped: Debian's Linux was not fetched");
    }
    kernel
}

/// Whether the scenarios run on another kernel than ours.
pub fn other_kernel() -> bool {
    std::env::var_os(KERNEL).is_some()
}

/// The bytes of our kernel's file; `None` when the scenarios run on another one.
///
/// # Panics
///
/// When it has not been built.
pub fn kernel_file() -> Option<Vec<u8>> {
    (!other_kernel()).then(|| read(&kernel()))
}

/// The bytes of one of our programs.
///
/// # Panics
///
/// When it has not been compiled.
pub fn program(library: Library, name: &str) -> Vec<u8> {
    read(&existing(&format!("programs/{}/{name}", library.name())))
}

/// The bytes of one of Linux's x86 selftests; `None` if it was not built.
pub fn selftest(library: Library, name: &str) -> Option<Vec<u8>> {
    let path = directory().join("selftests").join(library.name()).join(name);
    path.is_file().then(|| read(&path))
}

/// Leaves a table for `cargo xtask test` to print when the scenarios are over.
///
/// # Panics
///
/// When it cannot be written.
pub fn leave_table(name: &str, text: &str) {
    let tables = directory().join("tables");
    let written = std::fs::create_dir_all(&tables)
        .and_then(|()| std::fs::write(tables.join(format!("{name}.txt")), text));
    written.unwrap_or_else(|error| panic!("could not write the table {name}: {error}"));
}

/// The file that a line goes to for each boot that was looked at: the number of looks. None when nobody sums up.
pub fn looks() -> Option<PathBuf> {
    Some(Path::new(&std::env::var_os(MADE)?).join("looks"))
}

/// busybox and the names that it answers to.
pub fn busybox() -> (Vec<u8>, Vec<String>) {
    // Debian 12 has it in /bin, later ones in /usr/bin.
    let places = ["packages/busybox/bin/busybox", "packages/busybox/usr/bin/busybox"];
    let program = places.map(|place| directory().join(place)).into_iter().find(|p| p.is_file());
    let program = program.unwrap_or_else(|| existing(places[0]));
    let list = Command::new(&program).arg("--list").output().expect("busybox runs on this host");
    let names = String::from_utf8_lossy(&list.stdout).lines().map(str::to_owned).collect();
    (read(&program), names)
}

/// Everything that was made for the scenarios, and what they leave: `target/ringwall`.
pub fn directory() -> PathBuf {
    match std::env::var_os(MADE) {
        Some(directory) => directory.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ringwall"),
    }
}

fn existing(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(path.is_file(), "{} is not there: run `cargo xtask test`", path.display());
    path
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}
