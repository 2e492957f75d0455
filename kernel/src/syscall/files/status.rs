//! stat, statx, statfs, access.

use super::arguments::{Target, WORKING, file, target};
use crate::errno::{Errno, Result};
use crate::fs::inode::{Metadata, device_parts};
use crate::fs::permission;
use crate::user;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as abi;
use ringwall::Frame;
use zerocopy::{FromZeros, Immutable, IntoBytes};

const SECOND: u64 = 1_000_000_000;

/// struct stat.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Stat {
    device: u64,
    number: u64,
    links: u64,
    mode: u32,
    user: u32,
    group: u32,
    padding: u32,
    special: u64,
    size: u64,
    block_size: u64,
    blocks: u64,
    times: [u64; 6],
    unused: [u64; 3],
}

const _: () = assert!(size_of::<Stat>() == size_of::<abi::stat>());

fn write_stat(address: u64, metadata: &Metadata) -> Result<usize> {
    let stat = Stat {
        device: metadata.device,
        number: metadata.number,
        links: u64::from(metadata.links),
        mode: metadata.mode,
        user: metadata.user,
        group: metadata.group,
        padding: 0,
        special: metadata.special,
        size: metadata.size,
        block_size: 4096,
        blocks: metadata.blocks,
        times: [
            metadata.accessed / SECOND,
            metadata.accessed % SECOND,
            metadata.modified / SECOND,
            metadata.modified % SECOND,
            metadata.changed / SECOND,
            metadata.changed % SECOND,
        ],
        unused: [0; 3],
    };
    user::write(address, &stat)?;
    Ok(0)
}

pub fn stat(frame: &mut Frame) -> Result<usize> {
    let target = target(WORKING, frame.rdi(), 0)?;
    write_stat(frame.rsi(), &target.inode.metadata())
}

pub fn lstat(frame: &mut Frame) -> Result<usize> {
    let target = target(WORKING, frame.rdi(), abi::AT_SYMLINK_NOFOLLOW)?;
    write_stat(frame.rsi(), &target.inode.metadata())
}

pub fn fstat(frame: &mut Frame) -> Result<usize> {
    let file = file(frame.rdi())?;
    write_stat(frame.rsi(), &file.inode().metadata())
}

pub fn fstatat(frame: &mut Frame) -> Result<usize> {
    let flags = frame.r10() as u32;
    let known = abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH | abi::AT_NO_AUTOMOUNT;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(frame.rdi(), frame.rsi(), flags)?;
    write_stat(frame.rdx(), &target.inode.metadata())
}

/// struct statx_timestamp.
#[derive(IntoBytes, Immutable, Clone, Copy)]
#[repr(C)]
struct Timestamp {
    seconds: u64,
    nanoseconds: u32,
    reserved: u32,
}

/// struct statx.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    user: u32,
    group: u32,
    mode: u16,
    padding: u16,
    number: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: Timestamp,
    born: Timestamp,
    changed: Timestamp,
    modified: Timestamp,
    special: [u32; 2],
    device: [u32; 2],
    mount: u64,
    spare: [u64; 13],
}

const _: () = assert!(size_of::<Statx>() == 256);

fn timestamp(nanoseconds: u64) -> Timestamp {
    let seconds = nanoseconds / SECOND;
    Timestamp { seconds, nanoseconds: (nanoseconds % SECOND) as u32, reserved: 0 }
}

pub fn statx(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rdx() as u32;
    let known = abi::AT_SYMLINK_NOFOLLOW
        | abi::AT_EMPTY_PATH
        | abi::AT_NO_AUTOMOUNT
        | abi::AT_STATX_SYNC_TYPE;
    if flags & !known != 0
        || flags & abi::AT_STATX_SYNC_TYPE == abi::AT_STATX_SYNC_TYPE
        || frame.r10() as u32 & abi::STATX__RESERVED != 0
    {
        return Err(Errno::EINVAL);
    }
    let Target { inode, place } = target(frame.rdi(), frame.rsi(), flags)?;
    let metadata = inode.metadata();
    let parts = |number| {
        let (major, minor) = device_parts(number);
        [major, minor]
    };
    let is_root =
        place.as_ref().is_some_and(|place| place.inode.identity() == place.mount.root.identity());
    let attributes = if is_root { u64::from(abi::STATX_ATTR_MOUNT_ROOT) } else { 0 };
    let statx = Statx {
        mask: abi::STATX_BASIC_STATS | abi::STATX_MNT_ID,
        block_size: 4096,
        attributes,
        links: metadata.links,
        user: metadata.user,
        group: metadata.group,
        mode: metadata.mode as u16,
        padding: 0,
        number: metadata.number,
        size: metadata.size,
        blocks: metadata.blocks,
        attributes_mask: u64::from(abi::STATX_ATTR_MOUNT_ROOT),
        accessed: timestamp(metadata.accessed),
        born: timestamp(0),
        changed: timestamp(metadata.changed),
        modified: timestamp(metadata.modified),
        special: parts(metadata.special),
        device: parts(metadata.device),
        mount: place.map_or(0, |place| place.mount.number),
        spare: [0; 13],
    };
    user::write(frame.r8(), &statx)?;
    Ok(0)
}

/// struct statfs.
#[derive(FromZeros, IntoBytes, Immutable)]
#[repr(C)]
struct Statfs {
    magic: u64,
    block_size: u64,
    blocks: u64,
    free: u64,
    available: u64,
    files: u64,
    free_files: u64,
    identifier: u64,
    name_length: u64,
    fragment_size: u64,
    flags: u64,
    spare: [u64; 4],
}

fn write_statfs(address: u64, target: &Target) -> Result<usize> {
    /// The flags below are filled in.
    const VALID: u64 = 0x20;
    const RELATIME: u64 = 0x1000;
    const NOATIME: u64 = 0x400;
    let statistics = target.inode.statistics();
    let mut flags = VALID;
    if let Some(place) = &target.place {
        let mount = place.mount.flags.load(Ordering::Relaxed);
        flags |=
            u64::from(mount & (abi::MS_RDONLY | abi::MS_NOSUID | abi::MS_NODEV | abi::MS_NOEXEC));
        flags |= if mount & abi::MS_NOATIME != 0 { NOATIME } else { RELATIME };
    }
    let statfs = Statfs {
        magic: u64::from(statistics.magic),
        block_size: 4096,
        blocks: statistics.blocks,
        free: statistics.free_blocks,
        available: statistics.free_blocks,
        files: statistics.files,
        free_files: statistics.free_files,
        identifier: target.inode.identity().0,
        name_length: 255,
        fragment_size: 4096,
        flags,
        spare: [0; 4],
    };
    user::write(address, &statfs)?;
    Ok(0)
}

pub fn statfs(frame: &mut Frame) -> Result<usize> {
    write_statfs(frame.rsi(), &target(WORKING, frame.rdi(), 0)?)
}

pub fn fstatfs(frame: &mut Frame) -> Result<usize> {
    write_statfs(frame.rsi(), &Target::of(&file(frame.rdi())?))
}

fn check_access(directory: u64, path: u64, mode: u32, flags: u32) -> Result<usize> {
    let known = abi::AT_EACCESS | abi::AT_SYMLINK_NOFOLLOW | abi::AT_EMPTY_PATH;
    if mode & !7 != 0 || flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let target = target(directory, path, flags)?;
    if mode & permission::WRITE != 0 {
        let special = target.inode.kind();
        use crate::fs::inode::Kind;
        if matches!(special, Kind::Regular | Kind::Directory | Kind::Symlink) {
            target.check_writable()?;
        }
    }
    if mode != 0 {
        permission::check_as(&*target.inode, mode, flags & abi::AT_EACCESS == 0)?;
    }
    Ok(0)
}

pub fn access(frame: &mut Frame) -> Result<usize> {
    check_access(WORKING, frame.rdi(), frame.rsi() as u32, 0)
}

pub fn faccessat(frame: &mut Frame) -> Result<usize> {
    check_access(frame.rdi(), frame.rsi(), frame.rdx() as u32, 0)
}

pub fn faccessat2(frame: &mut Frame) -> Result<usize> {
    check_access(frame.rdi(), frame.rsi(), frame.rdx() as u32, frame.r10() as u32)
}
