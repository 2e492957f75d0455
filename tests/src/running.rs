//! A guest that runs, and what was seen of it.

use std::time::{Duration, Instant};

use ringwall_audit::document::{Audit, Place, View};
use ringwall_emulator::Guest;
use tempfile::NamedTempFile;

use crate::looking;
use crate::looks::Looks;
use crate::output::Output;
use crate::patient;

/// How long a guest may take to run something in user mode.
const CATCH_LIMIT: Duration = Duration::from_secs(20);

/// The longest pause between looks for a scenario that waits for nothing else, and the most looks.
const LONGEST_PAUSE: Duration = Duration::from_millis(60);
const MOST_LOOKS: u32 = 2000;

const PAGE: usize = 4096;

/// Low bits of CR3 and of page-table entries, which are no part of the address.
const PAGE_BITS: u64 = PAGE as u64 - 1;

/// What was seen of a guest in user mode.
#[derive(Clone, Debug)]
pub struct Sight {
    /// What user mode can see of the kernel, and what is wrong with it.
    pub audit: Audit,
    /// The CPU that was caught in user mode.
    pub cpu: u32,
    /// The root that user mode ran under, which tells processes apart.
    pub cr3: u64,
    /// The upper half of that root's top-level table: 256 entries.
    pub kernel_half: Vec<u64>,
}

impl Sight {
    /// The pair of roots that the CPU ran under.
    ///
    /// # Panics
    ///
    /// Not with an audit of that CPU.
    pub fn view(&self) -> &View {
        let cpu = self
            .audit
            .cpus
            .iter()
            .find(|seen| seen.cpu.index == self.cpu)
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
    pub(crate) cpus: u32,
    /// What goes on while the scenario waits.
    pub(crate) looks: Option<Looks>,
    /// QEMU reads the file when it starts, and again at a reset.
    pub(crate) _image: NamedTempFile,
}

impl Running {
    /// Waits until the guest has written `text`.
    ///
    /// # Panics
    ///
    /// When it does not, within [`patient`]'s of `limit` or its own time limit; when user mode sees what it must not.
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let deadline = Instant::now() + patient(limit);
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

    /// Looks until a CPU was in ring 3 so often.
    ///
    /// # Panics
    ///
    /// When user mode sees what it must not; when the guest ends before, or is hardly ever in ring 3.
    pub fn look_often(&mut self, times: u32) {
        let made = |running: &Running| running.looks.as_ref().map(Looks::made);
        let Some(before) = made(self) else { return };
        for _ in 0..MOST_LOOKS {
            let pause = self.looks.as_mut().map(|looks| looks.any_pause(LONGEST_PAUSE));
            let ended = self.guest.console.wait_for_end(pause.unwrap_or_default());
            assert!(!ended, "it ends too early; its log:\n{}", self.guest.console.text());
            self.look_by_the_way();
            if made(self) >= Some(before + times) {
                return;
            }
        }
        panic!("it is hardly ever in ring 3; its log:\n{}", self.guest.console.text());
    }

    /// Stops the guest while a CPU is in user mode, audits it, and lets it go on.
    ///
    /// # Panics
    ///
    /// When the CPU is not seen in user mode, or its page tables make no sense.
    pub fn look(&mut self) -> Sight {
        let caught =
            self.guest.stop_in_user_mode(patient(CATCH_LIMIT)).expect("a monitor that answers");
        let Some(registers) = caught else {
            panic!("no CPU is ever in user mode; its log:\n{}", self.guest.console.text());
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
        Sight { audit, cpu: registers.index, cr3: registers.cr3, kernel_half: words.collect() }
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
