//! FPU, SSE and AVX state of threads. The kernel itself uses none of it.
//!
//! Invariant: while a thread runs, its state is in the registers; while it does not, it is in its
//! [`FpuState`]. A program's own XSAVE area ([`user`]) is loaded by an XRSTOR that may fault, and never by one
//! that may not.
//!
//! SDM vol. 1, 13.4 (layout), 13.7 and 13.8 (XSAVE, XRSTOR); the software bytes are Linux's
//! `_fpx_sw_bytes`.

mod user;

use crate::errno::{Errno, Result};
use crate::sync::Once;
use alloc::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use core::ptr::NonNull;
use raw_cpuid::CpuId;
use x86_64::registers::xcontrol::XCr0;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use user::{fixup, load_from_user, save_to_user};

/// Offset of the XSAVE header. It begins with XSTATE_BV, the components that are there.
const HEADER: usize = 512;
/// XSAVE header's bytes.
const HEADER_BYTES: usize = 64;
/// Components that FXSAVE has too: x87 and SSE.
const LEGACY: u64 = 3;
/// Offset of MXCSR.
const MXCSR: usize = 24;
/// MXCSR of a new program: all exceptions masked.
const MXCSR_INITIAL: u32 = 0x1f80;
/// Offset of the bytes that the CPU leaves to software.
const SOFTWARE_BYTES: usize = 464;
/// Reserved bytes before them.
const SPARE_BYTES: usize = 48;
/// FP_XSTATE_MAGIC1.
const MAGIC_1: u32 = 0x4650_5853;

/// Component 9: PKRU, the rights of protection keys.
const KEYS: u32 = 9;
/// PKRU of a new program, as on Linux: no access but by key 0, which all its pages have.
const KEYS_INITIAL: u32 = 0x5555_5554;

struct Shape {
    size: usize,
    components: u64,
    /// Offset of PKRU, if it is enabled.
    keys: Option<usize>,
}

static SHAPE: Once<Shape> = Once::new();

fn shape() -> &'static Shape {
    SHAPE.call_once(|| {
        let leaf = CpuId::new().get_extended_state_info();
        let size = leaf.map_or(576, |leaf| leaf.xsave_area_size_enabled_features() as usize);
        let components = XCr0::read_raw();
        let keys = (components >> KEYS & 1 != 0)
            .then(|| core::arch::x86_64::__cpuid_count(0xd, KEYS).ebx as usize);
        Shape { size, components, keys }
    })
}

/// Size of the XSAVE area in bytes, all enabled components.
pub fn size() -> usize {
    shape().size
}

/// Enabled components (XCR0).
pub fn components() -> u64 {
    shape().components
}

/// A thread's saved state, as XSAVE lays it out.
pub struct FpuState(NonNull<u8>);

// SAFETY: the area is owned, and used by whoever has the `FpuState` alone.
unsafe impl Send for FpuState {}
// SAFETY: shared references only load from it.
unsafe impl Sync for FpuState {}

fn layout() -> Layout {
    Layout::from_size_align(size(), 64).expect("CPUID gives a small size")
}

impl FpuState {
    /// The state a new program starts with.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn initial() -> Result<FpuState> {
        // SAFETY: the size is not 0.
        let area = NonNull::new(unsafe { alloc_zeroed(layout()) }).ok_or(Errno::ENOMEM)?;
        // SAFETY: inside the area. XRSTOR loads MXCSR from memory even for components in their
        // initial state.
        unsafe { area.add(MXCSR).cast::<u32>().write(MXCSR_INITIAL) };
        if let Some(offset) = shape().keys {
            // SAFETY: CPUID's offset, inside the area and aligned.
            unsafe { area.add(offset).cast::<u32>().write(KEYS_INITIAL) };
            // SAFETY: as above. PKRU's initial value is not the CPU's, so it counts as there.
            unsafe { area.add(HEADER).cast::<u64>().write(1 << KEYS) };
        }
        Ok(FpuState(area))
    }

    /// A copy of the CPU's present state (fork, clone).
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn copy_current() -> Result<FpuState> {
        // SAFETY: the size is not 0.
        let area = NonNull::new(unsafe { alloc(layout()) }).ok_or(Errno::ENOMEM)?;
        // SAFETY: inside the area. XSAVE writes only one word of the header, and XRSTOR refuses
        // others that are not zero.
        unsafe { area.add(HEADER).write_bytes(0, 64) };
        let mut state = FpuState(area);
        state.save();
        Ok(state)
    }

    /// Saves the CPU's state here.
    #[inline]
    pub fn save(&mut self) {
        // SAFETY: the area is 64-aligned and of the size that CPUID gives for XCR0.
        unsafe {
            core::arch::asm!(
                "xsave64 [{area}]",
                area = in(reg) self.0.as_ptr(),
                in("eax") u32::MAX,
                in("edx") u32::MAX,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Loads the CPU's state from here.
    #[inline]
    pub fn load(&self) {
        self.load_part(u64::MAX);
    }

    /// Loads some components from here.
    #[inline]
    fn load_part(&self, components: u64) {
        // SAFETY: the area was written by XSAVE, or is all zeros but for a valid MXCSR.
        unsafe {
            core::arch::asm!(
                "xrstor64 [{area}]",
                area = in(reg) self.0.as_ptr(),
                in("eax") components as u32,
                in("edx") (components >> 32) as u32,
                options(nostack, preserves_flags, readonly),
            );
        }
    }
}

/// What a tracer reads and writes. The state is not loaded anywhere.
impl FpuState {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the area has that size, is owned, and all of it has been written.
        unsafe { core::slice::from_raw_parts(self.0.as_ptr(), size()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`.
        unsafe { core::slice::from_raw_parts_mut(self.0.as_ptr(), size()) }
    }

    fn word(bytes: &[u8], at: usize) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    }

    /// Refuses bits of MXCSR that the CPU does not have: XRSTOR would fault on them.
    fn check_mxcsr(&self, image: &[u8]) -> Result<()> {
        /// MXCSR_MASK where FXSAVE writes 0 for it (SDM vol. 1, 11.6.6).
        const OLDEST: u64 = 0xffbf;
        let valid = match FpuState::word(self.bytes(), MXCSR) >> 32 {
            0 => OLDEST,
            mask => mask,
        };
        let wanted = FpuState::word(image, MXCSR) & 0xffff_ffff;
        if wanted & !valid == 0 { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// FXSAVE's image.
    pub fn read_legacy(&self, image: &mut [u8; HEADER]) {
        image[..SOFTWARE_BYTES - SPARE_BYTES]
            .copy_from_slice(&self.bytes()[..SOFTWARE_BYTES - SPARE_BYTES]);
    }

    /// Takes FXSAVE's image.
    ///
    /// # Errors
    /// `EINVAL` for an MXCSR that there is not.
    pub fn write_legacy(&mut self, image: &[u8; HEADER]) -> Result<()> {
        self.check_mxcsr(image)?;
        let present = FpuState::word(self.bytes(), HEADER) | LEGACY;
        let area = self.bytes_mut();
        let mask: [u8; 4] = [area[28], area[29], area[30], area[31]];
        area[..HEADER].copy_from_slice(image);
        area[28..32].copy_from_slice(&mask);
        area[HEADER..HEADER + 8].copy_from_slice(&present.to_le_bytes());
        Ok(())
    }

    /// XSAVE's image; `image` has its size.
    pub fn read_extended(&self, image: &mut [u8]) {
        image.copy_from_slice(self.bytes());
        image[SOFTWARE_BYTES - SPARE_BYTES..HEADER].fill(0);
        image[SOFTWARE_BYTES..HEADER].copy_from_slice(SoftwareBytes::whole().as_bytes());
    }

    /// Takes XSAVE's image, which has its size.
    ///
    /// # Errors
    /// `EINVAL` for a header or an MXCSR that the CPU would refuse.
    pub fn write_extended(&mut self, image: &[u8]) -> Result<()> {
        let present = FpuState::word(image, HEADER);
        let rest = &image[HEADER + 8..HEADER + HEADER_BYTES];
        if present & !components() != 0 || rest.iter().any(|byte| *byte != 0) {
            return Err(Errno::EINVAL);
        }
        self.check_mxcsr(image)?;
        let area = self.bytes_mut();
        let mask: [u8; 4] = [area[28], area[29], area[30], area[31]];
        area.copy_from_slice(image);
        area[28..32].copy_from_slice(&mask);
        Ok(())
    }
}

impl Drop for FpuState {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and owned.
        unsafe { dealloc(self.0.as_ptr(), layout()) };
    }
}

/// Linux's `_fpx_sw_bytes`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct SoftwareBytes {
    magic: u32,
    extended_size: u32,
    components: u64,
    size: u32,
    padding: [u32; 7],
}

impl SoftwareBytes {
    /// Of an area with all components.
    fn whole() -> SoftwareBytes {
        SoftwareBytes {
            magic: MAGIC_1,
            extended_size: size() as u32 + 4,
            components: components(),
            size: size() as u32,
            padding: [0; 7],
        }
    }
}

const _: () = assert!(SOFTWARE_BYTES + size_of::<SoftwareBytes>() == HEADER, "they are neighbours");

/// Loads the state a new program starts with.
pub fn load_initial() {
    // The first program's start made it, so this cannot fail.
    if let Ok(state) = initial_state() {
        state.load();
    }
}

fn initial_state() -> Result<&'static FpuState> {
    static INITIAL: Once<FpuState> = Once::new();
    INITIAL.try_call_once(FpuState::initial)
}
