//! The harness of the emulator scenarios: one boot, one `#[test]`.
//!
//! A scenario says what to boot ([`Boot`]), runs it to its end or looks at it on the way
//! ([`Running`]), and checks what came over the serial port ([`Output`]). Every boot has a time limit; a check
//! that fails shows the whole serial log. [`expect_broken`] runs a check on a kernel that is broken
//! on purpose and passes only if the check fails.
//!
//! `cargo xtask test` makes what the scenarios need (kernels, busybox, programs) and runs them. By hand,
//! after `cargo xtask test --only build`: `cargo test -p ringwall-tests --test boot`. With
//! `RINGWALL_KERNEL=FILE` another kernel runs the same scenarios, Linux for one.

use std::time::Duration;

mod boot;
mod breaks;
pub mod browser;
pub mod elf;
pub mod independent;
pub mod inject;
pub mod looking;
pub mod looks;
mod made;
mod other;
mod output;
mod outside;
mod running;
pub mod sample_audit;
pub mod swapgs;

pub use boot::Boot;
pub use breaks::expect_broken;
pub use made::{
    Library, example, kernel_file, leave_table, linux, linux_or_skip, other_kernel, program,
    selftest,
};
pub use other::Other;
pub use output::Output;
pub use outside::{EntryText, Visible};
pub use running::{Running, Sight};

/// How much slower than the machines that limits are written for a host may be, with other scenarios beside this one.
const SLOWER: u32 = 4;

/// The limit that holds on a slow host, too. Nothing gets longer by it but what hangs.
pub fn patient(limit: Duration) -> Duration {
    limit * SLOWER
}
