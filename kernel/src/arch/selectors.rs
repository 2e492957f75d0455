//! DS, ES, FS and GS of programs. The entry code leaves them alone, and 64-bit kernel code does not
//! use what they name: so they are a thread's like its other registers.
//!
//! Invariant: what is loaded here was loaded by a program before, or is 0. The GDT never changes, so
//! loading it again cannot fault.

use core::arch::asm;

/// Whether ring 3's 64-bit code can have `selector` in SS: it names a present, writable data segment of
/// ring 3 (SDM vol. 2, LAR).
pub fn is_user_stack(selector: u16) -> bool {
    const WRITABLE: u32 = 1 << 9;
    const CODE: u32 = 1 << 11;
    const NOT_SYSTEM: u32 = 1 << 12;
    const RING_3: u32 = 3 << 13;
    const PRESENT: u32 = 1 << 15;
    let mut rights = 0u32;
    // SAFETY: LAR only reads the descriptor tables; without a descriptor it leaves the register alone.
    unsafe {
        asm!(
            "lar {0:e}, {1:e}",
            inout(reg) rights, in(reg) u32::from(selector),
            options(nostack, readonly),
        );
    }
    rights & (PRESENT | RING_3 | NOT_SYSTEM | CODE | WRITABLE)
        == PRESENT | RING_3 | NOT_SYSTEM | WRITABLE
}

/// The four selectors.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Selectors {
    data: u16,
    extra: u16,
    fs: u16,
    gs: u16,
}

impl Selectors {
    /// What the CPU has now.
    #[inline(always)]
    pub fn present() -> Selectors {
        let (data, extra, fs, gs): (u32, u32, u32, u32);
        // SAFETY: reading selectors changes nothing.
        unsafe {
            asm!(
                "mov {0:e}, ds",
                "mov {1:e}, es",
                "mov {2:e}, fs",
                "mov {3:e}, gs",
                out(reg) data, out(reg) extra, out(reg) fs, out(reg) gs,
                options(nomem, nostack, preserves_flags),
            );
        }
        Selectors { data: data as u16, extra: extra as u16, fs: fs as u16, gs: gs as u16 }
    }

    /// Loads them, if that is to change or set anything: programs hardly ever have others than 0. The
    /// user's FS and GS bases then are undefined.
    #[inline(always)]
    pub fn load(self) {
        let present = Selectors::present();
        if present != Selectors::default() || self != Selectors::default() {
            self.load_all();
        }
    }

    /// Whether FS names a descriptor, so that its base was that one's when it was loaded.
    pub fn has_fs(self) -> bool {
        self.fs != 0
    }

    /// [`Selectors::has_fs`] for GS.
    pub fn has_gs(self) -> bool {
        self.gs != 0
    }

    /// These without FS.
    pub fn without_fs(self) -> Selectors {
        Selectors { fs: 0, ..self }
    }

    /// These without GS.
    pub fn without_gs(self) -> Selectors {
        Selectors { gs: 0, ..self }
    }

    #[cold]
    #[inline(never)]
    fn load_all(self) {
        // SAFETY: the selectors are 0 or name a descriptor of ring 3's (the module's invariant), and
        // the kernel uses none of the three.
        unsafe {
            asm!(
                "mov ds, {0:e}",
                "mov es, {1:e}",
                "mov fs, {2:e}",
                in(reg) u32::from(self.data), in(reg) u32::from(self.extra),
                in(reg) u32::from(self.fs),
                options(nostack, preserves_flags),
            );
        }
        // Loading GS sets the base that is in use: that has to be the user's meanwhile.
        // SAFETY: as above; interrupts are off in the kernel, and the vectors that come nevertheless
        // look at the base itself.
        unsafe {
            asm!(
                "swapgs",
                "mov gs, {0:e}",
                "swapgs",
                in(reg) u32::from(self.gs),
                options(nostack, preserves_flags),
            );
        }
    }
}
