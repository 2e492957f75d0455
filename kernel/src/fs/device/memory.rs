//! null, zero, full, kmsg.

use crate::errno::{Errno, Result};
use crate::fs::transfer::{Sink, Source};
use crate::fs::{File, Operations};
use crate::sync::WaitQueue;
use crate::task::Breath;
use alloc::vec::Vec;

const ZEROS: [u8; 4096] = [0; 4096];

/// Takes everything, has nothing.
pub struct Null;
/// Takes everything, has zeros.
pub struct Zero;
/// Takes nothing, has zeros.
pub struct Full;
/// The kernel's messages: what is written appears on the console.
pub struct Messages;

fn swallow(source: &mut Source<'_>) -> Result<usize> {
    let length = source.remaining();
    source.skip(length);
    Ok(length)
}

fn zeros(sink: &mut Sink<'_>) -> Result<usize> {
    let mut done = 0;
    let mut breath = Breath::start();
    while sink.remaining() > 0 {
        let length = sink.remaining().min(ZEROS.len());
        match sink.put_some(&ZEROS[..length]) {
            Ok(moved) => {
                done += moved;
                if moved < length || breath.ends_after(moved) {
                    break;
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}

impl Operations for Null {
    fn read(&self, _file: &File, _at: &mut u64, _sink: &mut Sink<'_>) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _file: &File, _at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        swallow(source)
    }

    fn devours_seeks(&self) -> bool {
        true
    }
}

impl Operations for Zero {
    fn read(&self, _file: &File, _at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        zeros(sink)
    }

    fn write(&self, _file: &File, _at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        swallow(source)
    }

    fn devours_seeks(&self) -> bool {
        true
    }
}

impl Operations for Full {
    fn read(&self, _file: &File, _at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        zeros(sink)
    }

    fn write(&self, _file: &File, _at: &mut u64, _source: &mut Source<'_>) -> Result<usize> {
        Err(Errno::ENOSPC)
    }

    fn devours_seeks(&self) -> bool {
        true
    }
}

/// Nobody wakes it: there are no messages to read.
static NO_MESSAGES: WaitQueue = WaitQueue::new();

impl Operations for Messages {
    fn read(&self, file: &File, _at: &mut u64, _sink: &mut Sink<'_>) -> Result<usize> {
        if file.nonblocking() {
            return Err(Errno::EAGAIN);
        }
        NO_MESSAGES.wait_until(None, || None)
    }

    fn write(&self, _file: &File, _at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        /// Longest message.
        const MOST: usize = 992;
        let length = source.remaining();
        if length > MOST {
            return Err(Errno::EINVAL);
        }
        let mut text = Vec::new();
        text.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
        text.resize(length, 0);
        source.take(&mut text)?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        crate::println!("{}", alloc::string::String::from_utf8_lossy(without_level(text)));
        Ok(length)
    }

    fn poll(&self, _file: &File) -> u32 {
        linux_raw_sys::general::POLLOUT
    }

    fn devours_seeks(&self) -> bool {
        true
    }
}

/// A message without its "<3>".
fn without_level(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|&byte| byte == b'>');
    match (text.first(), end) {
        (Some(b'<'), Some(end)) if text[1..end].iter().all(u8::is_ascii_digit) => &text[end + 1..],
        _ => text,
    }
}
