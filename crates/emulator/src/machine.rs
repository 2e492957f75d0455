//! What a guest is made of, and QEMU's words for it.
//!
//! Nothing here comes from the host's configuration: no default devices, no network, no display,
//! TCG as the accelerator. Two runs of one `Machine` differ in host timing only, and a counted
//! one not even in that.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::MemfdFlags;

use crate::console::Console;
use crate::process::{Ended, Process};
use crate::{Error, Guest, GuestMemory, Monitor, QEMU, Stub};

/// All that TCG can do, under the name of an Intel CPU that Meltdown affects. Plain `max` calls
/// itself an AMD CPU, on which `pti=auto` leaves isolation off.
pub const INTEL_CPU: &str = "max,vendor=GenuineIntel,family=6,model=94,stepping=3";

const MIB: u64 = 1 << 20;

/// A guest to be started: kernel, initramfs, command line, size, time limit.
#[derive(Clone, Debug)]
pub struct Machine {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    append: String,
    cpu: String,
    cpus: u32,
    memory_mib: u64,
    counted: bool,
    stub: bool,
    limit: Duration,
}

impl Machine {
    /// A guest that boots `kernel` as `qemu-system-x86_64 -kernel` does: one CPU, 512 MiB, all
    /// CPU features that TCG has, one minute.
    pub fn new(kernel: impl Into<PathBuf>) -> Machine {
        Machine {
            kernel: kernel.into(),
            initrd: None,
            append: String::new(),
            cpu: "max".into(),
            cpus: 1,
            memory_mib: 512,
            counted: false,
            stub: false,
            limit: Duration::from_secs(60),
        }
    }

    /// Gives the guest the initramfs in a file. The file must exist until the guest has ended.
    #[must_use]
    pub fn initrd(mut self, file: impl Into<PathBuf>) -> Machine {
        self.initrd = Some(file.into());
        self
    }

    /// Sets the kernel's command line.
    #[must_use]
    pub fn append(mut self, line: impl Into<String>) -> Machine {
        self.append = line.into();
        self
    }

    /// Sets the CPU model, in the form of QEMU's `-cpu`; see [`INTEL_CPU`].
    #[must_use]
    pub fn cpu(mut self, model: impl Into<String>) -> Machine {
        self.cpu = model.into();
        self
    }

    /// Sets the number of CPUs.
    #[must_use]
    pub fn cpus(mut self, count: u32) -> Machine {
        self.cpus = count;
        self
    }

    /// Sets the size of the memory, in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u64) -> Machine {
        self.memory_mib = mib;
        self
    }

    /// Makes the guest's time-stamp counter count instructions, one each, so that a run repeats to
    /// the instruction. About half the speed.
    #[must_use]
    pub fn counted(mut self) -> Machine {
        self.counted = true;
        self
    }

    /// Connects to QEMU's gdb stub, too: [`Guest::stub`].
    #[must_use]
    pub fn stub(mut self) -> Machine {
        self.stub = true;
        self
    }

    /// Sets the time after which the guest is killed, from its start.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Machine {
        self.limit = limit;
        self
    }

    /// Starts the guest: console recorded, monitor connected, memory shared, running.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] without QEMU, [`Error::Gone`] when QEMU does not like the machine or
    /// cannot read the kernel, [`Error::Host`] when the host refuses memory or sockets.
    pub fn start(&self) -> Result<Guest, Error> {
        let mut memory = GuestMemory::new(self.memory_mib * MIB)?;
        let shared = memory.duplicate()?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::host("make a monitor socket"))?;
        let mut stderr = scratch_file().map_err(Error::host("make a file for QEMU's errors"))?;
        let stderr_copy = stderr.try_clone().map_err(Error::host("share a file with QEMU"))?;

        let mut command = self.command();
        command
            .args(["-display", "none", "-serial", "stdio", "-monitor", "none", "-S"])
            .arg("-chardev")
            .arg(format!("socket,id=monitor,fd={}", theirs.as_raw_fd()))
            .args(["-mon", "chardev=monitor,mode=control"])
            .args(["-m", &format!("{}M", self.memory_mib)])
            .args(["-machine", "pc"])
            .args(memory.arguments(&shared))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr_copy);
        let mut inherited = vec![OwnedFd::from(theirs), shared];
        let mut stub = None;
        if self.stub {
            let (ours, theirs) = UnixStream::pair().map_err(Error::host("make a gdb socket"))?;
            command.arg("-chardev").arg(format!("socket,id=gdb,fd={}", theirs.as_raw_fd()));
            command.args(["-gdb", "chardev:gdb"]);
            inherited.push(OwnedFd::from(theirs));
            stub = Some(Stub::new(ours));
        }
        let (process, pipes) = Process::start(command, inherited, Some(self.limit))
            .map_err(|source| Error::Start { program: QEMU.into(), source })?;
        let output = pipes.stdout.expect("standard output was asked for as a pipe");
        let console =
            Console::new(output, pipes.stdin).map_err(Error::host("start the console's thread"))?;

        let connected = Monitor::new(ours).and_then(|mut monitor| {
            memory.lay_out(&monitor.memory_ranges()?);
            monitor.resume()?;
            Ok(monitor)
        });
        match connected {
            Ok(monitor) => Ok(Guest::new(process, console, monitor, memory, stub)),
            Err(Error::Silent { .. }) => {
                drop(process);
                Err(Error::Gone { stderr: contents(&mut stderr) })
            }
            Err(error) => Err(error),
        }
    }

    /// Runs the guest on this program's own terminal, for a person: Ctrl-C goes to the guest,
    /// Ctrl-A X ends it, and there is no time limit. `watch` is called every now and then; QEMU is
    /// ended when it returns false.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] without QEMU.
    pub fn run_on_terminal(&self, mut watch: impl FnMut() -> bool) -> Result<Ended, Error> {
        let mut command = self.command();
        command.args(["-m", &format!("{}M", self.memory_mib)]);
        command.args(["-display", "none", "-serial", "mon:stdio", "-machine", "pc"]);
        let (mut process, _) = Process::start(command, Vec::new(), None)
            .map_err(|source| Error::Start { program: QEMU.into(), source })?;
        loop {
            if let Some(ended) = process.ended() {
                return Ok(ended);
            }
            if !watch() {
                process.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The part of the command line that does not depend on who looks at the guest.
    fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        command
            .args(["-nodefaults", "-no-user-config", "-no-reboot", "-net", "none"])
            .args(["-accel", "tcg", "-cpu", &self.cpu])
            .args(["-smp", &self.cpus.to_string()])
            .arg("-kernel")
            .arg(&self.kernel);
        if let Some(initrd) = &self.initrd {
            command.arg("-initrd").arg(initrd);
        }
        if !self.append.is_empty() {
            command.args(["-append", &self.append]);
        }
        if self.counted {
            command.args(["-icount", "shift=0,sleep=off", "-seed", "1"]);
            command.args(["-rtc", "base=2024-01-01,clock=vm"]);
        }
        command
    }
}

fn scratch_file() -> std::io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("emulator errors", MemfdFlags::CLOEXEC)?))
}

fn contents(file: &mut File) -> String {
    let mut text = String::new();
    // What cannot be read cannot be shown; the error that holds it is shown all the same.
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    text.trim().to_owned()
}
