//! Why a file is of no use as a guest's memory, and what to do about it.

use std::io;

/// Why a core or an image could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The operating system could not read it.
    #[error("cannot read it: {0}")]
    Read(#[from] io::Error),
    /// A pipe, a device or a directory.
    #[error("it is not a regular file")]
    NotAFile,
    /// The format of makedumpfile, in which pages are compressed.
    #[error(
        "it is a kdump-compressed dump; make an ELF one: QEMU's `dump-guest-memory FILE` without -z, -l or -s"
    )]
    Kdump,
    /// The format of Windows crash dumps.
    #[error(
        "it is a Windows crash dump; make an ELF one: QEMU's `dump-guest-memory FILE` without -w"
    )]
    Windows,
    /// A state of QEMU's `savevm` or `migrate`.
    #[error("it is a migration stream; make an ELF core: QEMU's `dump-guest-memory FILE`")]
    Migration,
    /// No ELF file at all.
    #[error(
        "it is no ELF core; a raw image of physical memory needs the root to look at (--raw FILE --cr3 ROOT)"
    )]
    NotElf,
    /// An ELF file, but a program or an object.
    #[error("it is an ELF file, but no core")]
    NotACore,
    /// A core of another architecture, or of a guest that never entered long mode.
    #[error("it is a core of a machine, or of a mode, that is not 64-bit x86")]
    NotX86,
    /// Its headers contradict each other or the file's length.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// No note of QEMU's in it.
    #[error(
        "it has no CPU registers of QEMU's (made by another program?); the root to look at has to be named (--raw FILE --cr3 ROOT)"
    )]
    NoRegisters,
}
