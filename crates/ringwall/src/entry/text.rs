//! The assembled entry text as data: its bytes, its points of interest, its tables.
//!
//! Invariant: the template is never executed where it is linked; it is copied into the entry area,
//! and every offset here is relative to its start.

use super::windows::{WINDOWS, Window};
use crate::breaks::Break;
use ringwall_core::area::PAGE_SIZE;
use ringwall_core::hardening::{Hardening, Measure};

/// Bytes of the page that are not code: INT3, so that a stray jump traps.
pub const PADDING: u8 = 0xcc;

/// Offsets of the entry points, as text.s lists them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Points {
    /// One past the last byte of code.
    pub end: u16,
    /// LSTAR.
    pub syscall_entry: u16,
    /// CSTAR.
    pub syscall_compatibility_entry: u16,
    /// IA32_SYSENTER_EIP.
    pub sysenter_entry: u16,
    /// Where a frame on a task stack leaves from.
    pub exit_to_user: u16,
    /// The one IRETQ to ring 3 that may fault.
    pub exit_iretq: u16,
    /// Gate of vector 2.
    pub paranoid_nmi: u16,
    /// Gate of vector 1.
    pub paranoid_debug: u16,
    /// Gate of vector 18.
    pub paranoid_machine_check: u16,
    /// Gate of vector 8.
    pub paranoid_double_fault: u16,
}

/// A range of instructions with a root's physical address in a register under the user root.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Spot {
    /// First instruction with it.
    pub start: u16,
    /// One past the last.
    pub end: u16,
    /// Where to go on instead, with the registers zero.
    pub resume: u16,
    /// Which registers: 0 RSP, 1 RDI, 2 RDI and RSI.
    pub registers: u16,
}

/// What the entry text is to contain beyond the switches: a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u16);

impl Features {
    pub(crate) const CLEAR_AC: u16 = 1 << 0;
    pub(crate) const FENCE_SWAPGS: u16 = 1 << 1;
    pub(crate) const SCRUB: u16 = 1 << 2;
    pub(crate) const CLEAR_REGISTERS: u16 = 1 << 3;
    pub(crate) const CLEAR_BUFFERS: u16 = 1 << 4;
    pub(crate) const IBRS: u16 = 1 << 5;
    pub(crate) const FILL_RSB: u16 = 1 << 6;
    pub(crate) const FSGSBASE: u16 = 1 << 7;
    pub(crate) const NO_FSGSBASE: u16 = 1 << 8;
    pub(crate) const SYSRET_KEEPS_SS: u16 = 1 << 9;
    pub(crate) const COUNT_ENTRIES: u16 = 1 << 10;

    /// `fsgsbase`: CR4.FSGSBASE is set. `sysret_keeps_ss`: SYSRET leaves SS's attributes alone, as AMD's.
    pub fn new(hardening: &Hardening, fsgsbase: bool, sysret_keeps_ss: bool) -> Features {
        let of = |measure| match measure {
            Measure::ClearAc => Features::CLEAR_AC,
            Measure::FenceSwapgs => Features::FENCE_SWAPGS,
            Measure::Scrub => Features::SCRUB,
            Measure::ClearRegisters => Features::CLEAR_REGISTERS,
            Measure::ClearBuffers => Features::CLEAR_BUFFERS,
            Measure::Ibrs => Features::IBRS,
            Measure::FillRsb => Features::FILL_RSB,
            Measure::CountEntries => Features::COUNT_ENTRIES,
        };
        let measures = Measure::ALL.into_iter().filter(|&measure| hardening.is_on(measure));
        let base = if fsgsbase { Features::FSGSBASE } else { Features::NO_FSGSBASE };
        let stack = if sysret_keeps_ss { Features::SYSRET_KEEPS_SS } else { 0 };
        Features(measures.map(of).fold(base | stack, |all, bit| all | bit))
    }

    fn any(self, bits: u16) -> bool {
        self.0 & bits != 0
    }
}

/// Bytes of the template that depend on [`Features`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Patch {
    features: u16,
    start: u16,
    end: u16,
    /// 0: the bytes are there only with one of the features. Else: with one of them, they are a jump to here.
    target: u16,
}

impl Patch {
    fn apply(&self, page: &mut [u8; PAGE_SIZE as usize], features: Features) {
        let bytes = &mut page[usize::from(self.start)..usize::from(self.end)];
        match (self.target, features.any(self.features)) {
            (0, true) | (1.., false) => {}
            (0, false) => fill_with_nothing(bytes),
            (target, true) => write_jump(bytes, i32::from(target) - i32::from(self.start)),
        }
    }
}

/// Bytes of the template that depend on the [deliberate break](crate::breaks) that is on. Without the feature `breaks`
/// there are none.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Breakable {
    /// The number of a [`Break`].
    number: u16,
    /// 1: the bytes are there if that is on. 0: if it is not.
    wanted: u16,
    start: u16,
    end: u16,
}

impl Breakable {
    fn apply(&self, page: &mut [u8; PAGE_SIZE as usize]) {
        if Break::number_is_on(self.number) != (self.wanted != 0) {
            fill_with_nothing(&mut page[usize::from(self.start)..usize::from(self.end)]);
        }
    }
}

/// As few instructions as possible that do nothing (SDM vol. 2, NOP, table 4-12; JMP).
fn fill_with_nothing(bytes: &mut [u8]) {
    const NOPS: [&[u8]; 10] = [
        &[],
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
        &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ];
    match NOPS.get(bytes.len()) {
        Some(nop) => bytes.copy_from_slice(nop),
        None => {
            let distance = u8::try_from(bytes.len() - 2).ok().filter(|distance| *distance < 128);
            bytes.fill(PADDING);
            bytes[0] = 0xeb;
            bytes[1] = distance.expect("a block that a short jump can skip");
        }
    }
}

/// JMP rel32, `distance` from its own start.
fn write_jump(bytes: &mut [u8], distance: i32) {
    const JUMP_BYTES: usize = 5;
    bytes.fill(PADDING);
    bytes[0] = 0xe9;
    bytes[1..JUMP_BYTES].copy_from_slice(&(distance - JUMP_BYTES as i32).to_le_bytes());
}

/// The forms of the entry text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Without isolation: no switch instruction at all.
    Plain,
    /// With isolation; each switch flushes what is not global.
    Isolated,
    /// With isolation and CR4.PCIDE.
    Pcid,
    /// Without a switch, for processes that run under the kernel root of a kernel that has isolation.
    Open,
}

impl Variant {
    /// All of them.
    pub const ALL: [Variant; 4] = [Variant::Plain, Variant::Isolated, Variant::Pcid, Variant::Open];
}

/// One variant of the entry text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    bytes: &'static [u8],
    points: &'static Points,
    stubs: &'static [u16],
    windows: &'static [[u16; 2]],
    spots: &'static [Spot],
    patches: &'static [Patch],
    breaks: &'static [Breakable],
}

macro_rules! variant {
    ($text:ident $points:ident $stubs:ident $stubs_end:ident $windows:ident $windows_end:ident
     $spots:ident $spots_end:ident $patches:ident $patches_end:ident $breaks:ident $breaks_end:ident) => {{
        unsafe extern "C" {
            static $text: [u8; PAGE_SIZE as usize];
            static $points: Points;
            static $stubs: [u16; 0];
            static $stubs_end: [u16; 0];
            static $windows: [[u16; 2]; 0];
            static $windows_end: [[u16; 2]; 0];
            static $spots: [Spot; 0];
            static $spots_end: [Spot; 0];
            static $patches: [Patch; 0];
            static $patches_end: [Patch; 0];
            static $breaks: [Breakable; 0];
            static $breaks_end: [Breakable; 0];
        }
        // SAFETY: text.s defines the symbols: a page of bytes that nothing writes.
        let bytes = unsafe { &$text };
        // SAFETY: text.s lists the fields of `Points` in this order, aligned to 8.
        let points = unsafe { &$points };
        Text {
            bytes,
            points,
            // SAFETY: both symbols bound one table of 16-bit words, aligned to 8.
            stubs: unsafe { table(&raw const $stubs, &raw const $stubs_end) },
            // SAFETY: both symbols bound one table of pairs of 16-bit words.
            windows: unsafe { table(&raw const $windows, &raw const $windows_end) },
            // SAFETY: both symbols bound one table of four 16-bit words a row.
            spots: unsafe { table(&raw const $spots, &raw const $spots_end) },
            // SAFETY: both symbols bound one table of four 16-bit words a row.
            patches: unsafe { table(&raw const $patches, &raw const $patches_end) },
            // SAFETY: both symbols bound one table of four 16-bit words a row.
            breaks: unsafe { table(&raw const $breaks, &raw const $breaks_end) },
        }
    }};
}

/// # Safety
/// `start..end` is one aligned array of `T` that nothing writes.
unsafe fn table<T>(start: *const [T; 0], end: *const [T; 0]) -> &'static [T] {
    let count = (end.addr() - start.addr()) / size_of::<T>();
    // SAFETY: by this function's contract.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

impl Text {
    /// The text in one of its forms.
    pub fn new(variant: Variant) -> Text {
        match variant {
            Variant::Plain => variant!(ringwall_text_plain ringwall_points_plain
                ringwall_stubs_plain ringwall_stubs_end_plain
                ringwall_windows_plain ringwall_windows_end_plain
                ringwall_spots_plain ringwall_spots_end_plain
                ringwall_patches_plain ringwall_patches_end_plain
                ringwall_breaks_plain ringwall_breaks_end_plain),
            Variant::Isolated => variant!(ringwall_text_isolated ringwall_points_isolated
                ringwall_stubs_isolated ringwall_stubs_end_isolated
                ringwall_windows_isolated ringwall_windows_end_isolated
                ringwall_spots_isolated ringwall_spots_end_isolated
                ringwall_patches_isolated ringwall_patches_end_isolated
                ringwall_breaks_isolated ringwall_breaks_end_isolated),
            Variant::Pcid => variant!(ringwall_text_pcid ringwall_points_pcid
                ringwall_stubs_pcid ringwall_stubs_end_pcid
                ringwall_windows_pcid ringwall_windows_end_pcid
                ringwall_spots_pcid ringwall_spots_end_pcid
                ringwall_patches_pcid ringwall_patches_end_pcid
                ringwall_breaks_pcid ringwall_breaks_end_pcid),
            Variant::Open => variant!(ringwall_text_open ringwall_points_open
                ringwall_stubs_open ringwall_stubs_end_open
                ringwall_windows_open ringwall_windows_end_open
                ringwall_spots_open ringwall_spots_end_open
                ringwall_patches_open ringwall_patches_end_open
                ringwall_breaks_open ringwall_breaks_end_open),
        }
    }

    /// Offsets of the entry points.
    pub fn points(&self) -> &'static Points {
        self.points
    }

    /// Offset of the gate of `vector`, its paranoid entry if it has one.
    pub fn gate(&self, vector: u8) -> u16 {
        match vector {
            1 => self.points.paranoid_debug,
            2 => self.points.paranoid_nmi,
            8 => self.points.paranoid_double_fault,
            18 => self.points.paranoid_machine_check,
            _ => self.stubs[usize::from(vector)],
        }
    }

    /// The windows with their offsets.
    pub fn windows(&self) -> impl Iterator<Item = (core::ops::Range<u16>, &'static Window)> {
        self.windows.iter().zip(&WINDOWS).map(|(&[start, end], window)| (start..end, window))
    }

    /// The spot that `offset` is in, if any.
    pub fn spot(&self, offset: u64) -> Option<&'static Spot> {
        let inside = |spot: &&Spot| (u64::from(spot.start)..u64::from(spot.end)).contains(&offset);
        self.spots.iter().find(inside)
    }

    /// Bytes of code.
    pub fn size(&self) -> usize {
        usize::from(self.points.end)
    }

    /// Fills `page` with the kernel view: all of the text.
    pub fn write_kernel_view(&self, page: &mut [u8; PAGE_SIZE as usize], features: Features) {
        page.copy_from_slice(self.bytes);
        for patch in self.patches {
            patch.apply(page, features);
        }
        for breakable in self.breaks {
            breakable.apply(page);
        }
    }

    /// Fills `page` with the user view: of `kernel_view` the windows, and INT3 everywhere else.
    pub fn write_user_view(
        &self,
        page: &mut [u8; PAGE_SIZE as usize],
        kernel_view: &[u8; PAGE_SIZE as usize],
    ) {
        page.fill(PADDING);
        for &[start, end] in self.windows {
            let window = usize::from(start)..usize::from(end);
            page[window.clone()].copy_from_slice(&kernel_view[window]);
        }
    }
}
