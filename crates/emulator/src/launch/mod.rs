//! A QEMU that is started for a look, with the user's own command line.
//!
//! The user's arguments are completed (see [`arguments`]), the monitor is a socket pair, and RAM is a memfd of ours where
//! the arguments leave that free, so that reading it takes no round trip. QEMU ends with the [`Launched`], with its time
//! limit, and with this program.

mod arguments;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arguments::Arguments;

use crate::process::{Ended, Process};
use crate::{Attached, Console, Error, GuestMemory, Held, Monitor, QEMU};

/// How much of the console's end an error shows.
const TAIL_LINES: usize = 20;

/// A running guest that this program has started.
#[derive(Debug)]
pub struct Launched {
    /// The guest, to be held and looked at.
    pub attached: Attached,
    /// The first serial port, if the arguments leave it on QEMU's standard output.
    pub console: Console,
    errors: Console,
    process: Process,
}

impl Launched {
    /// Starts `qemu-system-x86_64` with these arguments, completed; the first may be another program, if it does not
    /// begin with a dash. It runs for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Error::NotInstalled`] and [`Error::Start`] when there is no such program, [`Error::Argument`] for what would
    /// take the guest out of our hands, [`Error::Gone`] with QEMU's own words when it does not like the arguments.
    pub fn start(arguments: &[OsString], limit: Duration) -> Result<Launched, Error> {
        let (program, given) = match arguments.split_first() {
            Some((first, rest)) if !first.to_string_lossy().starts_with('-') => (&**first, rest),
            _ => (OsStr::new(QEMU), arguments),
        };
        let parsed = Arguments::parse(given);
        for option in ["daemonize", "incoming"] {
            if parsed.any(&[option]) {
                return Err(Error::Argument { option: option.into() });
            }
        }
        let (ours, theirs) = UnixStream::pair().map_err(Error::host("make a monitor socket"))?;
        let mut command = Command::new(program);
        command
            .args(given)
            .args(parsed.defaults())
            .arg("-S")
            .arg("-chardev")
            .arg(format!("socket,id=ringwall-monitor,fd={}", theirs.as_raw_fd()))
            .args(["-mon", "chardev=ringwall-monitor,mode=control"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut inherited = vec![OwnedFd::from(theirs)];
        let mut memory = None;
        if let Some(size) = parsed.memory() {
            let ram = GuestMemory::new(size)?;
            let handle = ram.duplicate()?;
            command.args(ram.arguments(&handle));
            inherited.push(handle);
            memory = Some(ram);
        }
        let (process, pipes) =
            Process::start(command, inherited, Some(limit)).map_err(|source| {
                let program = program.to_string_lossy().into_owned();
                match source.kind() {
                    io::ErrorKind::NotFound => Error::NotInstalled { program },
                    _ => Error::Start { program, source },
                }
            })?;
        let thread = Error::host("start a console's thread");
        let console = Console::of(pipes.stdout, pipes.stdin).map_err(thread)?;
        let thread = Error::host("start a console's thread");
        let errors = Console::of(pipes.stderr, None).map_err(thread)?;

        let attached = Monitor::new(ours).and_then(|mut monitor| {
            monitor.resume()?;
            Attached::sharing(monitor, memory)
        });
        match attached {
            Ok(attached) => Ok(Launched { attached, console, errors, process }),
            Err(Error::Silent { .. }) => {
                drop(process);
                settle(&errors);
                Err(Error::Gone { stderr: errors.text().trim().into() })
            }
            Err(error) => Err(error),
        }
    }

    /// How QEMU ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.process.ended()
    }

    /// As [`Attached::hold`], with [`Launched::explain`] applied to its error.
    ///
    /// # Errors
    ///
    /// As [`Attached::hold`], and [`Error::Ended`].
    pub fn hold(&mut self, limit: Duration) -> Result<Held<'_>, Error> {
        let Launched { attached, console, errors, process } = self;
        attached.hold(limit).map_err(|error| explain(process, console, errors, error))
    }

    /// As [`Attached::catch`] with a stub that is switched on and off, with [`Launched::explain`] applied to its error.
    ///
    /// # Errors
    ///
    /// As [`Attached::catch`], and [`Error::Ended`].
    pub fn catch(&mut self, limit: Duration) -> Result<Held<'_>, Error> {
        let Launched { attached, console, errors, process } = self;
        attached.catch(None, limit).map_err(|error| explain(process, console, errors, error))
    }

    /// The error to tell the user, given one from the monitor: if QEMU has ended, then that, and what was last seen of
    /// the guest.
    pub fn explain(&self, error: Error) -> Error {
        explain(&self.process, &self.console, &self.errors, error)
    }

    /// The last lines of the console, and what QEMU itself had to say.
    pub fn said(&self) -> String {
        said(&self.console, &self.errors)
    }
}

fn explain(process: &Process, console: &Console, errors: &Console, error: Error) -> Error {
    if !matches!(error, Error::Silent { .. }) {
        return error;
    }
    // The monitor closes a moment before the process is gone; on a busy host a longer one.
    let deadline = Instant::now() + Duration::from_secs(10);
    while process.ended().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let how = match process.ended() {
        None => return error,
        Some(Ended::ByItself(status)) => status.to_string(),
        Some(Ended::TimeLimit) => "its time was up".into(),
        Some(Ended::Killed) => "killed".into(),
    };
    settle(console);
    settle(errors);
    Error::Ended { how, said: said(console, errors) }
}

fn said(console: &Console, errors: &Console) -> String {
    let text = console.text();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    format!("{}\n{}", tail, errors.text()).trim().to_owned()
}

/// Waits until the last bytes have come through the pipe of a process that has ended.
fn settle(console: &Console) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !console.closed() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(arguments: &[&str]) -> Result<Launched, Error> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Launched::start(&arguments, Duration::from_secs(100))
    }

    #[test]
    fn a_missing_emulator_says_what_to_install() {
        let error = start(&["/nonexistent/qemu", "-kernel", "k"]).expect_err("no program");
        assert!(error.to_string().contains("apt install qemu-system-x86"), "{error}");
    }

    #[test]
    fn a_guest_that_would_escape_is_refused() {
        let error = start(&["-daemonize"]).expect_err("a refusal");
        assert!(matches!(error, Error::Argument { .. }), "{error}");
    }

    #[test]
    fn a_program_that_ends_is_quoted() {
        let error = start(&["sh", "-c", "echo no such machine >&2"]).expect_err("an end");
        // The shell gets more arguments than it wants, and does not mind.
        assert!(error.to_string().contains("no such machine"), "{error}");
    }
}
