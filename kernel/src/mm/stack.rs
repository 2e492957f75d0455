//! The first stack of a program: its arguments, environment and auxiliary vector.
//!
//! ```text
//!   top    8 zero bytes
//!          path of the program      \
//!          environment strings       > each with its NUL
//!          argument strings         /
//!          "x86_64", 16 random bytes
//!          auxiliary vector, AT_NULL last
//!          environment pointers, 0
//!          argument pointers, 0
//!   RSP -> argument count            16-byte aligned
//! ```
//!
//! System V ABI for x86-64, 3.4.1; the order above the vectors is Linux's.

use super::Mm;
use super::layout::USER_END;
use super::mapping::{Mapping, Protection, RegionFlags, STACK_GAP};
use super::page::PAGE;
use super::space::Space;
use super::spread::spread;
use crate::arch::random;
use crate::errno::{Errno, Result};
use alloc::vec::Vec;
use linux_raw_sys::auxvec as aux;
use ringwall::AddressSpace;
use zerocopy::IntoBytes;

/// Longest single string, NUL included.
const LONGEST_STRING: usize = 128 << 10;
/// All strings and pointers together, whatever the stack's limit.
const MOST_BYTES: u64 = 6 << 20;
/// What the stack has below its contents at first.
const ROOM_TO_GROW: u64 = 128 << 10;
const PLATFORM: &[u8] = b"x86_64\0";

/// What a new program is told.
pub(super) struct Told<'a> {
    pub path: &'a [u8],
    pub arguments: &'a [Vec<u8>],
    pub environment: &'a [Vec<u8>],
    /// Auxiliary entries that the image decides.
    pub auxiliary: [(u32, u64); 6],
    /// Whether the stack may be executed.
    pub executable: bool,
}

impl Told<'_> {
    /// Checks the sizes before anything is made.
    ///
    /// # Errors
    /// `E2BIG`.
    pub(super) fn check(&self, stack_limit: u64) -> Result<()> {
        let mut bytes = 0u64;
        for string in self.arguments.iter().chain(self.environment) {
            if string.len() >= LONGEST_STRING {
                return Err(Errno::E2BIG);
            }
            // The string, its NUL, and the pointer to it.
            bytes = bytes.saturating_add(string.len() as u64 + 1 + 8);
        }
        let most = (stack_limit / 4).clamp(LONGEST_STRING as u64, MOST_BYTES);
        if bytes > most { Err(Errno::E2BIG) } else { Ok(()) }
    }
}

/// Makes the stack that ends at `top`; gives the stack pointer.
pub(super) fn make(
    space: &mut Space,
    roots: &AddressSpace,
    top: u64,
    told: &Told<'_>,
) -> Result<u64> {
    let strings = Strings::collect(told)?;
    let base = top - 8 - strings.bytes.len() as u64;
    let platform = base - PLATFORM.len() as u64;
    let random = (platform - 16) & !0xf;
    let words = vectors(told, &strings, base, platform, random)?;
    let pointer = (random - size_of_val(&words[..]) as u64) & !0xf;

    let start = (pointer - ROOM_TO_GROW) & !(PAGE - 1);
    let mut rights = Protection::READ | Protection::WRITE;
    rights.set(Protection::EXECUTE, told.executable);
    if !space.regions.is_free(start..top) {
        // The image asks for the place of the stack.
        return Err(Errno::ENOMEM);
    }
    space.regions.insert(start, top, Mapping::anonymous(rights, RegionFlags::GROWS_DOWN));
    space.stack = pointer;
    space.arguments = base..base + strings.arguments_end;
    space.environment = space.arguments.end..base + strings.environment_end;

    space.store(roots, base, &strings.bytes)?;
    space.store(roots, platform, PLATFORM)?;
    space.store(roots, random, [random::seed(), random::seed()].as_bytes())?;
    space.store(roots, pointer, words.as_bytes())?;
    Ok(pointer)
}

/// The strings in their final order, and where each part ends.
struct Strings {
    bytes: Vec<u8>,
    arguments_end: u64,
    environment_end: u64,
}

impl Strings {
    fn collect(told: &Told<'_>) -> Result<Strings> {
        let all = || told.arguments.iter().chain(told.environment).map(Vec::as_slice);
        let length: usize = all().chain([told.path]).map(|string| string.len() + 1).sum();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
        let mut ends = [0, 0];
        for (strings, end) in [told.arguments, told.environment].into_iter().zip(&mut ends) {
            for string in strings {
                bytes.extend_from_slice(string);
                bytes.push(0);
            }
            *end = bytes.len() as u64;
        }
        bytes.extend_from_slice(told.path);
        bytes.push(0);
        Ok(Strings { bytes, arguments_end: ends[0], environment_end: ends[1] })
    }
}

/// The words from the stack pointer on.
fn vectors(
    told: &Told<'_>,
    strings: &Strings,
    base: u64,
    platform: u64,
    random: u64,
) -> Result<Vec<u64>> {
    let auxiliary = auxiliary(told, base + strings.environment_end, platform, random);
    let count = told.arguments.len() + told.environment.len() + 3 + 2 * auxiliary.len();
    let mut words = Vec::new();
    words.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    words.push(told.arguments.len() as u64);
    let mut at = base;
    for strings in [told.arguments, told.environment] {
        for string in strings {
            words.push(at);
            at += string.len() as u64 + 1;
        }
        words.push(0);
    }
    for (kind, value) in auxiliary {
        words.push(u64::from(kind));
        words.push(value);
    }
    Ok(words)
}

fn auxiliary(told: &Told<'_>, path: u64, platform: u64, random: u64) -> [(u32, u64); 21] {
    let [vdso, header, size, count, base, entry] = told.auxiliary;
    let features = core::arch::x86_64::__cpuid(1).edx;
    [
        vdso,
        (aux::AT_MINSIGSTKSZ, least_signal_stack()),
        (aux::AT_HWCAP, u64::from(features)),
        (aux::AT_PAGESZ, PAGE),
        (aux::AT_CLKTCK, 100),
        header,
        size,
        count,
        base,
        (aux::AT_FLAGS, 0),
        entry,
        (aux::AT_UID, 0),
        (aux::AT_EUID, 0),
        (aux::AT_GID, 0),
        (aux::AT_EGID, 0),
        (aux::AT_SECURE, 0),
        (aux::AT_RANDOM, random),
        (aux::AT_HWCAP2, hwcap2()),
        (aux::AT_EXECFN, path),
        (aux::AT_PLATFORM, platform),
        (aux::AT_NULL, 0),
    ]
}

/// Bytes that a signal frame takes at most, wherever the stack ends: the CPU's state and what is around
/// it (see `signal::frame`).
fn least_signal_stack() -> u64 {
    const FRAME: u64 = 440;
    const MAGIC: u64 = 4;
    const PADDING: u64 = 63 + 15 + 8;
    (crate::arch::fpu::size() as u64 + MAGIC + FRAME + PADDING + 1).next_multiple_of(16)
}

/// Bit 1: programs may use WRFSBASE and its kin.
fn hwcap2() -> u64 {
    use x86_64::registers::control::{Cr4, Cr4Flags};
    u64::from(Cr4::read().contains(Cr4Flags::FSGSBASE)) << 1
}

impl Space {
    /// Writes into the program's own pages, whatever its rights there.
    pub(super) fn store(&mut self, roots: &AddressSpace, start: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let address = start + done as u64;
            let offset = (address % PAGE) as usize;
            let part = (PAGE as usize - offset).min(bytes.len() - done);
            let page = self.own(roots, address).map_err(|_| Errno::ENOMEM)?;
            page.write(offset, &bytes[done..done + part]);
            done += part;
        }
        Ok(())
    }
}

/// Where a new program's stack ends, and where its mappings begin, which go down from there.
pub(super) fn places(mm: &Mm) -> (u64, u64) {
    // Linux's: 22 bits of pages for the stack, 28 for the mappings.
    const STACK_SPREAD: u64 = 0x3f_ffff * PAGE;
    const MAP_SPREAD: u64 = 0xfff_ffff * PAGE;
    const LEAST_GAP: u64 = 128 << 20;
    const MOST_GAP: u64 = USER_END / 6 * 5;
    let gap = mm.stack_limit().saturating_add(STACK_SPREAD + STACK_GAP);
    let gap = gap.clamp(LEAST_GAP, MOST_GAP) & !(PAGE - 1);
    (USER_END - spread(STACK_SPREAD), USER_END - gap - spread(MAP_SPREAD))
}
