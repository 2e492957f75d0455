//! What a scenario boots, and the guest while it runs.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ringwall_audit::document::{Audit, Place, View};
use ringwall_emulator::{Bochs, Ending, Guest, INTEL_CPU, Initramfs, Launched, Machine, Model};
use tempfile::NamedTempFile;

use crate::looking;
use crate::looks::Looks;
use crate::made::{self, Library};
use crate::output::Output;

/// How long a guest may take to run something in user mode.
const CATCH_LIMIT: Duration = Duration::from_secs(20);

/// The longest pause between looks for a scenario that waits for nothing else.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

const PAGE: usize = 4096;
/// Low bits of CR3 and of page-table entries, which are no part of the address.
const PAGE_BITS: u64 = PAGE as u64 - 1;

/// A guest to be booted. Starts as: one CPU that Meltdown affects, 512 MiB, `pti=on`, one minute, and
/// an initramfs with nothing but the console in it.
#[derive(Clone, Debug)]
pub struct Boot {
    archive: Initramfs,
    image: Option<Vec<u8>>,
    broken: Option<String>,
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
            broken: None,
            kernel: None,
            append: String::new(),
            arguments: String::new(),
            pti: "on".into(),
            cpu: INTEL_CPU.into(),
            cpus: 1,
            memory: 512,
            counted: false,
            stub: false,
            limit: Duration::from_secs(60),
            limit_after: None,
            looked_at: false,
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

    /// Boots the kernel with the deliberate break `break-NAME`.
    #[must_use]
    pub fn broken(mut self, name: &str) -> Boot {
        self.broken = Some(name.into());
        self
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

    /// Has the guest looked at while it runs, though it is broken on purpose: see [`crate::looks`].
    #[must_use]
    pub fn looked_at(mut self) -> Boot {
        self.looked_at = true;
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Boot {
        self.limit = limit;
        self
    }

    /// Sets a time limit for Bochs that begins when the guest has written `text`.
    #[must_use]
    pub fn limit_after(mut self, text: &str, limit: Duration) -> Boot {
        self.limit_after = Some((text.into(), limit));
        self
    }

    /// Boots and waits for the end.
    ///
    /// # Panics
    ///
    /// When the guest cannot be started.
    pub fn run(&self) -> Output {
        self.start().finish()
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

    /// Boots in Bochs, from a CD with GRUB, and waits for the end. What is QEMU's own (number and model of
    /// CPUs, counting) is not looked at.
    ///
    /// # Panics
    ///
    /// When the guest cannot be started.
    pub fn run_in_bochs(&self, model: Model) -> Output {
        let (kernel, line, image) = self.parts();
        let machine = Bochs::new(made::bochs(), kernel).model(model).append(line);
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
        let sound = self.broken.is_none() || self.looked_at;
        ours && isolated && sound && !self.counted && !self.stub
    }

    /// The kernel, its command line, and the initramfs in a file.
    fn parts(&self) -> (PathBuf, String, NamedTempFile) {
        let mut image = NamedTempFile::new().expect("a temporary file");
        match &self.image {
            Some(bytes) => image.write_all(bytes),
            None => image.write_all(&self.archive.build()),
        }
        .expect("room for the initramfs");
        // Only Linux knows `panic` and `quiet`: it would wait for ever after a panic, and talk a lot.
        let pti = if self.pti.is_empty() { String::new() } else { format!(" pti={}", self.pti) };
        let line = format!("console=ttyS0{pti}{} panic=-1 quiet{}", self.append, self.arguments);
        let kernel = self.kernel.clone().unwrap_or_else(|| made::kernel(self.broken.as_deref()));
        (kernel, line, image)
    }
}

/// What was seen of a guest in user mode.
#[derive(Clone, Debug)]
pub struct Sight {
    /// What user mode can see of the kernel, and what is wrong with it.
    pub audit: Audit,
    /// The root that user mode ran under, which tells processes apart.
    pub cr3: u64,
    /// The upper half of that root's top-level table: 256 entries.
    pub kernel_half: Vec<u64>,
}

impl Sight {
    /// The pair of roots that CPU 0 ran under.
    ///
    /// # Panics
    ///
    /// Not with an audit of that CPU.
    pub fn view(&self) -> &View {
        let cpu = self
            .audit
            .cpus
            .iter()
            .find(|seen| seen.cpu.index == 0)
            .expect("the CPU that was caught");
        &self.audit.views[cpu.view]
    }

    /// Whether there are two roots.
    pub fn isolated(&self) -> bool {
        self.view().kernel_root.is_some()
    }

    /// Bytes of supervisor memory that are visible.
    pub fn total(&self) -> u64 {
        self.view().totals.visible_bytes
    }

    /// Checks that `bytes` are visible, and nothing in them leads to the kernel.
    ///
    /// # Panics
    ///
    /// When it is otherwise.
    pub fn shows(&self, bytes: u64) -> &Sight {
        let (total, visible) = (self.total(), &self.view().visible);
        assert!(total == bytes, "user mode sees {total} bytes of the kernel: {visible:#x?}");
        self.no_pointers()
    }

    /// Checks that nothing that is visible leads to the kernel.
    ///
    /// # Panics
    ///
    /// When something does.
    pub fn no_pointers(&self) -> &Sight {
        assert!(self.isolated(), "there is one root for all: nothing is hidden");
        let pointers = self.places("kernel-pointer");
        assert!(
            pointers.is_empty() && self.view().totals.pointers == 0,
            "user mode sees pointers to kernel memory: {pointers:#x?}"
        );
        self
    }

    /// Where the audit has found this.
    pub fn places(&self, finding: &str) -> Vec<&Place> {
        let found = self.audit.findings.iter().filter(|found| found.id == finding);
        found.flat_map(|found| &found.places).collect()
    }
}

/// A guest that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    /// The guest itself: console, monitor, memory.
    pub guest: Guest,
    cpus: u32,
    /// What goes on while the scenario waits.
    looks: Option<Looks>,
    /// QEMU reads the file when it starts, and again at a reset.
    _image: NamedTempFile,
}

impl Running {
    /// Waits until the guest has written `text`.
    ///
    /// # Panics
    ///
    /// When it does not, within `limit` or its own time limit; when user mode sees what it must not.
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let pause = self.pause().map_or(left, |pause| pause.min(left));
            if self.guest.console.wait_for(text, pause) {
                return;
            }
            if pause == left || self.guest.console.closed() {
                panic!("the guest never said {text:?}; its log:\n{}", self.guest.console.text());
            }
            self.look_by_the_way();
        }
    }

    fn pause(&self) -> Option<Duration> {
        self.looks.as_ref().and_then(Looks::pause)
    }

    fn look_by_the_way(&mut self) {
        if let Some(looks) = &mut self.looks {
            looks.look(&mut self.guest);
        }
    }

    /// Looks until there have been enough looks.
    ///
    /// # Panics
    ///
    /// When user mode sees what it must not.
    pub fn look_often(&mut self) {
        while let Some(pause) = self.pause()
            && !self.guest.console.wait_for_end(pause.min(LONGEST_PAUSE))
        {
            self.look_by_the_way();
        }
    }

    /// Stops the guest while CPU 0 is in user mode, audits it, and lets it go on.
    ///
    /// # Panics
    ///
    /// When the CPU is not seen in user mode, or its page tables make no sense.
    pub fn look(&mut self) -> Sight {
        let caught = self.guest.stop_in_user_mode(CATCH_LIMIT).expect("a monitor that answers");
        let Some(registers) = caught else {
            panic!("the CPU is never in user mode; its log:\n{}", self.guest.console.text());
        };
        let cpus = looking::cpus(&mut self.guest, self.cpus);
        let memory = &self.guest.memory;
        let audit = looking::audit(memory, &cpus);
        let mut upper_half = [0; PAGE / 2];
        let inside = memory.read((registers.cr3 & !PAGE_BITS) + PAGE as u64 / 2, &mut upper_half);
        assert!(inside, "CR3 is {:#x}, outside of memory", registers.cr3);
        self.guest.monitor.resume().expect("a monitor that answers");
        let words = upper_half.chunks_exact(8);
        let words = words.map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
        Sight { audit, cr3: registers.cr3, kernel_half: words.collect() }
    }

    /// Types a line to the guest.
    ///
    /// # Panics
    ///
    /// When the guest is gone.
    pub fn type_line(&mut self, line: &str) {
        self.guest.console.send(&format!("{line}\n")).expect("a guest that runs");
    }

    /// Waits for the guest's end.
    ///
    /// # Panics
    ///
    /// When user mode sees what it must not.
    pub fn finish(mut self) -> Output {
        while let Some(pause) = self.pause()
            && !self.guest.console.wait_for_end(pause)
        {
            self.look_by_the_way();
        }
        let exit = self.guest.wait();
        Output { serial: self.guest.console.text(), exit }
    }
}
