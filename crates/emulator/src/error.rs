//! What can go wrong with an emulator, and whose fault it is.

use std::io;
use std::path::PathBuf;

/// As much of another program's words as an error repeats, in bytes.
const LONGEST_QUOTE: usize = 2000;

/// Why a guest could not be started, asked or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The emulator's program could not be run at all.
    #[error("could not start {program}: {source}; is it installed?")]
    Start {
        /// The program that was tried.
        program: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The emulator's program is not there.
    #[error(
        "{program} is not installed (Debian, Ubuntu: apt install qemu-system-x86; Fedora: dnf install qemu-system-x86-core; Arch: pacman -S qemu-system-x86)"
    )]
    NotInstalled {
        /// The program that was tried.
        program: String,
    },
    /// An argument that would take the guest out of this program's hands.
    #[error(
        "QEMU's option -{option} cannot be used here: the guest has to be started by, and end with, this program"
    )]
    Argument {
        /// The option, without dashes.
        option: String,
    },
    /// A guest that was started here ended before it was looked at.
    #[error(
        "QEMU ended ({how}) before the guest could be looked at; the last that was seen of it:\n{said}"
    )]
    Ended {
        /// The exit status, or what else ended it.
        how: String,
        /// The end of the console and QEMU's own words.
        said: String,
    },
    /// The host refused something that the guest needs: a memory file, a socket, a pipe.
    #[error("could not {action}: {source}")]
    Host {
        /// What was being done.
        action: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// Bochs or GRUB is not there, or not whole.
    #[error("{} is missing: Bochs and GRUB have not been fetched", file.display())]
    Missing {
        /// What was looked for.
        file: PathBuf,
    },
    /// GRUB's tool could not make a bootable CD.
    #[error("grub-mkrescue made no bootable CD; it said: {said}")]
    Image {
        /// What it wrote to its standard error.
        said: String,
    },
    /// QEMU ended, or closed its monitor, before it could answer. Usually it did not like its
    /// arguments: its own words follow.
    #[error("QEMU ended before its monitor answered; it said: {stderr}")]
    Gone {
        /// What QEMU wrote to its standard error.
        stderr: String,
    },
    /// Nothing listens at the place that was named.
    #[error("cannot connect to {place}: {source}; is QEMU running with this socket?")]
    Connect {
        /// The socket's path, or host and port.
        place: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// Somebody listens, but says nothing.
    #[error(
        "nobody greets at {place} ({source}): is it a QMP socket, and is no other client connected to it? QEMU serves one at a time"
    )]
    Busy {
        /// The socket's path, or host and port.
        place: String,
        /// How the read failed.
        source: io::Error,
    },
    /// The monitor did not answer in time. QEMU is busy or stuck.
    #[error("QEMU's monitor gave no answer to `{command}`: {source}")]
    Silent {
        /// The command that was sent.
        command: String,
        /// How the read failed.
        source: io::Error,
    },
    /// The monitor answered with an error.
    #[error("QEMU refused `{command}`: {answer}")]
    Refused {
        /// The command that was sent.
        command: String,
        /// QEMU's answer.
        answer: String,
    },
    /// QEMU does not write its memory where this program can read it.
    #[error(
        "QEMU could not hand over its memory ({answer}): run this on the host that QEMU runs on, as the same user"
    )]
    Hidden {
        /// What QEMU said.
        answer: String,
    },
    /// The monitor's answer is not what this version of the crate can read.
    #[error("QEMU's answer to `{command}` has no {missing}: {answer}")]
    Unreadable {
        /// The command that was sent.
        command: String,
        /// What was looked for.
        missing: String,
        /// The text that it was looked for in.
        answer: String,
    },
}

impl Error {
    /// An [`Error::Unreadable`], with no more of the answer than a person reads.
    pub(crate) fn unreadable(command: &str, missing: &str, answer: &str) -> Error {
        let answer = quote(answer);
        Error::Unreadable { command: command.into(), missing: missing.into(), answer }
    }

    /// Turns an I/O error into [`Error::Host`], for use with `map_err`.
    pub(crate) fn host(action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Host { action, source }
    }
}

/// The first part of what another program said.
pub(crate) fn quote(text: &str) -> String {
    match text.len() {
        0..=LONGEST_QUOTE => text.into(),
        _ => format!("{}...", &text[..text.floor_char_boundary(LONGEST_QUOTE)]),
    }
}
