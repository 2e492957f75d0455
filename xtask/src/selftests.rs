//! Linux's own tests of the x86 entry code (`tools/testing/selftests/x86`), from Debian's package of
//! the kernel's source: unmodified, 64-bit, static, each with glibc and, where it builds, with musl.
//!
//! The results are in `target/ringwall/selftests/{glibc,musl}`; nothing of this is ever committed. The
//! flags are those of the suite's Makefile, and `-static`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::commands::output;
use crate::parallel::each;
use crate::programs::{Library, compiler, modified};
use crate::progress::step;
use crate::setup::packages;
use crate::workspace::made;

/// Every program of the suite that can be built for 64-bit mode; the others are 32-bit code.
const TESTS: [&str; 24] = [
    "amx",
    "check_initial_reg_state",
    "corrupt_xstate_header",
    "fsgsbase",
    "fsgsbase_restore",
    "ioperm",
    "iopl",
    "ldt_gdt",
    "mov_ss_trap",
    "ptrace_syscall",
    "sigaltstack",
    "sigreturn",
    "sigtrap_loop",
    "single_step_syscall",
    "syscall_arg_fault",
    "syscall_nt",
    "syscall_numbering",
    "sysret_rip",
    "sysret_ss_attrs",
    "test_FCMOV",
    "test_FCOMI",
    "test_FISTTP",
    "test_mremap_vdso",
    "test_vsyscall",
];

/// Does not compile with musl's headers.
const GLIBC_ONLY: [&str; 1] = ["amx"];

/// Kernel headers, which musl does not bring, in Debian's and in other systems' place.
const KERNEL_HEADERS: [(&str, &[&str]); 3] = [
    ("linux", &["/usr/include/linux"]),
    ("asm-generic", &["/usr/include/asm-generic"]),
    ("asm", &["/usr/include/x86_64-linux-gnu/asm", "/usr/include/asm"]),
];

/// Fetches the source and compiles what is missing.
///
/// # Errors
///
/// When the source cannot be had, without a C compiler, and when a test does not compile.
pub fn build() -> Result<()> {
    let source = packages::selftests()?.join("tools/testing/selftests/x86");
    packages::c_compiler()?;
    let headers = kernel_headers()?;
    for library in Library::ALL {
        let directory = made().join("selftests").join(library.name());
        fs::create_dir_all(&directory)?;
        let tests = TESTS.iter().filter(|test| builds(library, test));
        let missing: Vec<&str> = tests
            .filter(|test| {
                modified(&directory.join(test)) <= modified(&source.join(format!("{test}.c")))
            })
            .copied()
            .collect();
        if missing.is_empty() {
            continue;
        }
        let title = format!("compile {} selftests with {}", missing.len(), library.name());
        step(&title, || {
            // Fetched before two ask for it.
            packages::musl()?;
            each(&missing, |test| compile(library, &headers, &source, &directory, test))
        })?;
    }
    Ok(())
}

fn builds(library: Library, test: &str) -> bool {
    library == Library::Glibc || !GLIBC_ONLY.contains(&test)
}

fn compile(
    library: Library,
    headers: &Path,
    source: &Path,
    directory: &Path,
    test: &str,
) -> Result<()> {
    let headers = headers.to_string_lossy();
    let mut flags = vec!["-g", "-std=gnu99", "-DCAN_BUILD_64"];
    if library == Library::Musl {
        flags.extend(["-isystem", &headers]);
    }
    let mut sources = vec![source.join(format!("{test}.c"))];
    // The two programs with a line of their own in the Makefile.
    match test {
        "check_initial_reg_state" => flags.push("-Wl,-ereal_start"),
        "sysret_ss_attrs" => sources.push(source.join("thunks.S")),
        _ => {}
    }
    let sources: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    let program = directory.join(test);
    let mut command = compiler(library, &flags, &sources, &program)?;
    if library == Library::Glibc {
        command.arg("-lm");
    }
    output(&mut command)
        .with_context(|| format!("the selftest {test} with {}", library.name()))
        .map(drop)
}

/// A directory with the kernel's headers and no others: glibc's must not shadow musl's.
fn kernel_headers() -> Result<PathBuf> {
    let directory = made().join("selftests/headers");
    fs::create_dir_all(&directory)?;
    for (name, places) in KERNEL_HEADERS {
        let link = directory.join(name);
        if link.is_dir() {
            continue;
        }
        let place = places.iter().find(|place| Path::new(place).is_dir());
        let place = place.with_context(|| format!("no kernel headers {name}/ on this machine"))?;
        if link.is_symlink() {
            fs::remove_file(&link)?;
        }
        symlink(place, &link)?;
    }
    Ok(directory)
}
