//! The vDSO: a shared object that every program finds in its memory, by AT_SYSINFO_EHDR.
//!
//! It has Linux's names, and C libraries and tests look them up. Its functions are plain system calls: there
//! is no page with the time in it, so nothing of the kernel is readable through it. To the rest of the
//! kernel it is a file of one page, mapped privately: a debugger may write breakpoints into its own copy.

use super::layout::USER_END;
use super::mapping::{MappedFile, Mapping, Protection, RegionFlags};
use super::page::{PAGE, Page};
use super::space::Space;
use crate::errno::{Errno, Result};
use crate::fs::inode::{Kind, Metadata, Statistics};
use crate::fs::{Inode, Operations};
use crate::sync::Once;
use alloc::sync::Arc;
use linux_raw_sys::general as linux;
use ringwall::AddressSpace;

core::arch::global_asm!(
    include_str!("vdso.s"),
    CLOCK_GETTIME = const linux::__NR_clock_gettime,
    GETTIMEOFDAY = const linux::__NR_gettimeofday,
    TIME = const linux::__NR_time,
    GETCPU = const linux::__NR_getcpu,
    CLOCK_GETRES = const linux::__NR_clock_getres,
);

unsafe extern "C" {
    #[link_name = "vdso_image"]
    static IMAGE: [u8; PAGE as usize];
}

struct Vdso(Page);

/// Made for the first program that has it.
static OBJECT: Once<Arc<MappedFile>> = Once::new();

fn object() -> Result<Arc<MappedFile>> {
    let object = OBJECT.try_call_once(|| {
        let page = Page::zeroed()?;
        // SAFETY: read-only data of this image, one page, as vdso.s lays it out.
        page.write(0, unsafe { &IMAGE });
        Ok(Arc::new(MappedFile {
            inode: Arc::new(Vdso(page)),
            path: b"[vdso]".to_vec(),
            writable: None,
        }))
    });
    object.cloned()
}

impl Inode for Vdso {
    fn page(&self, index: u64) -> Result<Page> {
        if index == 0 { Ok(self.0.clone()) } else { Err(Errno::ENXIO) }
    }

    fn size(&self) -> u64 {
        PAGE
    }

    fn identity(&self) -> (u64, u64) {
        (0, 0)
    }

    fn kind(&self) -> Kind {
        Kind::Regular
    }

    fn metadata(&self) -> Metadata {
        Metadata { size: PAGE, ..Metadata::default() }
    }

    fn open(self: Arc<Self>, _flags: u32) -> Result<Arc<dyn Operations>> {
        Err(Errno::ENXIO)
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

/// Maps it where there is room, above the stack that ends at `top` if it can be; gives its address.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn map(space: &mut Space, roots: &AddressSpace, top: u64) -> Result<u64> {
    let mut mapping =
        Mapping::anonymous(Protection::READ | Protection::EXECUTE, RegionFlags::empty());
    mapping.file = Some(object()?);
    let above = top.next_multiple_of(PAGE)..(top.next_multiple_of(PAGE) + PAGE);
    let at = if above.end <= USER_END && space.regions.is_free(above.clone()) {
        above.start
    } else {
        space.place(0, PAGE, 0)?
    };
    space.replace(roots, at..at + PAGE, mapping)?;
    Ok(at)
}
