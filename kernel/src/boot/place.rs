//! The first Rust code: decides where the kernel will be, and makes the boot root for that.
//!
//! ```text
//!   start.s            place (here)           start.s                        kernel_main
//!   boot root 1   ──►  choose, make      ──►  add the slide to all       ──►  makes the
//!   image as linked    boot root 2            addresses, CR3, jump           kernel's root
//! ```
//!
//! This runs where the image was linked, so every address in it is right before it slides. While it does none is,
//! so that is done by assembly that needs none. Which fields of the image hold addresses is told by a list in its file, which
//! `cargo xtask build` makes of what the linker noted; a file without one does not slide.
//!
//! What the loader handed over is read for the command line alone, and read again by `kernel_main`, which tells
//! what is wrong with it: here nobody could be told where the console is.

use super::info::BootInfo;
use crate::arch::random;
use crate::mm::layout::{self, IMAGE};
use crate::{BOOT_MAPPED, println};
use core::cell::UnsafeCell;
use core::ops::Range;
use ringwall::core::paging::{HUGE, PRESENT, WRITABLE, index};
use ringwall_rules::places::{self, Places};

const LARGE: u64 = 2 << 20;
const SMALL: u64 = 4096;
/// Room for the list of addresses: 4 bytes each.
pub const LIST_BYTES: usize = 128 << 10;
/// Root; the image's two upper tables and three below (4 MiB of image, `link.ld` says); the direct map's two and five.
const TABLES: usize = 1 + 2 + 3 + 2 + 5;

#[repr(C, align(4096))]
struct Tables(UnsafeCell<[[u64; 512]; TABLES]>);

// SAFETY: `place` alone uses them, once, on the boot CPU.
unsafe impl Sync for Tables {}

static POOL: Tables = Tables(UnsafeCell::new([[0; 512]; TABLES]));

unsafe extern "C" {
    static image_text: u8;
    static image_end: u8;
    static image_list: [u32; 2];
}

/// Whether the image can slide: its list begins with an address.
pub fn has_list() -> bool {
    // SAFETY: two words that the linker placed and nobody writes; volatile, for they are zero as linked.
    unsafe { (&raw const image_list).read_volatile() != [0; 2] }
}

/// What `start.s` goes on with: RAX and RDX.
#[repr(C)]
#[derive(Debug)]
pub struct Placed {
    /// Physical address of the root that maps everything where it will be.
    root: u64,
    /// What to add to the image's pointers.
    slide: u64,
}

/// Page tables being made, in a row of them.
struct Maker<'a> {
    tables: &'a mut [[u64; 512]; TABLES],
    used: usize,
}

impl Maker<'_> {
    /// Physical address of a table. The image was not moved yet.
    fn physical(&self, table: usize) -> u64 {
        (&raw const self.tables[table]).addr() as u64 - IMAGE
    }

    /// Maps one page whose size says at which level its entry is: 1 or 2.
    fn map(&mut self, address: u64, leaf: u64, level: u8) {
        let mut table = 0;
        for above in (level + 1..=4).rev() {
            let slot = index(above, address);
            if self.tables[table][slot] == 0 {
                let new = self.used;
                self.used += 1;
                self.tables[table][slot] = self.physical(new) | PRESENT | WRITABLE;
            }
            let first = self.physical(0);
            table = ((self.tables[table][slot] & !(SMALL - 1)) - first) as usize / SMALL as usize;
        }
        self.tables[table][index(level, address)] = leaf;
    }
}

/// The image's addresses as linked.
fn image() -> Range<u64> {
    (&raw const image_text).addr() as u64..(&raw const image_end).addr() as u64
}

/// Says how far the image slid, for whoever reads addresses in what is printed next; nothing if it did not.
pub fn tell_slide() {
    let slide = layout::slide();
    if slide != 0 {
        println!(
            "ringwall: the kernel image is {slide:#x} above where it was linked (modulo 2^64)"
        );
    }
}

/// Chooses. Without a command line there is no kernel either: `kernel_main` ends it, where it was linked.
fn choose(magic: u32, address: u64) -> Places {
    match BootInfo::read(magic, address) {
        Ok(info) if !places::refused(info.command_line()) => {
            let places = Places::choose([(); 3].map(|()| random::seed()), &image());
            let slide = if has_list() { places.slide } else { 0 };
            Places { slide, ..places }
        }
        _ => Places::FIXED,
    }
}

/// Decides where everything goes, and maps it. Called once, by `start.s`, on the first boot root; `identity`: physical
/// address of that root's table that maps the first 4 GiB at 0.
pub extern "sysv64" fn place(magic: u32, address: u64, identity: u64) -> Placed {
    let places = choose(magic, address);
    // SAFETY: called once, and nobody else has it.
    let tables = unsafe { &mut *POOL.0.get() };
    let mut maker = Maker { tables, used: 1 };
    maker.tables[0][0] = identity | PRESENT | WRITABLE;
    for linked in image().step_by(SMALL as usize) {
        let leaf = (linked - IMAGE) | PRESENT | WRITABLE;
        maker.map(linked.wrapping_add(places.slide), leaf, 1);
    }
    for physical in (0..BOOT_MAPPED).step_by(LARGE as usize) {
        maker.map(places.direct_map + physical, physical | PRESENT | WRITABLE | HUGE, 2);
    }
    let root = maker.physical(0);
    // SAFETY: the boot CPU; what was read of the loader's is not used any more.
    unsafe { layout::set(places) };
    Placed { root, slide: places.slide }
}
