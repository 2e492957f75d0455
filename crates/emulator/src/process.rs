//! A child process that cannot be left behind.
//!
//! One thread per child, the watchdog, spawns it, limits it, kills it and reaps it. Three things
//! end the child, whichever comes first: its own exit, the time limit, and the drop of the
//! [`Process`]. If this program dies, by whatever signal, the kernel kills the child: Linux sends
//! the parent-death signal when the *thread* that spawned a child ends, so that thread must be one
//! that lives exactly as long as the child may. The watchdog is that thread.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use rustix::io::FdFlags;
use rustix::process::Signal;

/// How often the watchdog looks whether the child has ended.
const POLL: Duration = Duration::from_millis(5);

/// How a child process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited, or was ended by a signal from somebody else.
    ByItself(ExitStatus),
    /// It was killed because its time limit ran out.
    TimeLimit,
    /// It was killed because its owner asked for that.
    Killed,
}

/// A running child process with its watchdog.
#[derive(Debug)]
pub struct Process {
    ended: Arc<Outcome>,
    /// Dropping this tells the watchdog to kill the child.
    keep: Option<SyncSender<()>>,
    watchdog: Option<JoinHandle<()>>,
}

/// The pipes of a child that were asked for with [`std::process::Stdio::piped`].
#[derive(Debug)]
pub(crate) struct Pipes {
    pub stdin: Option<ChildStdin>,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
}

#[derive(Debug, Default)]
struct Outcome {
    ended: Mutex<Option<Ended>>,
    changed: Condvar,
}

impl Process {
    /// Starts `command`; it is killed after `limit`, or runs without one if that is `None`.
    /// The child inherits `inherited`, under the same numbers as here.
    ///
    /// # Errors
    ///
    /// What the operating system said when the program could not be started.
    pub(crate) fn start(
        mut command: Command,
        inherited: Vec<OwnedFd>,
        limit: Option<Duration>,
    ) -> io::Result<(Process, Pipes)> {
        let parent = rustix::process::getpid();
        // SAFETY: the closure runs between fork and exec and only makes system calls that are
        // async-signal-safe (fcntl, prctl, getppid); it neither allocates nor takes a lock.
        // The descriptors stay open until the spawn is over: the closure owns them.
        unsafe {
            command.pre_exec(move || {
                for descriptor in &inherited {
                    debug_assert!(descriptor.as_raw_fd() > 2);
                    rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
                }
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                // The parent may have died before the line above took effect.
                if rustix::process::getppid() != Some(parent) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
        let ended = Arc::new(Outcome::default());
        let (keep, dropped) = mpsc::sync_channel(0);
        let (report, started) = mpsc::sync_channel(1);
        let outcome = Arc::clone(&ended);
        let watchdog =
            thread::Builder::new().name("emulator watchdog".into()).spawn(move || {
                let spawned = command.spawn();
                // Closes this side's copies of the inherited descriptors.
                drop(command);
                match spawned {
                    Ok(mut child) => {
                        let pipes = Pipes {
                            stdin: child.stdin.take(),
                            stdout: child.stdout.take(),
                            stderr: child.stderr.take(),
                        };
                        // A failed send means that the caller is gone; `dropped` says so as well.
                        let _ = report.send(Ok(pipes));
                        outcome.set(watch(child, &dropped, limit));
                    }
                    Err(error) => {
                        let _ = report.send(Err(error));
                    }
                }
            })?;
        let pipes = started.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok((Process { ended, keep: Some(keep), watchdog: Some(watchdog) }, pipes))
    }

    /// How the child ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        *self.ended.lock()
    }

    /// Waits until the child has ended. The time limit bounds this.
    pub fn wait(&self) -> Ended {
        let mut ended = self.ended.lock();
        loop {
            match *ended {
                Some(ended) => return ended,
                None => {
                    ended = self.ended.changed.wait(ended).unwrap_or_else(|e| e.into_inner());
                }
            }
        }
    }

    /// Kills the child, if it still runs, and reaps it.
    pub fn kill(&mut self) {
        self.keep = None;
        if let Some(watchdog) = self.watchdog.take() {
            // The watchdog does not panic; if it did, the child died with it.
            let _ = watchdog.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, Option<Ended>> {
        self.ended.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn set(&self, ended: Ended) {
        *self.lock() = Some(ended);
        self.changed.notify_all();
    }
}

/// Lets the child run until it ends, its time is up or `dropped` is disconnected.
fn watch(mut child: Child, dropped: &Receiver<()>, limit: Option<Duration>) -> Ended {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let ended = loop {
        // An error here means that there is no such child any more: nothing to wait for.
        match child.try_wait() {
            Ok(Some(status)) => return Ended::ByItself(status),
            Ok(None) => {}
            Err(_) => return Ended::Killed,
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break Ended::TimeLimit;
        }
        if dropped.recv_timeout(POLL) == Err(RecvTimeoutError::Disconnected) {
            break Ended::Killed;
        }
    };
    // Both fail only if the child has ended by now.
    let _ = child.kill();
    let _ = child.wait();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleep(seconds: &str, limit: Option<Duration>) -> Process {
        let mut command = Command::new("sleep");
        command.arg(seconds);
        Process::start(command, Vec::new(), limit).expect("sleep starts").0
    }

    #[test]
    fn a_child_that_ends_is_reaped() {
        let ended = sleep("0", Some(Duration::from_secs(20))).wait();
        assert!(matches!(ended, Ended::ByItself(status) if status.success()));
    }

    #[test]
    fn the_time_limit_kills() {
        let start = Instant::now();
        assert_eq!(sleep("60", Some(Duration::from_millis(50))).wait(), Ended::TimeLimit);
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_drop_kills() {
        let mut process = sleep("60", None);
        process.kill();
        assert_eq!(process.ended(), Some(Ended::Killed));
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let command = Command::new("/nonexistent/program");
        assert!(Process::start(command, Vec::new(), None).is_err());
    }
}
