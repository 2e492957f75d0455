//! XSAVE areas in a program's memory: signal frames.
//!
//! Invariant: whatever a program has put there, the worst that comes of it is `EFAULT` and initial state.
//!
//! SDM vol. 1, 13.7 and 13.8; Linux's software bytes, which say what an area is.

use super::{
    HEADER, HEADER_BYTES, LEGACY, MAGIC_1, SOFTWARE_BYTES, SoftwareBytes, components,
    initial_state, load_initial, size,
};
use crate::arch::smap::UserAccess;
use crate::errno::{Errno, Result};
use crate::user;
use zerocopy::{Immutable, IntoBytes};

/// FP_XSTATE_MAGIC2, right behind the area.
const MAGIC_2: u32 = 0x4650_5845;

/// The software bytes and the header, which follows them.
#[derive(Clone, Copy, IntoBytes, Immutable)]
#[repr(C)]
struct SoftwareAndHeader {
    software: SoftwareBytes,
    header: [u8; HEADER_BYTES],
}

core::arch::global_asm!(
    // rdi = area, rsi: 0 XSAVE64, 1 XRSTOR64, 2 FXRSTOR64; rdx = components. Gives 0 in rax, or 1 if it
    // faulted.
    ".pushsection .text.fpu_user, \"ax\"",
    "fpu_user:",
    "    mov eax, edx",
    "    shr rdx, 32",
    "    cmp esi, 1",
    "    je 2f",
    "    ja 3f",
    "fpu_user_start:",
    "    xsave64 [rdi]",
    "    xor eax, eax",
    "    ret",
    "2:  xrstor64 [rdi]",
    "    xor eax, eax",
    "    ret",
    "3:  fxrstor64 [rdi]",
    "fpu_user_end:",
    "    xor eax, eax",
    "    ret",
    "fpu_user_fixup:",
    "    mov eax, 1",
    "    ret",
    ".popsection",
);

unsafe extern "C" {
    safe static fpu_user_start: u8;
    safe static fpu_user_end: u8;
    safe static fpu_user_fixup: u8;
    fn fpu_user(area: u64, operation: u64, components: u64) -> u64;
}

#[derive(Clone, Copy)]
#[repr(u64)]
enum Operation {
    Xsave = 0,
    Xrstor = 1,
    Fxrstor = 2,
}

/// Where to go on if an access to a program's area at `rip` faulted.
pub fn fixup(rip: u64) -> Option<u64> {
    let start = (&raw const fpu_user_start).addr() as u64;
    let end = (&raw const fpu_user_end).addr() as u64;
    (start..end).contains(&rip).then(|| (&raw const fpu_user_fixup).addr() as u64)
}

/// Runs one of the instructions on user memory. An address that is not aligned as the instruction wants
/// it, a header and reserved bits that it refuses: all that is the CPU's to find.
fn on_user_memory(operation: Operation, address: u64, components: u64) -> Result<()> {
    let _access = UserAccess::begin();
    // SAFETY: the callers checked that the range is user memory; access is on, and a fault ends at the
    // fixup.
    match unsafe { fpu_user(address, operation as u64, components) } {
        0 => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// Checks that the area at `address`, with the magic number behind it, could be a program's.
fn check_range(address: u64) -> Result<()> {
    if user::is_user_range(address, size() as u64 + 4) { Ok(()) } else { Err(Errno::EFAULT) }
}

/// XSAVEs the CPU's state to user memory (64-aligned) and fills Linux's software bytes
/// (FP_XSTATE_MAGIC1, size, components, FP_XSTATE_MAGIC2 behind), for a signal frame.
///
/// # Errors
/// `EFAULT`.
pub fn save_to_user(address: u64) -> Result<()> {
    check_range(address)?;
    let header = address + HEADER as u64;
    // XSAVE leaves the software bytes alone, and all of the header behind XSTATE_BV.
    let before = SoftwareAndHeader { software: SoftwareBytes::whole(), header: [0; HEADER_BYTES] };
    user::write(address + SOFTWARE_BYTES as u64, &before)?;
    on_user_memory(Operation::Xsave, address, u64::MAX)?;
    user::write(address + size() as u64, &MAGIC_2)?;
    // A handler that changes x87 and SSE state where FXSAVE has it need not know of the header.
    let present: u32 = user::read(header)?;
    match present | LEGACY as u32 {
        all if all == present => Ok(()),
        all => user::write(header, &all),
    }
}

/// Loads from user memory as sigreturn does. Without Linux's magic numbers, or with sizes that do not go
/// together, the area is taken for FXSAVE's. Components that the area does not have become initial.
///
/// # Errors
/// `EFAULT`: the area cannot be read, or the CPU refuses it. All state is then initial.
pub fn load_from_user(address: u64) -> Result<()> {
    let outcome = try_load(address);
    if outcome.is_err() {
        load_initial();
    }
    outcome
}

fn try_load(address: u64) -> Result<()> {
    check_range(address)?;
    let software: SoftwareBytes = user::read(address + SOFTWARE_BYTES as u64)?;
    let whole = software.magic == MAGIC_1
        && software.size as usize >= HEADER + HEADER_BYTES
        && software.size as usize <= size()
        && software.size <= software.extended_size
        && user::read::<u32>(address + u64::from(software.size))? == MAGIC_2;
    let (operation, wanted) = match whole {
        true => (Operation::Xrstor, software.components & components()),
        false => (Operation::Fxrstor, LEGACY),
    };
    let missing = components() & !wanted;
    if missing != 0 {
        // First, because with AVX the standard form loads MXCSR too (SDM vol. 1, 13.8.1).
        initial_state()?.load_part(missing);
    }
    on_user_memory(operation, address, wanted)
}
