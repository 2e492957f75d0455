//! System calls: the machine as a whole.

use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::mm::frame;
use crate::random::{BLOCK, Stream};
use crate::sync::Mutex;
use crate::task::{self, table};
use crate::{println, time, user};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general as raw;
use ringwall::Frame;
use zerocopy::{Immutable, IntoBytes};

/// This area's calls.
pub const CALLS: Calls = calls![
    (raw::__NR_uname, uname),
    (raw::__NR_sethostname, sethostname),
    (raw::__NR_setdomainname, setdomainname),
    (raw::__NR_sysinfo, sysinfo),
    (raw::__NR_getrandom, getrandom),
    (raw::__NR_reboot, reboot),
    (raw::__NR_syslog, syslog),
];

/// uname's release: what programs take for the version of Linux that they run on.
pub const RELEASE: &str = "6.1.0-ringwall";
/// uname's version.
pub const VERSION: &str = concat!("#1 SMP Ringwall ", env!("CARGO_PKG_VERSION"));
/// uname's machine.
pub const MACHINE: &str = "x86_64";

const NAME_BYTES: usize = 65;

type Name = [u8; NAME_BYTES];

const fn padded(text: &str) -> Name {
    let mut name = [0; NAME_BYTES];
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        name[index] = bytes[index];
        index += 1;
    }
    name
}

static HOST_NAME: Mutex<Name> = Mutex::new(padded("(none)"));
static DOMAIN_NAME: Mutex<Name> = Mutex::new(padded("(none)"));

/// The host's name, without padding.
pub fn host_name() -> alloc::vec::Vec<u8> {
    let name = *HOST_NAME.lock();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
    name[..length].to_vec()
}

/// Sets the host's name, at most 64 bytes.
pub fn set_host_name(text: &[u8]) {
    let mut name = [0; NAME_BYTES];
    name[..text.len()].copy_from_slice(text);
    *HOST_NAME.lock() = name;
}

/// struct new_utsname.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct SystemName([Name; 6]);

fn uname(frame: &mut Frame) -> Result<usize> {
    let (host, domain) = (*HOST_NAME.lock(), *DOMAIN_NAME.lock());
    let system = padded("Linux");
    let name = [system, host, padded(RELEASE), padded(VERSION), padded(MACHINE), domain];
    user::write(frame.rdi(), &SystemName(name))?;
    Ok(0)
}

fn require_privilege() -> Result<()> {
    let privileged = task::current().process.credentials.lock().is_privileged();
    if privileged { Ok(()) } else { Err(Errno::EPERM) }
}

fn set_name(frame: &Frame, which: &Mutex<Name>) -> Result<usize> {
    require_privilege()?;
    let length = frame.rsi() as u32 as usize;
    if length >= NAME_BYTES {
        return Err(Errno::EINVAL);
    }
    let mut name = [0; NAME_BYTES];
    user::read_bytes(frame.rdi(), &mut name[..length])?;
    *which.lock() = name;
    Ok(0)
}

fn sethostname(frame: &mut Frame) -> Result<usize> {
    set_name(frame, &HOST_NAME)
}

fn setdomainname(frame: &mut Frame) -> Result<usize> {
    set_name(frame, &DOMAIN_NAME)
}

/// struct sysinfo.
#[derive(Default, IntoBytes, Immutable)]
#[repr(C)]
struct SystemInformation {
    uptime: u64,
    loads: [u64; 3],
    total_memory: u64,
    free_memory: u64,
    shared_memory: u64,
    buffer_memory: u64,
    total_swap: u64,
    free_swap: u64,
    processes: u16,
    padding: [u16; 3],
    total_high: u64,
    free_high: u64,
    unit: u32,
    tail: u32,
}

const _: () = assert!(size_of::<SystemInformation>() == 112, "struct sysinfo");

fn sysinfo(frame: &mut Frame) -> Result<usize> {
    let (total, free) = frame::totals();
    let (_, threads, ..) = table::counts();
    let information = SystemInformation {
        uptime: time::now() / time::SECOND,
        total_memory: total as u64 * 4096,
        free_memory: free as u64 * 4096,
        processes: threads.min(usize::from(u16::MAX)) as u16,
        unit: 1,
        ..SystemInformation::default()
    };
    user::write(frame.rdi(), &information)?;
    Ok(0)
}

fn getrandom(frame: &mut Frame) -> Result<usize> {
    let [address, length, flags, ..] = frame.arguments();
    let known = raw::GRND_NONBLOCK | raw::GRND_RANDOM | raw::GRND_INSECURE;
    let both = raw::GRND_RANDOM | raw::GRND_INSECURE;
    let flags = flags as u32;
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let length = length.min(i32::MAX as u64);
    write_random(address, length)
}

/// Writes random bytes to user memory; gives their number, which is less than `length` if a part
/// cannot be written or a signal came.
///
/// # Errors
/// `EFAULT` if nothing can be written; `ERESTARTSYS`.
pub fn write_random(address: u64, length: u64) -> Result<usize> {
    let mut stream = Stream::new();
    let mut done = 0;
    while done < length {
        let bytes = stream.next_block();
        let piece = (length - done).min(BLOCK as u64) as usize;
        let Some(to) = address.checked_add(done) else { break };
        if user::write_bytes(to, &bytes[..piece]).is_err() {
            break;
        }
        done += piece as u64;
        // As Linux: requests of a page or less are served whole.
        if done.is_multiple_of(4096) && done < length && task::breathe() {
            break;
        }
    }
    if done == 0 && length != 0 { Err(Errno::EFAULT) } else { Ok(done as usize) }
}

fn reboot(frame: &mut Frame) -> Result<usize> {
    const MAGIC_1: u32 = 0xfee1_dead;
    const MAGIC_2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const RESTART: u32 = 0x0123_4567;
    const RESTART_2: u32 = 0xa1b2_c3d4;
    const HALT: u32 = 0xcdef_0123;
    const POWER_OFF: u32 = 0x4321_fedc;
    const CAD_ON: u32 = 0x89ab_cdef;
    const CAD_OFF: u32 = 0;
    require_privilege()?;
    let [magic_1, magic_2, command, ..] = frame.arguments().map(|argument| argument as u32);
    if magic_1 != MAGIC_1 || !MAGIC_2.contains(&magic_2) {
        return Err(Errno::EINVAL);
    }
    match command {
        RESTART | RESTART_2 => {
            println!("reboot: Restarting system");
            crate::arch::cpu::power_off(true)
        }
        HALT | POWER_OFF => {
            println!("reboot: Power down");
            crate::arch::cpu::power_off(false)
        }
        // There is no keyboard to press Ctrl-Alt-Del on.
        CAD_ON | CAD_OFF => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// The kernel's messages go to the console and are not kept: the log is empty.
fn syslog(frame: &mut Frame) -> Result<usize> {
    require_privilege()?;
    match frame.rdi() as i32 {
        0..=10 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

static LOG_UNKNOWN: AtomicBool = AtomicBool::new(false);
/// Numbers that were logged.
static LOGGED: [AtomicU64; super::NUMBERS / 64] =
    [const { AtomicU64::new(0) }; super::NUMBERS / 64];

/// Has each unknown system call logged once (`ringwall.log_unknown` on the command line).
pub fn log_unknown_calls() {
    LOG_UNKNOWN.store(true, Ordering::Relaxed);
}

/// Serves a number that no area serves. `legacy`: it came by INT 80h.
#[cold]
pub fn unknown(number: u64, legacy: bool) -> Errno {
    if LOG_UNKNOWN.load(Ordering::Relaxed) {
        let slot = number as usize % super::NUMBERS;
        let bit = 1 << (slot % 64);
        if LOGGED[slot / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            let way = if legacy { " (INT 80h)" } else { "" };
            let process = &task::current().process;
            println!("unknown system call {number}{way} by {} ({})", process.pid, process.name());
        }
    }
    Errno::ENOSYS
}
