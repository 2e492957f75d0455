//! The exposed set: every page of the entry area, what each view shows of it, and why.
//!
//! Page tables, checks and documentation are made from [`EXPOSED`]; a page that is not a row of it is
//! not in a user root. (Ranges that a kernel shares on purpose are in [`crate::shared`].)
//!
//! ```text
//!   user view        RX  RO  --  --  RO  RW  --  --          8 KiB shared, 8 KiB per CPU
//!                    │   │           │   │
//!   page           text IDT open open GDT stack alias data
//!                    │   │  text IDT │   │     │    │
//!   kernel view      RX  RO  RX  RO  RO  RW    RW   RW
//!                  split               split
//! ```
//!
//! Invariants: no entry made here has [`USER`](paging::USER); none is writable and executable; a
//! page that is not the same in both views is never [`GLOBAL`](paging::GLOBAL), because a global
//! translation survives the write to CR3 and would show one side's page to the other; accessed and
//! dirty bits are preset, so no walk ever writes to these tables.
//!
//! Intel SDM vol. 3, 4.6 (access rights), 4.8 (accessed and dirty), 4.10.2.4 (global pages).

use crate::area::{CpuArea, EntryArea, PAGE_SIZE, Page};
use crate::paging;

/// How often a page exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Once.
    Shared,
    /// Once for each CPU.
    PerCpu,
}

/// What a supervisor access may do in a view. Ring 3 itself may do nothing, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Not mapped.
    Absent,
    /// Read.
    ReadOnly,
    /// Read and fetch.
    ReadExecute,
    /// Read and write.
    ReadWrite,
}

/// Which root's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// What the user root shows.
    User,
    /// What the kernel root shows.
    Kernel,
}

/// One row: a page of the entry area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// Which page.
    pub page: Page,
    /// What it is called.
    pub name: &'static str,
    /// Why it is there, and why the user view shows it if it does.
    pub why: &'static str,
    /// Once, or for each CPU.
    pub scope: Scope,
    /// Under the user root.
    pub user: Access,
    /// Under the kernel root.
    pub kernel: Access,
    /// Whether the two views show two physical pages.
    pub split: bool,
}

/// Every page of the entry area, those that exist once before those of each CPU.
pub static EXPOSED: [Exposed; 8] = [
    Exposed {
        page: Page::Text,
        name: Page::Text.name(),
        why: "every way in is fetched from here until CR3 is written, and every way out after it",
        scope: Scope::Shared,
        user: Access::ReadExecute,
        kernel: Access::ReadExecute,
        split: true,
    },
    Exposed {
        page: Page::Idt,
        name: Page::Idt.name(),
        why: "the CPU reads a gate under the root that it was interrupted in",
        scope: Scope::Shared,
        user: Access::ReadOnly,
        kernel: Access::ReadOnly,
        split: false,
    },
    Exposed {
        page: Page::OpenText,
        name: Page::OpenText.name(),
        why: "a process whose isolation is switched off enters and leaves through it, under its kernel root",
        scope: Scope::Shared,
        user: Access::Absent,
        kernel: Access::ReadExecute,
        split: false,
    },
    Exposed {
        page: Page::OpenIdt,
        name: Page::OpenIdt.name(),
        why: "while such a process runs, gates have to lead to the open text",
        scope: Scope::Shared,
        user: Access::Absent,
        kernel: Access::ReadOnly,
        split: false,
    },
    Exposed {
        page: Page::Gdt,
        name: Page::Gdt.name(),
        why: "the CPU reads segments and stack pointers under the root that it was interrupted in",
        scope: Scope::PerCpu,
        user: Access::ReadOnly,
        kernel: Access::ReadOnly,
        split: false,
    },
    Exposed {
        page: Page::Stack,
        name: Page::Stack.name(),
        why: "the CPU pushes the interrupted frame before any instruction can write CR3",
        scope: Scope::PerCpu,
        user: Access::ReadWrite,
        kernel: Access::ReadWrite,
        split: true,
    },
    Exposed {
        page: Page::Alias,
        name: Page::Alias.name(),
        why: "the kernel fetches from it what the CPU pushed in the user view",
        scope: Scope::PerCpu,
        user: Access::Absent,
        kernel: Access::ReadWrite,
        split: false,
    },
    Exposed {
        page: Page::Data,
        name: Page::Data.name(),
        why: "the task stack's top and the CR3 to leave with, in reach of the GS base",
        scope: Scope::PerCpu,
        user: Access::Absent,
        kernel: Access::ReadWrite,
        split: false,
    },
];

/// The bits of a 4 KiB leaf entry that grants `access`, to be combined with the physical address.
/// `None` for [`Access::Absent`]: the entry is zero.
///
/// Accessed is preset, and dirty where the page is writable (dirty alone would make it a shadow
/// stack). Never global: [`Exposed::flags`] adds that where it is safe. Never user.
#[must_use]
pub const fn entry_flags(access: Access) -> Option<u64> {
    use paging::{ACCESSED, DIRTY, NO_EXECUTE, PRESENT, WRITABLE};
    match access {
        Access::Absent => None,
        Access::ReadOnly => Some(PRESENT | ACCESSED | NO_EXECUTE),
        Access::ReadExecute => Some(PRESENT | ACCESSED),
        Access::ReadWrite => Some(PRESENT | WRITABLE | ACCESSED | DIRTY | NO_EXECUTE),
    }
}

impl Exposed {
    /// What `view` may do.
    #[must_use]
    pub const fn access(&self, view: View) -> Access {
        match view {
            View::User => self.user,
            View::Kernel => self.kernel,
        }
    }

    /// Whether both views show the same physical page with the same access. Only such a page may be
    /// global.
    #[must_use]
    pub const fn same_in_both(&self) -> bool {
        !self.split
            && matches!(
                (self.user, self.kernel),
                (Access::ReadOnly, Access::ReadOnly)
                    | (Access::ReadExecute, Access::ReadExecute)
                    | (Access::ReadWrite, Access::ReadWrite)
            )
    }

    /// The bits of the leaf entry in `view`; `None` if the view does not have the page.
    ///
    /// `global` asks for global translations, worth it where no PCID keeps them over a write to CR3;
    /// a page that is not [`same_in_both`](Self::same_in_both) does not get it.
    #[must_use]
    pub const fn flags(&self, view: View, global: bool) -> Option<u64> {
        match entry_flags(self.access(view)) {
            Some(bits) if global && self.same_in_both() => Some(bits | paging::GLOBAL),
            other => other,
        }
    }
}

/// The row of a page.
#[must_use]
pub fn row(page: Page) -> &'static Exposed {
    match page {
        Page::Text => &EXPOSED[0],
        Page::Idt => &EXPOSED[1],
        Page::OpenText => &EXPOSED[2],
        Page::OpenIdt => &EXPOSED[3],
        Page::Gdt => &EXPOSED[4],
        Page::Stack => &EXPOSED[5],
        Page::Alias => &EXPOSED[6],
        Page::Data => &EXPOSED[7],
    }
}

/// The shared pages of `area` with their addresses: what is mapped once, at boot.
pub fn shared_pages(area: EntryArea) -> impl Iterator<Item = (u64, &'static Exposed)> {
    let rows = EXPOSED.iter().filter(|row| row.scope == Scope::Shared);
    rows.filter_map(move |row| Some((area.address(row.page, 0)?, row)))
}

/// The pages of one CPU with their addresses: what is mapped when that CPU comes up.
pub fn cpu_pages(cpu: CpuArea) -> impl Iterator<Item = (u64, &'static Exposed)> {
    EXPOSED.iter().filter_map(move |row| Some((cpu.address(row.page)?, row)))
}

/// All pages that one CPU uses with their addresses: the shared ones and its own.
pub fn pages(area: EntryArea, cpu: CpuArea) -> impl Iterator<Item = (u64, &'static Exposed)> {
    shared_pages(area).chain(cpu_pages(cpu))
}

/// Bytes of supervisor memory that a user root shows with `cpus` CPUs up, shared ranges left out:
/// counted from [`EXPOSED`], 8 KiB and 8 KiB for each CPU.
#[must_use]
pub fn visible_bytes(cpus: usize) -> u64 {
    let visible = |scope| {
        EXPOSED.iter().filter(|row| row.scope == scope && row.user != Access::Absent).count() as u64
    };
    (visible(Scope::Shared) + visible(Scope::PerCpu) * cpus as u64) * PAGE_SIZE
}
