//! Character devices, by number.

mod memory;
mod random;

use super::file::Operations;
use super::inode::{device_number, device_parts};
use super::walk::{Final, walk};
use super::{File, mount, terminal};
use crate::errno::{Errno, Result};
use alloc::sync::Arc;
use linux_raw_sys::general as abi;

/// A device node that devtmpfs has from the start.
pub struct Device {
    /// Name in /dev.
    pub name: &'static str,
    /// Major and minor.
    pub number: (u32, u32),
    /// Permission bits.
    pub mode: u32,
}

const fn device(name: &'static str, major: u32, minor: u32, mode: u32) -> Device {
    Device { name, number: (major, minor), mode }
}

/// All devices, in the order in which devtmpfs makes them.
pub static DEVICES: &[Device] = &[
    device("null", 1, 3, 0o666),
    device("zero", 1, 5, 0o666),
    device("full", 1, 7, 0o666),
    device("random", 1, 8, 0o666),
    device("urandom", 1, 9, 0o666),
    device("kmsg", 1, 11, 0o644),
    device("tty", 5, 0, 0o666),
    device("console", 5, 1, 0o600),
    device("ttyS0", 4, 64, 0o600),
];

/// Opens the character device `number`.
///
/// # Errors
/// `ENXIO` if nobody drives it.
pub fn open(number: u64, flags: u32) -> Result<Arc<dyn Operations>> {
    Ok(match device_parts(number) {
        (1, 3) => Arc::new(memory::Null),
        (1, 5) => Arc::new(memory::Zero),
        (1, 7) => Arc::new(memory::Full),
        (1, 8 | 9) => Arc::new(random::Random),
        (1, 11) => Arc::new(memory::Messages),
        (5, 0) => terminal::open_own()?,
        (5, 1) => terminal::open(false, flags),
        (4, 64) => terminal::open(true, flags),
        _ => return Err(Errno::ENXIO),
    })
}

/// The console as process 1 gets it: /dev/console if that is what the root has there.
pub fn console() -> Arc<File> {
    let terminal = terminal::open(false, abi::O_RDWR);
    let top = mount::root().top();
    let walked = walk(&top, &top, b"/dev/console", Final::Follow);
    if let Ok(walked) = walked
        && let Some(place) = walked.place
        && place.inode.metadata().special == device_number(5, 1)
    {
        let name = Some((walked.directory.inode, b"console".to_vec()));
        return File::new(terminal, place, name, abi::O_RDWR, None);
    }
    let inode = super::nameless::Nameless::inode();
    File::with(terminal, inode, super::file::Origin::Nameless("/dev/console"), abi::O_RDWR)
}
