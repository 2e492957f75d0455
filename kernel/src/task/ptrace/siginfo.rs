//! Details of signals, as a tracer reads and changes them: siginfo_t is 128 bytes, of which the kernel
//! keeps the first 48.

use crate::errno::{Errno, Result};
use crate::signal::Info;
use crate::task::Thread;
use crate::user;
use linux_raw_sys::ptrace as abi;

const REST: usize = 128 - size_of::<Info>();

/// Writes a whole siginfo_t.
pub(super) fn write(address: u64, info: &Info) -> Result<()> {
    user::write(address, info)?;
    let rest = address.checked_add(size_of::<Info>() as u64).ok_or(Errno::EFAULT)?;
    user::write(rest, &[0u8; REST])
}

/// PTRACE_PEEKSIGINFO: signals that wait, without taking them.
pub(super) fn peek(thread: &Thread, arguments: u64, mut to: u64) -> Result<usize> {
    let first: u64 = user::read(arguments)?;
    let flags: u32 = user::read(arguments.wrapping_add(8))?;
    let count: i32 = user::read(arguments.wrapping_add(12))?;
    if flags & !abi::PTRACE_PEEKSIGINFO_SHARED != 0 || count < 0 {
        return Err(Errno::EINVAL);
    }
    let shared = flags & abi::PTRACE_PEEKSIGINFO_SHARED != 0;
    let mut done = 0;
    while done < count as usize {
        let Some(place) = usize::try_from(first).ok().and_then(|first| first.checked_add(done))
        else {
            break;
        };
        let info = match shared {
            true => thread.process.signals.lock().pending.queued(place),
            false => thread.pending.lock().queued(place),
        };
        let Some(info) = info else { break };
        match write(to, &info) {
            Ok(()) => {}
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
        done += 1;
        to = to.wrapping_add(128);
    }
    Ok(done)
}
