//! Bochs: slower than QEMU's TCG by ten, and strict where that is lax.
//!
//! It delivers the debug exceptions on the first instruction of an entry, faults in ring 0 where the manual
//! asks for it, keeps global translations over a CR3 write, and is a named Intel CPU in all its features.
//!
//! A guest boots the way a PC does, from a CD that GRUB starts on ([`image`]); its first serial port goes
//! to a file. Nothing is asked of it while it runs: no monitor, no memory from outside.
//!
//! ```text
//!   Bochs --run--> Ending
//!           | scratch directory: image, settings, log, serial port; gone afterwards
//!           '- Process: the same watchdog as QEMU's
//! ```

mod image;
mod settings;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::{Ended, Process};
use crate::{Error, Exit};

/// A CPU model of Bochs 2.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Core i7-2600K: PCID, no INVPCID; neither FSGSBASE nor SMEP.
    SandyBridge,
    /// Core i7-4770: FSGSBASE, SMEP, PCID, INVPCID; neither SMAP nor UMIP.
    Haswell,
    /// Xeon Skylake-X: SMAP, AVX-512; PCID, INVPCID.
    SkylakeX,
    /// Core i7-1165G7: UMIP, CET, and RDCL_NO: not affected by Meltdown.
    TigerLake,
}

impl Model {
    fn name(self) -> &'static str {
        match self {
            Model::SandyBridge => "corei7_sandy_bridge_2600k",
            Model::Haswell => "corei7_haswell_4770",
            Model::SkylakeX => "corei7_skylake_x",
            Model::TigerLake => "tigerlake",
        }
    }
}

/// A guest for Bochs: kernel, initramfs, command line, CPU model, size, time limit.
#[derive(Clone, Debug)]
pub struct Bochs {
    tree: PathBuf,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    append: String,
    model: Model,
    cpus: u32,
    memory_mib: u64,
    limit: Duration,
    limit_after: Option<(String, Duration)>,
}

/// A run that is over.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How the guest ended.
    pub exit: Exit,
    /// What came over its first serial port, without carriage returns.
    pub serial: String,
}

impl Bochs {
    /// A guest that boots `kernel` by multiboot2 (or Linux's own protocol, if it is a Linux kernel): one
    /// Haswell CPU, 256 MiB, one minute. `tree` is where Debian's packages for Bochs and GRUB are unpacked.
    pub fn new(tree: impl Into<PathBuf>, kernel: impl Into<PathBuf>) -> Bochs {
        Bochs {
            tree: tree.into(),
            kernel: kernel.into(),
            initrd: None,
            append: String::new(),
            model: Model::Haswell,
            cpus: 1,
            memory_mib: 256,
            limit: Duration::from_secs(60),
            limit_after: None,
        }
    }

    /// Gives the guest the initramfs in a file.
    #[must_use]
    pub fn initrd(mut self, file: impl Into<PathBuf>) -> Bochs {
        self.initrd = Some(file.into());
        self
    }

    /// Sets the kernel's command line.
    #[must_use]
    pub fn append(mut self, line: impl Into<String>) -> Bochs {
        self.append = line.into();
        self
    }

    /// Sets the CPU model.
    #[must_use]
    pub fn model(mut self, model: Model) -> Bochs {
        self.model = model;
        self
    }

    /// Sets the number of CPUs, each a processor of one core.
    #[must_use]
    pub fn cpus(mut self, count: u32) -> Bochs {
        self.cpus = count;
        self
    }

    /// Sets the size of the memory, in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u64) -> Bochs {
        self.memory_mib = mib;
        self
    }

    /// Sets the time after which the guest is killed, from its start.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Bochs {
        self.limit = limit;
        self
    }

    /// Sets another time limit, that begins when the guest has written `text`: for guests that are to hang,
    /// because how long a boot takes is the host's affair.
    #[must_use]
    pub fn limit_after(mut self, text: impl Into<String>, limit: Duration) -> Bochs {
        self.limit_after = Some((text.into(), limit));
        self
    }

    /// Boots and waits for the end, which the time limit makes sure of.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] without Bochs or GRUB, [`Error::Image`] when GRUB cannot make the CD,
    /// [`Error::Start`] when Bochs cannot be started, [`Error::Host`] when the host refuses files.
    pub fn run(&self) -> Result<Ending, Error> {
        const SCRATCH: &str = "make a scratch directory for Bochs";
        let tools = Tools::find(&self.tree)?;
        let scratch = tempfile::tempdir().map_err(Error::host(SCRATCH))?;
        let directory = scratch.path();
        let protocol = image::make(&tools, self, directory)?;
        // Linux reads what every Haswell has and Bochs's lacks, before it can take an exception.
        let linux = protocol == image::Protocol::Linux;
        let settings = settings::file(&tools, self, linux);
        fs::write(directory.join("bochsrc"), settings).map_err(Error::host(SCRATCH))?;
        // Debian's Bochs has its debugger built in: continue, and quit when the guest has ended.
        fs::write(directory.join("debugger"), "c\nq\n").map_err(Error::host(SCRATCH))?;

        let program = tools.program("bochs-bin");
        let mut command = tools.command("bochs-bin");
        command
            .args(["-unlock", "-q", "-f", "bochsrc", "-rc", "debugger"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let (mut process, _) = Process::start(command, Vec::new(), Some(self.limit))
            .map_err(|source| Error::Start { program: program.display().to_string(), source })?;
        let text = |name: &str| {
            let bytes = fs::read(directory.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).replace('\r', "")
        };
        let ended = match &self.limit_after {
            Some((said, limit)) => {
                wait_after(&mut process, || text(settings::SERIAL).contains(said), *limit)
            }
            None => process.wait(),
        };
        Ok(Ending { exit: exit(ended, &text(settings::LOG)), serial: text(settings::SERIAL) })
    }
}

/// Waits for the end, at most `limit` from the moment that `begun` is true.
fn wait_after(process: &mut Process, begun: impl Fn() -> bool, limit: Duration) -> Ended {
    const POLL: Duration = Duration::from_millis(100);
    let mut deadline = None;
    loop {
        if let Some(ended) = process.ended() {
            return ended;
        }
        match deadline {
            None if begun() => deadline = Some(Instant::now() + limit),
            Some(deadline) if Instant::now() >= deadline => {
                process.kill();
                return Ended::TimeLimit;
            }
            _ => std::thread::sleep(POLL),
        }
    }
}

/// How the guest ended, in the words of Bochs's log: it ends the same way whatever the reason.
fn exit(ended: Ended, log: &str) -> Exit {
    const POWER_OFF: [&str; 2] =
        ["ACPI control: soft power off", "Shutdown port: shutdown requested"];
    const TRIPLE_FAULT: &str = "exception with no resolution";
    let reason = log.lines().rev().find_map(|line| line.split_once(">>PANIC<< "));
    match (ended, reason) {
        (Ended::TimeLimit, _) => Exit::TimeLimit,
        (Ended::Killed, _) => Exit::Other("killed".into()),
        (_, Some((_, reason))) if POWER_OFF.contains(&reason.trim()) => Exit::PoweredOff,
        (_, Some((_, reason))) if reason.contains(TRIPLE_FAULT) => Exit::Reset,
        (_, Some((_, reason))) => Exit::Other(format!("Bochs: {}", reason.trim())),
        (Ended::ByItself(status), None) => Exit::Other(format!("Bochs ended with {status}")),
    }
}

/// Debian's packages, unpacked below one directory: nothing of them is installed.
#[derive(Debug)]
struct Tools<'a> {
    tree: &'a Path,
}

impl<'a> Tools<'a> {
    /// Checks that what is needed is there.
    fn find(tree: &'a Path) -> Result<Tools<'a>, Error> {
        let tools = Tools { tree };
        let needed = [
            tools.program("bochs-bin"),
            tools.program("grub-mkrescue"),
            tools.program("xorriso"),
            tools.grub_modules(),
            tools.share(settings::BIOS),
            tools.share(settings::VGA_BIOS),
        ];
        match needed.into_iter().find(|path| !path.exists()) {
            Some(file) => Err(Error::Missing { file }),
            None => Ok(tools),
        }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.tree.join("usr/bin").join(name)
    }

    fn share(&self, name: &str) -> PathBuf {
        self.tree.join("usr/share").join(name)
    }

    fn grub_modules(&self) -> PathBuf {
        self.tree.join("usr/lib/grub/i386-pc")
    }

    /// A command with the libraries and plugins of the tree.
    fn command(&self, name: &str) -> Command {
        let libraries = self.tree.join("usr/lib/x86_64-linux-gnu");
        let mut command = Command::new(self.program(name));
        command
            .env("LTDL_LIBRARY_PATH", libraries.join("bochs/plugins"))
            .env("LD_LIBRARY_PATH", libraries);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn the_log_tells_how_a_guest_ended() {
        let status = Ended::ByItself(std::process::ExitStatus::from_raw(1 << 8));
        let off = "00000000000i[     ] words\n00616272560p[ACPI  ] >>PANIC<< ACPI control: soft power off\n";
        assert_eq!(exit(status, off), Exit::PoweredOff);
        let port = "00042p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n";
        assert_eq!(exit(status, port), Exit::PoweredOff);
        let triple =
            "00042p[CPU0  ] >>PANIC<< exception(): 3rd (13) exception with no resolution\n";
        assert_eq!(exit(status, triple), Exit::Reset);
        assert_eq!(exit(Ended::TimeLimit, ""), Exit::TimeLimit);
        let other = "00p[      ] >>PANIC<< ROM: couldn't open ROM image file\n";
        assert_eq!(
            exit(status, other),
            Exit::Other("Bochs: ROM: couldn't open ROM image file".into())
        );
    }

    #[test]
    fn the_second_limit_begins_late() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let (mut process, _) = Process::start(command, Vec::new(), None).expect("sleep starts");
        let start = Instant::now();
        let begun = || start.elapsed() > Duration::from_millis(200);
        assert_eq!(wait_after(&mut process, begun, Duration::from_millis(100)), Ended::TimeLimit);
        assert!(start.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Bochs::new("/nonexistent", "kernel").run().expect_err("no Bochs there");
        assert!(error.to_string().contains("/nonexistent/usr/bin/bochs-bin"), "{error}");
    }
}
