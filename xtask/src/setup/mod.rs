//! Set-up that does itself: what is missing is fetched, what is there is not mentioned.
//!
//! - [`toolchain`]: a compiler for the bare-metal target, by one of three routes,
//! - [`packages`]: QEMU, Bochs with GRUB, Chromium, busybox, musl, a C compiler, Debian's Linux kernel,
//!   the source of Linux's selftests.

pub mod debian;
pub mod distribution;
pub mod packages;
pub mod toolchain;

use anyhow::Result;

use crate::selftests;

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub struct Options {
    /// Fetch Debian's Linux kernel and Linux's x86 selftests too, for comparisons.
    #[arg(long)]
    linux: bool,
}

/// Fetches everything that building, running and testing need.
///
/// # Errors
///
/// When something is missing and cannot be had; the message says what to type.
pub fn run(options: &Options) -> Result<()> {
    let toolchain = toolchain::choose()?;
    println!("toolchain: {}", toolchain.describe());
    packages::qemu()?;
    packages::c_compiler()?;
    println!("busybox:   {}", packages::busybox()?.display());
    println!("musl:      {}", packages::musl()?.display());
    println!("bochs:     {}", packages::bochs()?.display());
    println!("chromium:  {}", packages::chromium()?.display());
    if options.linux {
        println!("linux:     {}", packages::linux()?.display());
        selftests::build()?;
    }
    Ok(())
}
