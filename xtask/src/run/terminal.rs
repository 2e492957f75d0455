//! A guest on the person's own terminal, and on pipes when there is none.
//!
//! On a terminal QEMU gets it as it is: raw, so Ctrl-C goes to the guest, and Ctrl-A X ends QEMU. A
//! signal to this program ends QEMU first, and the terminal is put back as it was in any case.

use std::io::{self, BufRead, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Result, ensure};
use ringwall_emulator::{Ended, Exit, Machine};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::progress::note;
use crate::run::userland;

/// A guest that nobody watches ends after this.
const PIPED_LIMIT: Duration = Duration::from_secs(600);

/// How the prompt of `programs/tour/shell.sh` begins.
const PROMPT: &str = "ringwall:";

/// The guest is taken to wait for input when it has written nothing for this long.
const QUIET: Duration = Duration::from_millis(500);

/// Boots the shell's initramfs.
///
/// # Errors
///
/// As [`boot`], and without busybox.
pub fn shell(machine: Machine) -> Result<()> {
    let image = userland::in_file(&userland::with_script("shell.sh")?)?;
    boot(&machine.initrd(image.path()), PROMPT)
}

/// Boots, with this program's input and output as the guest's console. On pipes nothing is typed
/// before the guest has written `ready`.
///
/// # Errors
///
/// When QEMU does not start or ends badly, and when a guest on pipes runs into its time limit.
pub fn boot(machine: &Machine, ready: &str) -> Result<()> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        on_terminal(machine)
    } else {
        on_pipes(machine, ready)
    }
}

fn on_terminal(machine: &Machine) -> Result<()> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stopped))?;
    }
    note("Ctrl-A X ends QEMU; Ctrl-C goes to the guest");
    let terminal = Terminal::save()?;
    let ended = machine.run_on_terminal(|| !stopped.load(Ordering::Relaxed));
    drop(terminal);
    match ended? {
        Ended::ByItself(status) => ensure!(status.success(), "QEMU ended with {status}"),
        Ended::Killed | Ended::TimeLimit => note("QEMU was ended"),
    }
    Ok(())
}

/// Shows the console and types the lines of standard input, one each time the guest is quiet.
fn on_pipes(machine: &Machine, ready: &str) -> Result<()> {
    let input = lines_of_input();
    let mut guest = machine.clone().limit(PIPED_LIMIT).start()?;
    guest.console.wait_for(ready, PIPED_LIMIT);
    let mut input_ended = false;
    while !guest.console.closed() {
        while let Some(line) = guest.console.next_line(QUIET) {
            println!("{line}");
        }
        io::stdout().flush()?;
        // What is left is a prompt, or a guest at work: typed lines wait in its terminal.
        match input.try_recv() {
            Ok(line) => guest.console.send(&format!("{line}\n")).unwrap_or_default(),
            Err(mpsc::TryRecvError::Disconnected) if !input_ended => {
                input_ended = true;
                guest.console.send("exit\n").unwrap_or_default();
            }
            Err(_) => {}
        }
    }
    let exit = guest.wait();
    ensure!(matches!(exit, Exit::PoweredOff | Exit::Reset), "the guest ended with {exit:?}");
    Ok(())
}

/// The lines of standard input, read by a thread of their own; disconnected at its end.
fn lines_of_input() -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal's settings, put back when this is dropped.
struct Terminal {
    settings: Termios,
}

impl Terminal {
    fn save() -> Result<Terminal> {
        Ok(Terminal { settings: tcgetattr(io::stdin())? })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no settings.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings);
    }
}
