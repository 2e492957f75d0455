//! Where things are. Everything that tasks make is below `target/ringwall`:
//!
//! ```text
//!   target/ringwall/
//!     packages/NAME/     unpacked Debian packages
//!     kernel/            kernels, one file per set of features
//!     programs/LIBC/     our own user programs
//!     selftests/LIBC/    Linux's x86 selftests
//!     tables/            what scenarios leave to be printed
//!     images/            initramfs archives
//!     screenshots/       the audit's HTML page, as a browser shows it
//! ```

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> PathBuf {
    // Cargo sets the variable at run time too, which is right for a moved clone.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Cargo's target directory for host builds and the normal kernel build.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => root().join(directory),
        None => root().join("target"),
    }
}

/// Where everything goes that cargo does not make.
pub fn made() -> PathBuf {
    target().join("ringwall")
}
