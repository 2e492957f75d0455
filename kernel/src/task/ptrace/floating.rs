//! A frozen thread's FPU, SSE and AVX state: FXSAVE's image, and XSAVE's with Linux's software bytes.

use super::registers::Registers;
use crate::arch::fpu;
use crate::errno::{Errno, Result};
use crate::mm::frame;
use crate::user;
use alloc::vec::Vec;

/// Bytes of FXSAVE's image.
pub(super) const LEGACY_BYTES: usize = 512;

fn buffer(bytes: usize) -> Result<Vec<u8>> {
    frame::admit()?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(bytes).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(bytes, 0);
    Ok(buffer)
}

/// Reads at most `length` bytes of FXSAVE's image.
pub(super) fn read_legacy(registers: &Registers, to: u64, length: usize) -> Result<()> {
    let mut image = [0; LEGACY_BYTES];
    registers.context.fpu.read_legacy(&mut image);
    user::write_bytes(to, &image[..length])
}

/// Takes FXSAVE's image, which has to be whole.
pub(super) fn write_legacy(registers: &mut Registers, from: u64, length: usize) -> Result<()> {
    if length != LEGACY_BYTES {
        return Err(Errno::EINVAL);
    }
    let mut image = [0; LEGACY_BYTES];
    user::read_bytes(from, &mut image)?;
    registers.context.fpu.write_legacy(&image)
}

/// Bytes of XSAVE's image.
pub(super) fn extended_bytes() -> usize {
    fpu::size()
}

/// Reads at most `length` bytes of XSAVE's image.
pub(super) fn read_extended(registers: &Registers, to: u64, length: usize) -> Result<()> {
    let mut image = buffer(fpu::size())?;
    registers.context.fpu.read_extended(&mut image);
    user::write_bytes(to, &image[..length.min(fpu::size())])
}

/// Takes XSAVE's image, which has to be whole.
pub(super) fn write_extended(registers: &mut Registers, from: u64, length: usize) -> Result<()> {
    if length != fpu::size() {
        return Err(Errno::EFAULT);
    }
    let mut image = buffer(length)?;
    user::read_bytes(from, &mut image)?;
    registers.context.fpu.write_extended(&image)
}
