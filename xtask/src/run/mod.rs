//! `cargo xtask run`: boot the kernel and show what it does.
//!
//! - nothing else asked for: the [`tour`],
//! - `--shell`: a busybox prompt ([`terminal`]),
//! - `--initramfs FILE`: that archive, on this terminal ([`terminal`]).

mod cost;
mod outside;
mod table;
mod terminal;
mod tour;
mod userland;

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use ringwall_emulator::{INTEL_CPU, Machine};

use crate::setup::{packages, toolchain};
use crate::{build, programs};

/// Options of `cargo xtask run`.
#[derive(clap::Args)]
pub struct Options {
    /// Give an interactive shell instead of the tour; Ctrl-A X ends QEMU.
    #[arg(long)]
    shell: bool,
    /// Boot this initramfs instead of the tour's.
    #[arg(long, value_name = "FILE", conflicts_with = "shell")]
    initramfs: Option<PathBuf>,
    /// Add this to the kernel's command line.
    #[arg(long, value_name = "LINE", default_value = "")]
    append: String,
    /// Number of CPUs.
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Memory, in MiB.
    #[arg(long, default_value_t = 512)]
    memory: u64,
    /// Isolation: on, off, or what the CPU needs.
    #[arg(long, value_enum, default_value_t = Pti::Auto)]
    pti: Pti,
    /// Boot this kernel instead of ours.
    #[arg(long, value_name = "FILE", conflicts_with = "linux")]
    kernel: Option<PathBuf>,
    /// Boot Debian's Linux kernel instead of ours.
    #[arg(long)]
    linux: bool,
}

/// The kernel's `pti=` option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pti {
    On,
    Off,
    Auto,
}

impl Pti {
    fn argument(self) -> &'static str {
        match self {
            Pti::On => "pti=on",
            Pti::Off => "pti=off",
            Pti::Auto => "pti=auto",
        }
    }
}

/// Runs the tour, a shell or a given initramfs.
///
/// # Errors
///
/// When something is missing, does not build or does not boot, and when the tour finds that
/// isolation does not hold.
pub fn run(options: &Options) -> Result<()> {
    packages::qemu()?;
    let kernel = match &options.kernel {
        Some(file) => file.clone(),
        None if options.linux => packages::linux()?,
        None => build::kernel(&toolchain::choose()?, "release", &[])?,
    };
    let machine = Machine::new(kernel).cpus(options.cpus).memory(options.memory).cpu(INTEL_CPU);
    match &options.initramfs {
        Some(file) => terminal::boot(&options.on(machine, options.pti).initrd(file), ""),
        None if options.shell => terminal::shell(options.on(machine, options.pti)),
        None => {
            programs::build()?;
            tour::run(options, machine)
        }
    }
}

impl Options {
    /// Whether it is our kernel that boots.
    fn is_reference_kernel(&self) -> bool {
        self.kernel.is_none() && !self.linux
    }

    /// The machine with a whole command line.
    fn on(&self, machine: Machine, pti: Pti) -> Machine {
        self.on_with(machine, pti, "")
    }

    /// The same with more words, before the user's own.
    fn on_with(&self, machine: Machine, pti: Pti, more: &str) -> Machine {
        // Linux has hundreds of lines to say about a boot.
        let quiet = if self.linux { "quiet " } else { "" };
        let line = format!("console=ttyS0 {quiet}{} {more}{}", pti.argument(), self.append);
        machine.append(line.trim())
    }
}
