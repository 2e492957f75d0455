//! One CPU whose TLB is the worst there can be.
//!
//! After every instruction it caches all that the loaded root shows, upper entries too, and all that cached upper entries
//! lead to. It forgets what the manual promises that an instruction flushes, and nothing else (SDM vol. 3, 4.10.4.1):
//!
//! | instruction | translations | upper entries (paging-structure caches) |
//! |---|---|---|
//! | MOV to CR3, bit 63 clear | all of the PCID loaded, but global ones | all of the PCID loaded |
//! | INVLPG | of that page: the present PCID's, and global ones | all of the present PCID, whatever their addresses |
//! | INVPCID type 0 | of that page and PCID, but global ones | those that would be used for that address |
//! | INVPCID type 2, a change of CR4.PGE | all, global ones too | all |

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use ringwall_core::root::{NO_FLUSH, PCID_MASK, USER_PCID_BIT, is_user, to_kernel, to_kernel_keep};
use ringwall_core::tlb::{Features, Hardware};

use crate::breaks::Break;
use crate::memory::{Memory, is_user_page, region};

/// In place of a PCID.
const GLOBAL: u16 = u16::MAX;

/// PCID, address of the page, frame.
pub type Translation = (u16, u64, u64);
/// PCID, region, frame of the table that it leads to.
pub type Structure = (u16, u64, u64);

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    Kernel,
    /// Under the user root, or the only one.
    User,
    /// Under the kernel root of a space that is open.
    Open,
}

#[derive(Debug)]
pub struct Machine {
    features: Features,
    broken: Break,
    memory: Rc<RefCell<Memory>>,
    cr3: u64,
    exit_cr3: u64,
    pub ring: Ring,
    /// Runs nothing that touches the user half.
    pub resting: bool,
    translations: HashSet<Translation>,
    structures: HashSet<Structure>,
}

impl Machine {
    pub fn new(features: Features, broken: Break, memory: Rc<RefCell<Memory>>) -> Machine {
        Machine {
            features,
            broken,
            memory,
            cr3: 0,
            exit_cr3: 0,
            ring: Ring::Kernel,
            resting: false,
            translations: HashSet::new(),
            structures: HashSet::new(),
        }
    }

    pub fn cr3(&self) -> u64 {
        self.cr3
    }

    fn pcid(&self) -> u16 {
        if self.features.pcid { (self.cr3 & PCID_MASK) as u16 } else { 0 }
    }

    /// Ring 3 to ring 0: what the entry text does.
    pub fn enter(&mut self) {
        if self.ring == Ring::User && self.features.isolated {
            let to_kernel = if self.features.pcid { to_kernel_keep } else { to_kernel };
            self.write_cr3(to_kernel(self.cr3));
        }
        self.ring = Ring::Kernel;
    }

    /// And back: what `to_user_root` does, or the open text.
    pub fn exit(&mut self, ring: Ring) {
        self.ring = ring;
        if ring == Ring::User && self.features.isolated {
            let keep = self.features.pcid && self.broken == Break::UserHalfKept;
            let value = self.exit_cr3 | if keep { NO_FLUSH } else { 0 };
            if self.features.pcid {
                self.exit_cr3 |= NO_FLUSH;
            }
            self.write_cr3(value);
        } else if self.broken == Break::OpenExitTakesMark && self.features.pcid {
            self.exit_cr3 |= NO_FLUSH;
        }
    }

    /// Speculation may load anything that it can get at, at any time.
    pub fn cache_everything(&mut self) {
        let (cr3, pcid) = (self.cr3, self.pcid());
        if Memory::space(cr3).is_none() {
            return;
        }
        let memory = self.memory.borrow();
        self.structures.extend(memory.structures(cr3, pcid));
        for structure in self.structures.iter().filter(|(of, ..)| *of == pcid) {
            self.translations.extend(memory.below(structure));
        }
        let shared = if self.features.pcid { pcid } else { GLOBAL };
        self.translations.extend(memory.kernel_half(cr3, pcid, shared));
    }

    /// What is wrong with something that this CPU may use now. One that rests uses the kernel half, and may walk
    /// the rest.
    pub fn fault(&self) -> Option<String> {
        let (cr3, pcid) = (self.cr3, self.pcid());
        let half = if is_user(cr3) { "user" } else { "kernel" };
        let memory = self.memory.borrow();
        let walks = self.structures.iter().filter(|(of, ..)| *of == pcid);
        let walks = walks.filter_map(|(.., table)| memory.fault_of_walk(cr3, *table));
        let used = self.translations.iter().filter(|(of, address, _)| {
            (*of == pcid || *of == GLOBAL) && !(self.resting && is_user_page(*address))
        });
        let uses = used.filter_map(|(_, address, frame)| memory.fault(cr3, *address, *frame));
        walks.chain(uses).next().map(|fault| format!("{fault}, {half} half of {pcid:#x}"))
    }

    fn drop_page(&mut self, flushed: u16, address: u64) {
        self.translations.retain(|(pcid, page, _)| (*pcid, *page) != (flushed, address));
    }

    /// An open space's user half is taken for something that nobody uses.
    fn skips_user_half(&self) -> bool {
        let memory = self.memory.borrow();
        let open = Memory::space(self.cr3).is_some_and(|space| memory.roots[space].open.is_some());
        open && self.broken == Break::OpenSkipsUserHalf
    }
}

impl Hardware for Machine {
    fn write_cr3(&mut self, cr3: u64) {
        let pcide = self.features.pcid;
        assert!(pcide || cr3 & (NO_FLUSH | PCID_MASK) == 0, "CR3 {cr3:#x} faults without PCID");
        assert!(
            self.ring != Ring::Kernel || !is_user(cr3),
            "the kernel loads a user root: {cr3:#x}"
        );
        let user_pcid = cr3 & USER_PCID_BIT != 0;
        assert!(!pcide || user_pcid == is_user(cr3), "the other half's PCID: {cr3:#x}");
        assert!(!pcide || cr3 & PCID_MASK != 0, "the boot's PCID");
        self.cr3 = cr3 & !NO_FLUSH;
        let loaded = self.pcid();
        if !pcide || cr3 & NO_FLUSH == 0 && self.broken != Break::AlwaysKeep {
            self.translations.retain(|(pcid, ..)| *pcid != loaded);
            self.structures.retain(|(pcid, ..)| *pcid != loaded);
        }
        self.cache_everything();
    }

    fn flush_page(&mut self, address: u64) {
        let loaded = self.pcid();
        self.drop_page(loaded, address);
        self.structures.retain(|(pcid, ..)| *pcid != loaded);
        if self.broken != Break::GlobalKept {
            self.drop_page(GLOBAL, address);
        }
        self.cache_everything();
    }

    fn flush_page_of(&mut self, flushed: u16, address: u64) {
        assert!(self.features.invpcid, "#UD");
        if self.broken != Break::NoInvpcid && !self.skips_user_half() {
            self.drop_page(flushed, address);
            self.structures.retain(|(pcid, of, _)| (*pcid, *of) != (flushed, region(address)));
        }
        self.cache_everything();
    }

    fn flush_all(&mut self) {
        let (one, loaded) = (self.broken == Break::OnePcid, self.pcid());
        self.translations.retain(|(pcid, ..)| one && *pcid != loaded);
        self.structures.retain(|(pcid, ..)| one && *pcid != loaded);
        self.cache_everything();
    }

    fn exit_cr3(&self) -> u64 {
        self.exit_cr3
    }

    fn set_exit_cr3(&mut self, cr3: u64) {
        assert_eq!(is_user(cr3), self.features.isolated, "ring 3 is to run under {cr3:#x}");
        assert_eq!(Memory::space(cr3), Memory::space(self.cr3), "ring 3 of another space");
        let marks = cr3 == self.exit_cr3 & !NO_FLUSH;
        let lost = self.broken == Break::MarkLost || self.skips_user_half();
        if !(marks && lost) {
            self.exit_cr3 = cr3;
        }
    }
}
