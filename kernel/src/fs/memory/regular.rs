//! A regular file: counted pages that mappings share.
//!
//! Data is copied between a page and a program with no lock held, on a handle of its own; so a
//! truncation meanwhile frees nothing under the copy.

use super::Memory;
use super::node::Node;
use super::pages::{self, Pages};
use crate::errno::{Errno, Result};
use crate::fs::hold::Holds;
use crate::fs::inode::{Inode, Kind};
use crate::fs::seal::Seals;
use crate::fs::transfer::{Sink, Source};
use crate::fs::turn::Turn;
use crate::fs::{File, Operations};
use crate::mm::Page;
use crate::sync::Mutex;
use crate::task::Breath;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use linux_raw_sys::general as abi;

pub(super) const PAGE: u64 = 4096;
pub(super) const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
/// Offsets are signed 64-bit numbers.
const LARGEST: u64 = i64::MAX as u64;

/// Marks a file that cannot be sealed; no seal has this bit.
const NOT_SEALABLE: u32 = 1 << 31;

/// Size and data.
pub struct Regular {
    size: AtomicU64,
    pub(super) pages: Mutex<Pages>,
    /// Writers and truncations, one at a time.
    writing: Turn,
    /// What may not be done to it any more.
    pub(super) seals: Seals,
    /// Whether a program ever had one of its pages.
    pub(super) mapped: AtomicBool,
    /// Who writes or executes it.
    pub(super) holds: Holds,
}

impl Regular {
    /// An empty file.
    pub fn new() -> Regular {
        Regular::sealable(NOT_SEALABLE)
    }

    /// An empty file with `seals`.
    pub fn sealable(seals: u32) -> Regular {
        Regular {
            size: AtomicU64::new(0),
            pages: Mutex::new(Pages::new()),
            writing: Turn::new(),
            seals: Seals::new(seals),
            holds: Holds::default(),
            mapped: AtomicBool::new(false),
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Pages it has.
    pub fn count(&self) -> u64 {
        self.pages.lock().count()
    }

    /// Reads from `offset` until the sink is full or the file ends.
    ///
    /// # Errors
    /// `EFAULT` if nothing could be copied.
    pub fn read(&self, mut offset: u64, sink: &mut Sink<'_>) -> Result<usize> {
        let mut done = 0;
        let mut breath = Breath::start();
        while sink.remaining() > 0 {
            let left = self.size().saturating_sub(offset);
            let within = (offset % PAGE) as usize;
            let length = sink.remaining().min(PAGE as usize - within).min(left as usize);
            if length == 0 {
                break;
            }
            let page = self.pages.lock().get(offset / PAGE).cloned();
            let moved = match &page {
                Some(page) => sink.put_page(page, within, length),
                None => sink.put_some(&ZEROS[..length]),
            };
            match moved {
                Ok(moved) => {
                    done += moved;
                    offset += moved as u64;
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

    /// Writes at `offset`, or at the end if it is `None`. Gives the bytes written and the offset
    /// after them.
    ///
    /// # Errors
    /// `EFBIG`, `ENOSPC`, `EFAULT`, `EPERM` when sealed.
    pub fn write(
        &self,
        node: &Node,
        offset: Option<u64>,
        source: &mut Source<'_>,
    ) -> Result<(usize, u64)> {
        let turn = self.writing.take()?;
        let size = self.size();
        let mut offset = offset.unwrap_or(size);
        let mut left = source.remaining() as u64;
        if left == 0 {
            return Ok((0, offset));
        }
        if offset >= LARGEST {
            return Err(Errno::EFBIG);
        }
        left = left.min(LARGEST - offset);
        let seals = self.seals.now();
        if seals & (abi::F_SEAL_WRITE | abi::F_SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        if seals & abi::F_SEAL_GROW != 0 && offset + left > size {
            if offset >= size {
                return Err(Errno::EPERM);
            }
            left = size - offset;
        }
        let mut done = 0;
        let mut outcome = Ok(());
        let mut breath = Breath::start();
        while left > 0 {
            let within = (offset % PAGE) as usize;
            let length = left.min(PAGE - within as u64) as usize;
            let moved = self
                .page_for(&node.memory, offset / PAGE, || Ok(()))
                .and_then(|page| source.take_page(&page, within, length));
            match moved {
                Ok(moved) => {
                    done += moved;
                    offset += moved as u64;
                    left -= moved as u64;
                    self.size.fetch_max(offset, Ordering::AcqRel);
                    if moved < length || breath.ends_after(moved) {
                        break;
                    }
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        drop(turn);
        if done == 0 {
            outcome?;
        }
        node.attributes.lock().written();
        Ok((done, offset))
    }

    /// The page at `index`, made if there is a hole, unless `refuse` says, with the pages locked, that it cannot be had.
    fn page_for(
        &self,
        memory: &Memory,
        index: u64,
        refuse: impl Fn() -> Result<()>,
    ) -> Result<Page> {
        {
            let pages = self.pages.lock();
            refuse()?;
            if let Some(page) = pages.get(index) {
                return Ok(page.clone());
            }
        }
        memory.charge()?;
        let made = pages::new_page();
        let mut pages = self.pages.lock();
        let before = pages.count();
        let result = made.and_then(|page| {
            refuse()?;
            pages.insert(index, page).cloned()
        });
        if pages.count() == before {
            memory.discharge(1);
        }
        result
    }

    /// See [`Inode::page`].
    ///
    /// # Errors
    /// `ENXIO` past the end, `ENOMEM`.
    pub fn page(&self, memory: &Memory, index: u64) -> Result<Page> {
        self.mapped.store(true, Ordering::Relaxed);
        // A truncation on another CPU sets the size before it takes the pages: with those locked, either the size tells, or
        // it will take this page too.
        let is_past_end = || match index < self.size().div_ceil(PAGE) {
            true => Ok(()),
            false => Err(Errno::ENXIO),
        };
        self.page_for(memory, index, is_past_end).map_err(|error| match error {
            Errno::ENXIO => error,
            _ => Errno::ENOMEM,
        })
    }

    /// See [`Inode::truncate`].
    ///
    /// # Errors
    /// `EFBIG`, `EPERM` when sealed.
    pub fn truncate(&self, node: &Node, size: u64) -> Result<()> {
        if size > LARGEST {
            return Err(Errno::EFBIG);
        }
        let _turn = self.writing.take()?;
        let old = self.size();
        let seals = self.seals.now();
        if size < old && seals & abi::F_SEAL_SHRINK != 0
            || size > old && seals & abi::F_SEAL_GROW != 0
        {
            return Err(Errno::EPERM);
        }
        self.size.store(size, Ordering::Release);
        if size < old {
            self.punch(node, size, u64::MAX);
        }
        node.attributes.lock().written();
        Ok(())
    }

    /// See [`Inode::allocate`].
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EFBIG`, `ENOSPC`, `EPERM` when sealed, `EINTR` when killed.
    pub fn allocate(&self, node: &Node, mode: u32, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).filter(|&end| end <= LARGEST).ok_or(Errno::EFBIG)?;
        let _turn = self.writing.take()?;
        let size = self.size();
        let seals = self.seals.now();
        if mode == abi::FALLOC_FL_PUNCH_HOLE | abi::FALLOC_FL_KEEP_SIZE {
            if seals & (abi::F_SEAL_WRITE | abi::F_SEAL_FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            self.punch(node, offset, end);
        } else if mode & !abi::FALLOC_FL_KEEP_SIZE == 0 {
            if end > size && mode == 0 && seals & abi::F_SEAL_GROW != 0 {
                return Err(Errno::EPERM);
            }
            // Refused at once if it cannot fit, rather than after filling all memory.
            let wanted = (end - offset).div_ceil(PAGE);
            if wanted > crate::mm::frame::available() as u64 {
                return Err(Errno::ENOSPC);
            }
            let mut breath = Breath::start();
            for index in offset / PAGE..end.div_ceil(PAGE) {
                self.page_for(&node.memory, index, || Ok(()))?;
                if breath.ends_after(PAGE as usize) {
                    return Err(Errno::EINTR);
                }
            }
            if mode == 0 {
                self.size.fetch_max(end, Ordering::AcqRel);
            }
        } else {
            return Err(Errno::EOPNOTSUPP);
        }
        node.attributes.lock().written();
        Ok(())
    }

    /// See [`Inode::seek`].
    ///
    /// # Errors
    /// `ENXIO`.
    pub fn seek(&self, offset: u64, hole: bool) -> Result<u64> {
        let size = self.size();
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let pages = self.pages.lock();
        let found = if hole {
            pages.next_hole(offset / PAGE) * PAGE
        } else {
            pages.next_page(offset / PAGE).ok_or(Errno::ENXIO)? * PAGE
        };
        if !hole && found >= size {
            return Err(Errno::ENXIO);
        }
        Ok(found.max(offset).min(size))
    }

    /// See [`Inode::seals`].
    ///
    /// # Errors
    /// `EINVAL`, `EPERM`, `EBUSY` for F_SEAL_WRITE while a mapping may write.
    pub fn seals(&self, add: Option<u32>) -> Result<u32> {
        let now = self.seals.now();
        let Some(add) = add else {
            return if now == NOT_SEALABLE { Err(Errno::EINVAL) } else { Ok(now) };
        };
        let all = abi::F_SEAL_SEAL
            | abi::F_SEAL_SHRINK
            | abi::F_SEAL_GROW
            | abi::F_SEAL_WRITE
            | abi::F_SEAL_FUTURE_WRITE;
        if add & !all != 0 || now == NOT_SEALABLE {
            return Err(Errno::EINVAL);
        }
        // Whoever writes has looked at the seals before.
        let _turn = self.writing.take()?;
        self.seals.add(add)
    }
}

impl Node {
    /// Appends all of `source` to a regular file.
    ///
    /// # Errors
    /// `EINVAL` if it is none, `ENOSPC`.
    pub fn write_all(&self, source: &mut Source<'_>) -> Result<()> {
        let regular = self.regular().ok_or(Errno::EINVAL)?;
        while source.remaining() > 0 {
            regular.write(self, None, source)?;
        }
        Ok(())
    }
}

impl Operations for Node {
    fn read(&self, _file: &File, at: &mut u64, sink: &mut Sink<'_>) -> Result<usize> {
        let regular = self.regular().ok_or(Errno::EISDIR)?;
        let done = regular.read(*at, sink)?;
        *at += done as u64;
        self.attributes.lock().read();
        Ok(done)
    }

    fn write(&self, file: &File, at: &mut u64, source: &mut Source<'_>) -> Result<usize> {
        let regular = self.regular().ok_or(Errno::EISDIR)?;
        let (done, end) = regular.write(self, (!file.appends()).then_some(*at), source)?;
        *at = end;
        Ok(done)
    }

    fn seekable(&self) -> bool {
        matches!(self.kind(), Kind::Regular | Kind::Directory)
    }
}
