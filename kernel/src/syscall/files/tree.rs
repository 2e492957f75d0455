//! Making, removing and moving names; reading symbolic links.

use super::arguments::{WORKING, file, path, start};
use crate::errno::{Errno, Result};
use crate::fs::inode::Kind;
use crate::fs::walk::{Final, Place};
use crate::fs::{current, names};
use crate::user;
use linux_raw_sys::general as abi;
use ringwall::Frame;

fn make(directory: u64, address: u64, kind: Kind, mode: u32, special: u64) -> Result<usize> {
    let path = path(address)?;
    let start = start(directory, &path)?;
    names::make(current::paths(), start.as_ref(), &path, kind, mode & 0o7777, special)?;
    Ok(0)
}

pub fn mkdir(frame: &mut Frame) -> Result<usize> {
    make(WORKING, frame.rdi(), Kind::Directory, frame.rsi() as u32 & 0o1777, 0)
}

pub fn mkdirat(frame: &mut Frame) -> Result<usize> {
    make(frame.rdi(), frame.rsi(), Kind::Directory, frame.rdx() as u32 & 0o1777, 0)
}

fn make_node(directory: u64, address: u64, mode: u64, special: u64) -> Result<usize> {
    let mode = mode as u32;
    let kind = match Kind::of_mode(mode) {
        None if mode & abi::S_IFMT == 0 => Kind::Regular,
        None | Some(Kind::Symlink) => return Err(Errno::EINVAL),
        Some(Kind::Directory) => return Err(Errno::EPERM),
        Some(kind) => kind,
    };
    let special = match kind {
        Kind::Character | Kind::Block => u64::from(special as u32),
        _ => 0,
    };
    make(directory, address, kind, mode, special)
}

pub fn mknod(frame: &mut Frame) -> Result<usize> {
    make_node(WORKING, frame.rdi(), frame.rsi(), frame.rdx())
}

pub fn mknodat(frame: &mut Frame) -> Result<usize> {
    make_node(frame.rdi(), frame.rsi(), frame.rdx(), frame.r10())
}

fn remove(directory: u64, address: u64, is_directory: bool) -> Result<usize> {
    let path = path(address)?;
    let start = start(directory, &path)?;
    names::remove(current::paths(), start.as_ref(), &path, is_directory)?;
    Ok(0)
}

pub fn rmdir(frame: &mut Frame) -> Result<usize> {
    remove(WORKING, frame.rdi(), true)
}

pub fn unlink(frame: &mut Frame) -> Result<usize> {
    remove(WORKING, frame.rdi(), false)
}

pub fn unlinkat(frame: &mut Frame) -> Result<usize> {
    let flags = frame.rdx() as u32;
    if flags & !abi::AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    remove(frame.rdi(), frame.rsi(), flags != 0)
}

fn rename_at(old: (u64, u64), new: (u64, u64), flags: u32) -> Result<usize> {
    let (old_path, new_path) = (path(old.1)?, path(new.1)?);
    let (old_start, new_start) = (start(old.0, &old_path)?, start(new.0, &new_path)?);
    let (from, to) = ((old_start.as_ref(), &*old_path), (new_start.as_ref(), &*new_path));
    names::rename(current::paths(), from, to, flags)?;
    Ok(0)
}

pub fn rename(frame: &mut Frame) -> Result<usize> {
    rename_at((WORKING, frame.rdi()), (WORKING, frame.rsi()), 0)
}

pub fn renameat(frame: &mut Frame) -> Result<usize> {
    rename_at((frame.rdi(), frame.rsi()), (frame.rdx(), frame.r10()), 0)
}

pub fn renameat2(frame: &mut Frame) -> Result<usize> {
    let flags = frame.r8() as u32;
    rename_at((frame.rdi(), frame.rsi()), (frame.rdx(), frame.r10()), flags)
}

fn link_at(old: (u64, u64), new: (u64, u64), flags: u32) -> Result<usize> {
    if flags & !(abi::AT_SYMLINK_FOLLOW | abi::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & abi::AT_SYMLINK_FOLLOW != 0 { 0 } else { abi::AT_SYMLINK_NOFOLLOW };
    let flags = flags & abi::AT_EMPTY_PATH | follow;
    let target = super::arguments::target(old.0, old.1, flags)?;
    let place = target.place.ok_or(Errno::EXDEV)?;
    let path = path(new.1)?;
    let start = start(new.0, &path)?;
    names::link(current::paths(), &place, start.as_ref(), &path)?;
    Ok(0)
}

pub fn link(frame: &mut Frame) -> Result<usize> {
    link_at((WORKING, frame.rdi()), (WORKING, frame.rsi()), 0)
}

pub fn linkat(frame: &mut Frame) -> Result<usize> {
    let flags = frame.r8() as u32;
    link_at((frame.rdi(), frame.rsi()), (frame.rdx(), frame.r10()), flags)
}

fn symlink_at(target: u64, directory: u64, address: u64) -> Result<usize> {
    let target = path(target)?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    let path = path(address)?;
    let start = start(directory, &path)?;
    names::make_link(current::paths(), start.as_ref(), &path, &target)?;
    Ok(0)
}

pub fn symlink(frame: &mut Frame) -> Result<usize> {
    symlink_at(frame.rdi(), WORKING, frame.rsi())
}

pub fn symlinkat(frame: &mut Frame) -> Result<usize> {
    symlink_at(frame.rdi(), frame.rsi(), frame.rdx())
}

fn read_link(directory: u64, address: u64, buffer: u64, size: u64) -> Result<usize> {
    let size = size as i32;
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    let path = path(address)?;
    let place: Place = if path.is_empty() && directory as i32 != abi::AT_FDCWD {
        file(directory)?.place().ok_or(Errno::ENOENT)?
    } else {
        let start = start(directory, &path)?;
        current::paths().walk(start.as_ref(), &path, Final::Stop)?.found()?
    };
    let missing = if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL };
    if place.inode.kind() != Kind::Symlink {
        return Err(missing);
    }
    let text = place.inode.target()?;
    let length = text.len().min(size as usize);
    user::write_bytes(buffer, &text[..length])?;
    Ok(length)
}

pub fn readlink(frame: &mut Frame) -> Result<usize> {
    read_link(WORKING, frame.rdi(), frame.rsi(), frame.rdx())
}

pub fn readlinkat(frame: &mut Frame) -> Result<usize> {
    read_link(frame.rdi(), frame.rsi(), frame.rdx(), frame.r10())
}
