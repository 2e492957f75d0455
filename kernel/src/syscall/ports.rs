//! System calls: the ports that a thread may use. Both ways hold for the thread, its children and what
//! they execute.

use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::mm::frame;
use crate::task;
use linux_raw_sys::general as raw;
use ringwall::Frame;
use ringwall_rules::ports::PORTS;

/// This area's calls.
pub const CALLS: Calls = calls![(raw::__NR_iopl, iopl), (raw::__NR_ioperm, ioperm)];

fn require_privilege() -> Result<()> {
    let privileged = task::current().process.credentials.lock().is_privileged();
    if privileged { Ok(()) } else { Err(Errno::EPERM) }
}

fn iopl(frame: &mut Frame) -> Result<usize> {
    let level = frame.rdi() as u32;
    if level > 3 {
        return Err(Errno::EINVAL);
    }
    let level = level as u8;
    let thread = task::current();
    if level > thread.ports.lock().level() {
        require_privilege()?;
    }
    thread.ports.lock().set_level(level);
    Ok(0)
}

fn ioperm(frame: &mut Frame) -> Result<usize> {
    let [first, count, on, ..] = frame.arguments();
    let end = first.checked_add(count).filter(|end| *end > first && *end <= u64::from(PORTS));
    end.ok_or(Errno::EINVAL)?;
    let allow = on as u32 != 0;
    if allow {
        require_privilege()?;
        frame::admit_bytes(PORTS as usize / 8)?;
    }
    let thread = task::current();
    let mut ports = thread.ports.lock();
    ports.set(first as u32, count as u32, allow).map_err(|_| Errno::ENOMEM)?;
    Ok(0)
}
