//! What a scenario boots.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use ringwall_emulator::{Bochs, Ending, Exit, INTEL_CPU, Initramfs, Launched, Machine, Model};
use tempfile::NamedTempFile;

use crate::looks::Looks;
use crate::made::{self, Library};
use crate::output::Output;
use crate::patient;
use crate::running::Running;

/// A guest to be booted. Starts as: one CPU that Meltdown affects, 512 MiB, `pti=on`, [`patient`]'s one minute, and
/// an initramfs with nothing but the console in it.
#[derive(Clone, Debug)]
pub struct Boot {
    archive: Initramfs,
    image: Option<Vec<u8>>,
    breakable: bool,
    kernel: Option<PathBuf>,
    append: String,
    arguments: String,
    pti: String,
    cpu: String,
    cpus: u32,
    memory: u64,
    counted: bool,
    stub: bool,
    limit: Duration,
    limit_after: Option<(String, Duration)>,
    looked_at: bool,
    switches: bool,
    replaces_ldts: bool,
}

impl Default for Boot {
    fn default() -> Boot {
        Boot::new()
    }
}

impl Boot {
    /// See [`Boot`].
    pub fn new() -> Boot {
        Boot {
            archive: Initramfs::new().device("/dev/console", 0o600, 5, 1),
            image: None,
            breakable: false,
            kernel: None,
            append: String::new(),
            arguments: String::new(),
            pti: "on".into(),
            cpu: INTEL_CPU.into(),
            cpus: 1,
            memory: 512,
            counted: false,
            stub: false,
            limit: patient(Duration::from_secs(60)),
            limit_after: None,
            looked_at: false,
            switches: false,
            replaces_ldts: false,
        }
    }

    /// Makes these bytes `/init`.
    #[must_use]
    pub fn init(self, contents: impl Into<Vec<u8>>) -> Boot {
        self.file("/init", 0o755, contents)
    }

    /// Adds a file to the initramfs.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, contents: impl Into<Vec<u8>>) -> Boot {
        self.archive = self.archive.file(path, mode, contents);
        self
    }

    /// Adds busybox under all its names, and the directories that a userland expects.
    #[must_use]
    pub fn busybox(mut self) -> Boot {
        let (busybox, names) = made::busybox();
        self.archive = self
            .archive
            .directory("/proc")
            .directory("/sys")
            .directory("/tmp")
            .busybox(busybox, names.iter().map(String::as_str));
        self
    }

    /// Makes a shell script `/init`, with busybox around it. `/proc` is mounted before it and the
    /// machine is powered off after it.
    #[must_use]
    pub fn script(self, lines: &str) -> Boot {
        self.busybox().init(format!(
            "#!/bin/sh\nexport PATH=/bin\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\n\
             mount -t tmpfs tmpfs /tmp\n{lines}\npoweroff -f\n"
        ))
    }

    /// Runs one of our programs under our own init, which powers off after it.
    #[must_use]
    pub fn program(self, library: Library, name: &str) -> Boot {
        self.programs(library, &[name])
    }

    /// As [`Boot::program`], several of them, one after the other by their names.
    #[must_use]
    pub fn programs(self, library: Library, names: &[&str]) -> Boot {
        let boot = self.init(made::program(library, "run"));
        names.iter().fold(boot, |boot, name| {
            boot.file(&format!("/programs/{name}"), 0o755, made::program(library, name))
        })
    }

    /// Boots these bytes as the initramfs, instead of a sound archive.
    #[must_use]
    pub fn image(mut self, bytes: impl Into<Vec<u8>>) -> Boot {
        self.image = Some(bytes.into());
        self
    }

    /// The initramfs as it would be booted.
    pub fn archive(&self) -> &Initramfs {
        &self.archive
    }

    /// Boots the kernel that has all deliberate breaks; none of them is on.
    #[must_use]
    pub fn breakable(mut self) -> Boot {
        self.breakable = true;
        self
    }

    /// Boots the kernel with this deliberate break.
    #[must_use]
    pub fn broken(self, name: &str) -> Boot {
        self.breakable().append(&format!("break={name}"))
    }

    /// Boots another kernel, whatever the scenarios run on.
    #[must_use]
    pub fn kernel(mut self, file: impl Into<PathBuf>) -> Boot {
        self.kernel = Some(file.into());
        self
    }

    /// Adds to the kernel's command line.
    #[must_use]
    pub fn append(mut self, words: &str) -> Boot {
        self.append = format!("{} {words}", self.append);
        self
    }

    /// Gives process 1 arguments.
    #[must_use]
    pub fn arguments(mut self, words: &str) -> Boot {
        self.arguments = format!(" -- {words}");
        self
    }

    /// Sets `pti=`; the empty string leaves the option out.
    #[must_use]
    pub fn pti(mut self, value: &str) -> Boot {
        self.pti = value.into();
        self
    }

    /// Sets the CPU model; plain `max` is one that Meltdown does not affect.
    #[must_use]
    pub fn cpu(mut self, model: &str) -> Boot {
        self.cpu = model.into();
        self
    }

    /// Sets the number of CPUs.
    #[must_use]
    pub fn cpus(mut self, count: u32) -> Boot {
        self.cpus = count;
        self
    }

    /// Sets the memory, in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u64) -> Boot {
        self.memory = mib;
        self
    }

    /// Makes the guest's time-stamp counter count instructions.
    #[must_use]
    pub fn counted(mut self) -> Boot {
        self.counted = true;
        self
    }

    /// Connects to the emulator's gdb stub, too.
    #[must_use]
    pub fn stub(mut self) -> Boot {
        self.stub = true;
        self
    }

    /// Has the guest looked at while it runs, though it is broken on purpose or does not scrub: see [`crate::looks`].
    #[must_use]
    pub fn looked_at(mut self) -> Boot {
        self.looked_at = true;
        self
    }

    /// Says that the guest switches its isolation off while it runs: [`crate::looks`] leaves it alone.
    #[must_use]
    pub fn switches(mut self) -> Boot {
        self.switches = true;
        self
    }

    /// Says that the guest replaces LDTs all the time, while other threads run: [`crate::looks`] leaves it alone. A table
    /// that no CPU's LDTR names yet, or any more, is visible then, and nothing tells what it is.
    #[must_use]
    pub fn replaces_ldts(mut self) -> Boot {
        self.replaces_ldts = true;
        self
    }

    /// Sets the time limit to [`patient`]'s of this.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Boot {
        self.limit = patient(limit);
        self
    }

    /// Sets the time limit to this, for a guest of which many hang, so that no boot of them may take long.
    #[must_use]
    pub fn impatient_limit(mut self, limit: Duration) -> Boot {
        self.limit = limit;
        self
    }

    /// Sets a time limit for Bochs that begins when the guest has written `text`.
    #[must_use]
    pub fn limit_after(mut self, text: &str, limit: Duration) -> Boot {
        self.limit_after = Some((text.into(), limit));
        self
    }

    /// Boots and waits for the end. If QEMU itself crashes, which 7.2 does now and then with several CPUs (`CAVEATS.md`),
    /// that says nothing about the guest: it is told, and the guest booted again, twice at most.
    ///
    /// # Panics
    ///
    /// When the guest cannot be started.
    pub fn run(&self) -> Output {
        let mut output = self.start().finish();
        for _ in 0..2 {
            let Exit::Crashed(status) = output.exit else { break };
            println!("QEMU crashed ({status}): the guest is booted again; {output}");
            output = self.start().finish();
        }
        output
    }

    /// Boots.
    ///
    /// # Panics
    ///
    /// When the guest cannot be started.
    pub fn start(&self) -> Running {
        let (kernel, line, image) = self.parts();
        let mut machine = Machine::new(kernel)
            .append(line)
            .cpu(&self.cpu)
            .cpus(self.cpus)
            .memory(self.memory)
            .limit(self.limit);
        if self.image.as_ref().is_none_or(|bytes| !bytes.is_empty()) {
            machine = machine.initrd(image.path());
        }
        if self.counted {
            machine = machine.counted();
        }
        if self.stub {
            machine = machine.stub();
        }
        let guest = machine.start().unwrap_or_else(|error| panic!("{error}"));
        let looks = self.is_looked_at().then(Looks::new);
        Running { guest, cpus: self.cpus, looks, _image: image }
    }

    /// Boots as `ringwall audit --run` does, with more arguments for QEMU. Size and number of CPUs are this boot's; what
    /// the second half of the result holds must exist as long as the guest.
    ///
    /// # Panics
    ///
    /// When the guest cannot be started.
    pub fn launch(&self, more: &[&str]) -> (Launched, NamedTempFile) {
        let (mut arguments, image) = self.arguments_for_qemu();
        arguments.extend(more.iter().map(OsString::from));
        let launched = Launched::start(&arguments, self.limit);
        (launched.unwrap_or_else(|error| panic!("{error}")), image)
    }

    /// The arguments for QEMU that say what is booted, for `ringwall audit --run`. What the second half of the result
    /// holds must exist as long as the guest.
    pub fn arguments_for_qemu(&self) -> (Vec<OsString>, NamedTempFile) {
        let (kernel, line, image) = self.parts();
        let (cpus, memory) = (self.cpus.to_string(), format!("{}M", self.memory));
        let mut arguments: Vec<OsString> = vec!["-kernel".into(), kernel.into()];
        arguments.extend(["-initrd".into(), image.path().into()]);
        let words = ["-append", &line, "-cpu", &self.cpu, "-smp", &cpus, "-m", &memory];
        arguments.extend(words.map(OsString::from));
        (arguments, image)
    }

    /// Boots in Bochs, from a CD with GRUB, and waits for the end. What is QEMU's own (the model of
    /// the CPUs, counting) is not looked at.
    ///
    /// # Panics
    ///
    /// When the guest cannot be started.
    pub fn run_in_bochs(&self, model: Model) -> Output {
        let (kernel, line, image) = self.parts();
        let machine = Bochs::new(made::bochs(), kernel).model(model).cpus(self.cpus).append(line);
        let mut machine = machine.initrd(image.path()).memory(self.memory).limit(self.limit);
        if let Some((text, limit)) = &self.limit_after {
            machine = machine.limit_after(text, *limit);
        }
        let Ending { exit, serial } = machine.run().unwrap_or_else(|error| panic!("{error}"));
        Output { serial, exit }
    }

    /// Whether [`crate::looks`] has anything to look at here.
    fn is_looked_at(&self) -> bool {
        let ours = match &self.kernel {
            Some(kernel) => *kernel == made::example(),
            None => !made::other_kernel(),
        };
        let isolated = self.pti == "on" && !self.append.contains("pti");
        // What switches its isolation off is told, of course.
        let isolated = isolated && !self.switches && !self.replaces_ldts;
        let sound = ["break=", "scrub=off"].iter().all(|word| !self.append.contains(word));
        ours && isolated && (sound || self.looked_at) && !self.counted && !self.stub
    }

    /// The kernel, its command line, and the initramfs in a file.
    fn parts(&self) -> (PathBuf, String, NamedTempFile) {
        let mut image = NamedTempFile::new().expect("a temporary file");
        match &self.image {
            Some(bytes) => image.write_all(bytes),
            None => image.write_all(&self.archive.build()),
        }
        .expect("room for the initramfs");
        // Only Linux knows `panic`, `quiet` and `no_timer_check`: it would wait for ever after a panic, and talk a lot; and
        // where the host lets it wait while it counts ticks of its timer, it takes that for broken hardware and panics.
        let pti = if self.pti.is_empty() { String::new() } else { format!(" pti={}", self.pti) };
        let line = format!(
            "console=ttyS0{pti}{} panic=-1 quiet no_timer_check{}",
            self.append, self.arguments
        );
        let ours = || if self.breakable { made::breakable() } else { made::kernel() };
        let kernel = self.kernel.clone().unwrap_or_else(ours);
        (kernel, line, image)
    }
}
