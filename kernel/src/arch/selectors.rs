//! DS, ES, FS and GS of programs. The entry code leaves them alone, and 64-bit kernel code does not
//! use what they name: so they are a thread's like its other registers.
//!
//! Invariant: what is loaded here can be loaded: a program loaded it before, but its descriptor may be
//! gone. So each is asked about first (LAR), and nothing is loaded for one that would fault, as on Linux.
//! The answer holds: this CPU's LDTR and GDT change only by its own doing, and a mapped LDT never does.

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

    /// DS, ES, FS, GS.
    pub fn values(self) -> [u16; 4] {
        [self.data, self.extra, self.fs, self.gs]
    }

    /// Changes one of them, by its place in [`Selectors::values`]. Nothing is loaded that cannot be.
    pub fn set(&mut self, place: usize, value: u16) {
        match place {
            0 => self.data = value,
            1 => self.extra = value,
            2 => self.fs = value,
            _ => self.gs = value,
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

    /// Loads DS and ES anew if they name segments of the LDT, which has changed. FS and GS keep what they
    /// have until the next switch, as on Linux.
    pub fn refresh_data() {
        let of_ldt = |selector| selector & TABLE_INDICATOR != 0;
        let present = Selectors::present();
        if of_ldt(present.data) || of_ldt(present.extra) {
            // SAFETY: what `loadable` gives can be loaded; the kernel uses neither.
            unsafe {
                asm!(
                    "mov ds, {0:e}",
                    "mov es, {1:e}",
                    in(reg) loadable(present.data), in(reg) loadable(present.extra),
                    options(nostack, preserves_flags),
                );
            }
        }
    }

    /// Loads those anew that `which` says, as a program would: FS and GS get their descriptors' bases.
    pub fn reload_where(which: impl Fn(u16) -> bool) {
        let Selectors { data, extra, fs, gs } = Selectors::present();
        if which(data) || which(extra) {
            // SAFETY: as in `refresh_data`.
            unsafe {
                asm!(
                    "mov ds, {0:e}",
                    "mov es, {1:e}",
                    in(reg) loadable(data), in(reg) loadable(extra),
                    options(nostack, preserves_flags),
                );
            }
        }
        if which(fs) {
            // SAFETY: as above.
            unsafe {
                asm!("mov fs, {:e}", in(reg) loadable(fs), options(nostack, preserves_flags));
            }
        }
        if which(gs) {
            load_gs(gs);
        }
    }

    #[cold]
    #[inline(never)]
    fn load_all(self) {
        // SAFETY: what `loadable` gives can be loaded, and the kernel uses none of the three.
        unsafe {
            asm!(
                "mov ds, {0:e}",
                "mov es, {1:e}",
                "mov fs, {2:e}",
                in(reg) loadable(self.data), in(reg) loadable(self.extra),
                in(reg) loadable(self.fs),
                options(nostack, preserves_flags),
            );
        }
        load_gs(self.gs);
    }
}

fn load_gs(selector: u16) {
    // Loading GS sets the base that is in use: that has to be the user's meanwhile.
    // SAFETY: what `loadable` gives can be loaded; interrupts are off in the kernel, and the vectors that
    // come nevertheless look at the base itself.
    unsafe {
        asm!(
            "swapgs",
            "mov gs, {0:e}",
            "swapgs",
            in(reg) loadable(selector),
            options(nostack, preserves_flags),
        );
    }
}

/// In a selector: it names an entry of the LDT, not of the GDT.
const TABLE_INDICATOR: u16 = 1 << 2;

/// `selector`, if ring 0 can load it into DS, ES, FS or GS now; else 0, which it always can. (SDM vol. 2,
/// LAR, and MOV to a segment register.)
fn loadable(selector: u16) -> u32 {
    const READABLE: u32 = 1 << 9;
    const CODE: u32 = 1 << 11;
    const NOT_SYSTEM: u32 = 1 << 12;
    const PRESENT: u32 = 1 << 15;
    const NULL: u32 = 3;
    let selector = u32::from(selector);
    let mut rights = 0u32;
    // SAFETY: LAR reads the descriptor tables and faults on nothing; it leaves the register alone if there is
    // no such descriptor, or none for this privilege.
    unsafe {
        asm!(
            "lar {0:e}, {1:e}", inout(reg) rights, in(reg) selector,
            options(nostack, readonly),
        );
    }
    let usable = rights & (PRESENT | NOT_SYSTEM) == PRESENT | NOT_SYSTEM
        && (rights & CODE == 0 || rights & READABLE != 0);
    if selector <= NULL || usable { selector } else { 0 }
}
