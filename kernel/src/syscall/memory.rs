//! System calls: memory.
//!
//! Arguments are checked here as far as they are about numbers; [`crate::mm`] does the rest.

use super::{Calls, calls};
use crate::errno::{Errno, Result};
use crate::fs::inode::{Kind, device_number};
use crate::fs::seal::WritableMapping;
use crate::mm::{MappedFile, Mm, PAGE, Protection, Request};
use crate::{task, user};
use alloc::sync::Arc;
use linux_raw_sys::general as linux;
use ringwall::Frame;

/// This area's calls.
pub const CALLS: Calls = calls![
    (linux::__NR_mmap, mmap),
    (linux::__NR_munmap, munmap),
    (linux::__NR_mprotect, mprotect),
    (linux::__NR_pkey_mprotect, pkey_mprotect),
    (linux::__NR_pkey_alloc, pkey_alloc),
    (linux::__NR_pkey_free, pkey_free),
    (linux::__NR_mremap, mremap),
    (linux::__NR_brk, brk),
    (linux::__NR_madvise, madvise),
    (linux::__NR_msync, msync),
    (linux::__NR_mincore, mincore),
    (linux::__NR_mlock, mlock),
    (linux::__NR_mlock2, mlock2),
    (linux::__NR_munlock, munlock),
    (linux::__NR_mlockall, mlockall),
    (linux::__NR_munlockall, munlockall),
];

/// Flags that MAP_SHARED_VALIDATE knows.
const KNOWN_FLAGS: u32 = linux::MAP_TYPE
    | linux::MAP_FIXED
    | linux::MAP_ANONYMOUS
    | linux::MAP_32BIT
    | linux::MAP_GROWSDOWN
    | linux::MAP_DENYWRITE
    | linux::MAP_EXECUTABLE
    | linux::MAP_LOCKED
    | linux::MAP_NORESERVE
    | linux::MAP_POPULATE
    | linux::MAP_NONBLOCK
    | linux::MAP_STACK
    | linux::MAP_UNINITIALIZED
    | linux::MAP_FIXED_NOREPLACE;

/// The device whose mappings are zeros.
const ZERO: u64 = device_number(1, 5);

/// Pages that mincore answers for at a time.
const MINCORE_PART: u64 = 256;

fn memory() -> &'static Mm {
    task::current().mm()
}

fn mmap(frame: &mut Frame) -> Result<usize> {
    let [address, length, protection, flags, descriptor, offset] = frame.arguments();
    let flags = flags as u32;
    if !offset.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let shared = flags & linux::MAP_TYPE != linux::MAP_PRIVATE;
    let mut request = Request {
        address,
        length,
        // Bits that mean nothing are let pass, as Linux does.
        protection: Protection::from_bits_truncate(protection as u8),
        flags,
        shared,
        file: None,
        offset,
        limit: Protection::all(),
    };
    if flags & linux::MAP_ANONYMOUS == 0 {
        ask_for_file(&mut request, descriptor as u32)?;
    } else {
        ask_for_memory(&mut request)?;
    }
    memory().map(request).map(|address| address as usize)
}

/// Completes a request for memory without a file.
fn ask_for_memory(request: &mut Request) -> Result<()> {
    let kind = request.flags & linux::MAP_TYPE;
    if request.length == 0 {
        return Err(Errno::EINVAL);
    }
    if request.flags & linux::MAP_HUGETLB != 0 {
        return Err(Errno::ENOMEM);
    }
    let grows = request.flags & linux::MAP_GROWSDOWN != 0;
    if !matches!(kind, linux::MAP_SHARED | linux::MAP_PRIVATE) || (request.shared && grows) {
        return Err(Errno::EINVAL);
    }
    request.offset = 0;
    Ok(())
}

/// Completes a request for a file's pages.
fn ask_for_file(request: &mut Request, descriptor: u32) -> Result<()> {
    let file = task::current().files().get(descriptor)?;
    if request.length == 0 || request.flags & linux::MAP_HUGETLB != 0 {
        return Err(Errno::EINVAL);
    }
    check_kind(request.flags & linux::MAP_TYPE, request.flags)?;
    let (readable, writable) = file.modes();
    if request.shared && !writable {
        refuse_writing(request, Errno::EACCES)?;
    }
    if !readable {
        return Err(Errno::EACCES);
    }
    let mut mapping = None;
    if request.shared && request.limit.contains(Protection::WRITE) {
        match WritableMapping::of(file.inode()) {
            Ok(writable) => mapping = Some(writable),
            Err(error) => refuse_writing(request, error)?,
        }
    }
    let inode = file.mappable();
    let is_zeros =
        file.inode().kind() == Kind::Character && file.inode().metadata().special == ZERO;
    if inode.is_none() && !is_zeros {
        return Err(Errno::ENODEV);
    }
    if request.flags & linux::MAP_GROWSDOWN != 0 {
        return Err(Errno::EINVAL);
    }
    match inode {
        Some(inode) => {
            let path = file.path();
            request.file = Some(Arc::new(MappedFile { inode, path, writable: mapping }));
        }
        // A mapping of /dev/zero is memory without a file.
        None => request.offset = 0,
    }
    Ok(())
}

/// A shared mapping of a file that this program may not write.
fn refuse_writing(request: &mut Request, error: Errno) -> Result<()> {
    if request.protection.contains(Protection::WRITE) {
        return Err(error);
    }
    request.limit.remove(Protection::WRITE);
    Ok(())
}

/// Checks the type of a file's mapping.
fn check_kind(kind: u32, flags: u32) -> Result<()> {
    match kind {
        linux::MAP_SHARED | linux::MAP_PRIVATE => Ok(()),
        linux::MAP_SHARED_VALIDATE if flags & !KNOWN_FLAGS != 0 => Err(Errno::EOPNOTSUPP),
        linux::MAP_SHARED_VALIDATE => Ok(()),
        _ => Err(Errno::EINVAL),
    }
}

fn munmap(frame: &mut Frame) -> Result<usize> {
    memory().unmap(frame.rdi(), frame.rsi())?;
    Ok(0)
}

fn mprotect(frame: &mut Frame) -> Result<usize> {
    let (start, length) = (frame.rdi(), frame.rsi());
    let protection = frame.rdx() as u32;
    let grows = protection & (linux::PROT_GROWSDOWN | linux::PROT_GROWSUP);
    let rights = protection & !(linux::PROT_GROWSDOWN | linux::PROT_GROWSUP);
    let known = linux::PROT_READ | linux::PROT_WRITE | linux::PROT_EXEC | linux::PROT_SEM;
    if grows == linux::PROT_GROWSDOWN | linux::PROT_GROWSUP || rights & !known != 0 {
        return Err(Errno::EINVAL);
    }
    if grows == linux::PROT_GROWSUP {
        // Nothing grows up here.
        return Err(Errno::EINVAL);
    }
    let rights = Protection::from_bits_truncate(rights as u8);
    memory().protect(start, length, rights, grows != 0)?;
    Ok(0)
}

/// No key but 0 can be had: all pages have that one.
fn pkey_alloc(frame: &mut Frame) -> Result<usize> {
    let (flags, rights) = (frame.rdi(), frame.rsi());
    let known = u64::from(linux::PKEY_DISABLE_ACCESS | linux::PKEY_DISABLE_WRITE);
    Err(if flags != 0 || rights & !known != 0 { Errno::EINVAL } else { Errno::ENOSPC })
}

fn pkey_free(_frame: &mut Frame) -> Result<usize> {
    Err(Errno::EINVAL)
}

fn pkey_mprotect(frame: &mut Frame) -> Result<usize> {
    match frame.r10() as i32 {
        -1 | 0 => mprotect(frame),
        _ => Err(Errno::EINVAL),
    }
}

fn mremap(frame: &mut Frame) -> Result<usize> {
    let [old, old_length, new_length, flags, new, _] = frame.arguments();
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    memory().remap(old, old_length, new_length, flags, new).map(|address| address as usize)
}

fn brk(frame: &mut Frame) -> Result<usize> {
    Ok(memory().set_heap_end(frame.rdi()) as usize)
}

fn madvise(frame: &mut Frame) -> Result<usize> {
    memory().advise(frame.rdi(), frame.rsi(), frame.rdx() as u32)?;
    Ok(0)
}

fn msync(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rdx() as u32;
    let known = linux::MS_ASYNC | linux::MS_INVALIDATE | linux::MS_SYNC;
    let both = linux::MS_ASYNC | linux::MS_SYNC;
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    // Files are in memory: whoever reads one sees what was written through a mapping.
    let checked = memory().check_mapped(frame.rdi(), frame.rsi());
    match checked {
        // Linux: an end that cannot be is ENOMEM, a start that is no page's EINVAL.
        Err(Errno::EINVAL) if frame.rdi().is_multiple_of(PAGE) => Err(Errno::ENOMEM),
        other => other.map(|_| 0),
    }
}

fn mincore(frame: &mut Frame) -> Result<usize> {
    let (start, length, vector) = (frame.rdi(), frame.rsi(), frame.rdx());
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    if !user::is_user_range(start, length) {
        return Err(Errno::ENOMEM);
    }
    let pages = length.div_ceil(PAGE);
    if !user::is_user_range(vector, pages) {
        return Err(Errno::EFAULT);
    }
    let memory = memory();
    let mut answers = [0; MINCORE_PART as usize];
    let mut done = 0;
    let mut breath = task::Breath::start();
    while done < pages {
        let part = &mut answers[..(pages - done).min(MINCORE_PART) as usize];
        memory.present(start + done * PAGE, part)?;
        user::write_bytes(vector + done, part)?;
        done += part.len() as u64;
        if breath.ends_after(part.len() * PAGE as usize) {
            return Err(Errno::EINTR);
        }
    }
    Ok(0)
}

fn mlock(frame: &mut Frame) -> Result<usize> {
    memory().lock(frame.rdi(), frame.rsi())?;
    Ok(0)
}

fn mlock2(frame: &mut Frame) -> Result<usize> {
    match frame.rdx() as u32 {
        0 => mlock(frame),
        linux::MLOCK_ONFAULT => munlock(frame),
        _ => Err(Errno::EINVAL),
    }
}

/// Nothing is ever swapped out, so locking is making present, and unlocking is only a check.
fn munlock(frame: &mut Frame) -> Result<usize> {
    memory().lockable(frame.rdi(), frame.rsi())?;
    Ok(0)
}

fn mlockall(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rdi() as u32;
    let known = linux::MCL_CURRENT | linux::MCL_FUTURE | linux::MCL_ONFAULT;
    if flags == 0 || flags & !known != 0 || flags == linux::MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

fn munlockall(_frame: &mut Frame) -> Result<usize> {
    Ok(0)
}
