//! poll and epoll.

use super::arguments::{Timespec, deadline, file};
use crate::errno::{Errno, Result};
use crate::fs::poll::{self as waiting, Watch};
use crate::fs::{current, epoll};
use crate::user;
use alloc::vec::Vec;
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// struct pollfd.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Polled {
    fd: i32,
    events: u16,
    results: u16,
}

fn poll_until(address: u64, count: u64, deadline: Option<u64>) -> Result<usize> {
    let files = current::files();
    let count = count as u32 as usize;
    if count > current::descriptor_limit() as usize {
        return Err(Errno::EINVAL);
    }
    // A list is kept while it sleeps.
    current::admit()?;
    let mut list: Vec<Polled> = Vec::new();
    let mut watches = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    watches.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    list.resize(count, Polled::new_zeroed());
    user::read_bytes(address, list.as_mut_bytes())?;
    for polled in &list {
        let file = u32::try_from(polled.fd).ok().map(|fd| files.get(fd));
        let result = if matches!(file, Some(Err(_))) { abi::POLLNVAL } else { 0 };
        let file = file.and_then(Result::ok);
        watches.push(Watch { file, events: u32::from(polled.events), result });
    }
    let ready = waiting::wait(&mut watches, deadline)?;
    for (polled, watch) in list.iter_mut().zip(&watches) {
        polled.results = watch.result as u16;
    }
    user::write_bytes(address, list.as_bytes())?;
    Ok(ready)
}

pub fn poll(frame: &mut Frame) -> Result<usize> {
    let span = frame.rdx() as i32;
    let span = u64::try_from(span).ok().map(|span| span * 1_000_000);
    poll_until(frame.rdi(), frame.rsi(), deadline(span))
}

pub fn ppoll(frame: &mut Frame) -> Result<usize> {
    let until = span(frame.rdx())?;
    let mask = mask(frame.r10(), frame.r8())?;
    let (address, count) = (frame.rdi(), frame.rsi());
    let result = current::with_mask(mask, || poll_until(address, count, until));
    write_remaining(frame.rdx(), until);
    result
}

/// A timeout argument, as a deadline.
pub(super) fn span(address: u64) -> Result<Option<u64>> {
    if address == 0 {
        return Ok(None);
    }
    let span: Timespec = user::read(address)?;
    Ok(deadline(Some(span.to_nanoseconds()?)))
}

/// Tells the program what is left of its timeout. A program that keeps it in read-only memory does
/// not want to know.
pub(super) fn write_remaining(address: u64, deadline: Option<u64>) {
    if let Some(deadline) = deadline {
        let left = deadline.saturating_sub(crate::time::now());
        let left = Timespec {
            seconds: (left / 1_000_000_000) as i64,
            nanoseconds: (left % 1_000_000_000) as i64,
        };
        let _ = user::write(address, &left);
    }
}

/// A signal mask argument.
pub(super) fn mask(address: u64, size: u64) -> Result<Option<u64>> {
    if address == 0 {
        return Ok(None);
    }
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    user::read(address).map(Some)
}

pub fn epoll_create(frame: &mut Frame) -> Result<usize> {
    if frame.rdi() as i32 <= 0 {
        return Err(Errno::EINVAL);
    }
    current::admit()?;
    Ok(current::files().add(epoll::create(), 0, false)? as usize)
}

pub fn epoll_create1(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rdi() as u32;
    if flags & !abi::EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    current::admit()?;
    Ok(current::files().add(epoll::create(), 0, flags != 0)? as usize)
}

/// struct epoll_event: 12 bytes.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C, packed)]
struct Event {
    events: u32,
    data: u64,
}

pub fn epoll_ctl(frame: &mut Frame) -> Result<usize> {
    let operation = frame.rsi() as u32;
    let event: Event = if operation == abi::EPOLL_CTL_DEL {
        Event::new_zeroed()
    } else {
        user::read(frame.r10())?
    };
    let (instance, file) = (file(frame.rdi())?, file(frame.rdx())?);
    if core::ptr::eq(&*instance, &*file) {
        return Err(Errno::EINVAL);
    }
    let epoll = instance.operations().epoll().ok_or(Errno::EINVAL)?;
    current::admit()?;
    let (events, data) = (event.events, event.data);
    epoll.control(operation, frame.rdx() as u32, &file, events, data)?;
    Ok(0)
}

fn wait(frame: &Frame, deadline: Option<u64>) -> Result<usize> {
    let most = usize::try_from(frame.rdx() as i32).map_err(|_| Errno::EINVAL)?;
    if most == 0 || most > i32::MAX as usize / size_of::<Event>() {
        return Err(Errno::EINVAL);
    }
    let address = frame.rsi();
    crate::fs::transfer::check_range(address, most * size_of::<Event>())?;
    let instance = file(frame.rdi())?;
    let epoll = instance.operations().epoll().ok_or(Errno::EINVAL)?;
    let ready = epoll.wait(most, deadline)?;
    for (index, ready) in ready.iter().enumerate() {
        let event = Event { events: ready.events, data: ready.data };
        user::write(address + (index * size_of::<Event>()) as u64, &event)?;
    }
    Ok(ready.len())
}

fn milliseconds(frame: &Frame) -> Option<u64> {
    deadline(u64::try_from(frame.r10() as i32).ok().map(|span| span * 1_000_000))
}

pub fn epoll_wait(frame: &mut Frame) -> Result<usize> {
    wait(frame, milliseconds(frame))
}

pub fn epoll_pwait(frame: &mut Frame) -> Result<usize> {
    let mask = mask(frame.r8(), frame.r9())?;
    current::with_mask(mask, || wait(frame, milliseconds(frame)))
}

pub fn epoll_pwait2(frame: &mut Frame) -> Result<usize> {
    let until = span(frame.r10())?;
    let mask = mask(frame.r8(), frame.r9())?;
    current::with_mask(mask, || wait(frame, until))
}
