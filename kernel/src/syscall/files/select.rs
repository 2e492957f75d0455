//! select and pselect6.

use super::arguments::deadline;
use super::events::{mask, span, write_remaining};
use crate::errno::{Errno, Result};
use crate::fs::current;
use crate::fs::poll::{self, Watch};
use crate::user;
use alloc::vec::Vec;
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What each of the three sets waits for, as poll events.
const WAITS: [u32; 3] = [
    abi::POLLRDNORM | abi::POLLRDBAND | abi::POLLIN | abi::POLLHUP | abi::POLLERR,
    abi::POLLWRBAND | abi::POLLWRNORM | abi::POLLOUT | abi::POLLERR,
    abi::POLLPRI,
];

fn read_set(address: u64, words: usize) -> Result<Vec<u64>> {
    let mut set = Vec::new();
    set.try_reserve_exact(words).map_err(|_| Errno::ENOMEM)?;
    set.resize(words, 0u64);
    if address != 0 {
        user::read_bytes(address, set.as_mut_bytes())?;
    }
    Ok(set)
}

fn has(set: &[u64], fd: usize) -> bool {
    set[fd / 64] >> (fd % 64) & 1 != 0
}

fn select_until(count: u64, addresses: [u64; 3], deadline: Option<u64>) -> Result<usize> {
    let files = current::files();
    let count = usize::try_from(count as i32).map_err(|_| Errno::EINVAL)?;
    let count = count.min(current::descriptor_limit() as usize);
    let words = count.div_ceil(64);
    // The sets are kept while it sleeps.
    current::admit()?;
    let mut sets = [
        read_set(addresses[0], words)?,
        read_set(addresses[1], words)?,
        read_set(addresses[2], words)?,
    ];
    let mut watches = Vec::new();
    let mut numbers = Vec::new();
    for fd in 0..count {
        let mut events = 0;
        for (set, wait) in sets.iter().zip(WAITS) {
            if has(set, fd) {
                events |= wait;
            }
        }
        if events != 0 {
            let file = Some(files.get(fd as u32)?);
            watches.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            numbers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
            watches.push(Watch { file, events, result: 0 });
            numbers.push(fd);
        }
    }
    poll::wait_exactly(&mut watches, deadline)?;
    let mut total = 0;
    for (set, wait) in sets.iter_mut().zip(WAITS) {
        let asked = core::mem::replace(set, read_set(0, words)?);
        for (watch, &fd) in watches.iter().zip(&numbers) {
            if has(&asked, fd) && watch.result & wait != 0 {
                set[fd / 64] |= 1 << (fd % 64);
                total += 1;
            }
        }
    }
    for (set, address) in sets.iter().zip(addresses) {
        if address != 0 {
            user::write_bytes(address, set.as_bytes())?;
        }
    }
    Ok(total)
}

/// struct timeval.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Timeval {
    seconds: i64,
    microseconds: i64,
}

pub fn select(frame: &mut Frame) -> Result<usize> {
    let address = frame.r8();
    let mut until = None;
    if address != 0 {
        let span: Timeval = user::read(address)?;
        if span.seconds < 0 || span.microseconds < 0 {
            return Err(Errno::EINVAL);
        }
        let whole = (span.seconds as u64).saturating_mul(1_000_000_000);
        let part = (span.microseconds as u64).saturating_mul(1000);
        until = deadline(Some(whole.saturating_add(part)));
    }
    let result = select_until(frame.rdi(), [frame.rsi(), frame.rdx(), frame.r10()], until);
    if let Some(until) = until {
        let left = until.saturating_sub(crate::time::now()) / 1000;
        let left =
            Timeval { seconds: (left / 1_000_000) as i64, microseconds: (left % 1_000_000) as i64 };
        let _ = user::write(address, &left);
    }
    result
}

pub fn pselect(frame: &mut Frame) -> Result<usize> {
    let until = span(frame.r8())?;
    let mut with = None;
    if frame.r9() != 0 {
        let [address, size]: [u64; 2] = user::read(frame.r9())?;
        with = mask(address, size)?;
    }
    let sets = [frame.rsi(), frame.rdx(), frame.r10()];
    let count = frame.rdi();
    let result = current::with_mask(with, || select_until(count, sets, until));
    write_remaining(frame.r8(), until);
    result
}
