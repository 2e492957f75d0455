//! What one CPU's TLB may hold, and the flushes that follow.
//!
//! ```text
//!   slot     0          1          2        ...      PCID of slot n: kernel half n + 1, user half the same + 0x800
//!          ┌──────────┬──────────┬──────────┐
//!          │ space 7  │ space 3  │ space 9  │        whose entries they are
//!          │ seen 12  │ seen 4   │ seen 31  │        none older than this generation
//!          │ user due │          │          │        the user half is older: flush it on the way out
//!          └──────────┴──────────┴──────────┘
//!                       ▲ loaded                     its "user due" is bit 63 of the CR3 value to leave with, clear
//! ```
//!
//! Invariant: of a space in a slot, the kernel half of the PCID holds no translation that a generation up to `seen`
//! has retired; neither does the user half unless its flush is due. PCID 0 is the boot's, and nobody's here.

use super::change::{Change, Pages};
use super::event::Event;
use super::space::{Seat, Space};
use crate::root::{NO_FLUSH, Pcid, RootPair, Tlb, USER_PCID_BIT};

/// Address spaces whose translations a CPU keeps at a time, with PCID. More than a handful are of no use: the
/// TLB itself is not that large.
pub const SLOTS: usize = 6;

/// The CPU, as far as TLBs go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// CR4.PCIDE is set.
    pub pcid: bool,
    /// INVPCID is there.
    pub invpcid: bool,
    /// User mode runs under roots of its own.
    pub isolated: bool,
}

/// What executes flushes. The kernel root is loaded, interrupts are off.
pub trait Hardware {
    /// Writes CR3.
    fn write_cr3(&mut self, cr3: u64);
    /// Flushes one page of the PCID in CR3, and its global translation (INVLPG).
    fn flush_page(&mut self, address: u64);
    /// Flushes one page of another PCID (INVPCID, type 0). Called only with [`Features::invpcid`].
    fn flush_page_of(&mut self, pcid: u16, address: u64);
    /// Flushes everything: every PCID, global translations too (INVPCID type 2, or CR4.PGE changed twice).
    fn flush_all(&mut self);
    /// The CR3 value that the next exit to ring 3 loads.
    fn exit_cr3(&self) -> u64;
    /// Changes it.
    fn set_exit_cr3(&mut self, cr3: u64);
    /// Counts what was done or spared.
    #[inline(always)]
    fn count(&mut self, event: Event) {
        let _ = event;
    }
}

/// What a switch did with CR3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The address space was loaded already.
    Stayed,
    /// CR3 was written; translations of the address space were kept.
    Kept,
    /// CR3 was written, and what the CPU knew of the address space dropped.
    Flushed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Number of the space, 0 for none.
    space: u64,
    seen: u64,
    user_due: bool,
}

/// One CPU's knowledge. Its methods run on that CPU, interrupts off. It has `COUNT` slots.
#[derive(Debug)]
pub struct CpuTlb<const COUNT: usize = SLOTS> {
    seat: Seat,
    features: Features,
    /// Changes of the space that is loaded are not told to this CPU.
    resting: bool,
    /// Number of the space that is loaded, 0 for none, and what its slot's `seen` is meanwhile.
    space: u64,
    seen: u64,
    /// The rest is of use with PCID only.
    slots: [Slot; COUNT],
    /// The slot of the space that is loaded.
    loaded: usize,
    /// The slot to give up next.
    next: usize,
}

impl CpuTlb {
    /// Of a CPU that has loaded no address space yet.
    pub const fn new(cpu: usize, features: Features) -> CpuTlb {
        CpuTlb::with_slots(cpu, features)
    }
}

impl<const COUNT: usize> CpuTlb<COUNT> {
    /// [`CpuTlb::new`] with as many slots as the type says: tests look at few.
    pub const fn with_slots(cpu: usize, features: Features) -> CpuTlb<COUNT> {
        const EMPTY: Slot = Slot { space: 0, seen: 0, user_due: false };
        const {
            assert!(COUNT >= 2, "one is loaded while another is given up");
            assert!(COUNT < USER_PCID_BIT as usize, "each slot has a PCID");
        }
        CpuTlb {
            seat: Seat::new(cpu),
            features,
            resting: false,
            space: 0,
            seen: 0,
            slots: [EMPTY; COUNT],
            loaded: 0,
            next: 0,
        }
    }

    /// The CPU's index, as given to [`CpuTlb::new`].
    #[inline]
    pub fn cpu(&self) -> usize {
        self.seat.cpu()
    }

    /// Whether `space` is the one that is loaded.
    #[inline]
    pub fn is_loaded(&self, space: &Space) -> bool {
        self.space == space.id()
    }

    /// Whether `space` is loaded and in use: a switch to it would do nothing.
    #[inline]
    pub fn is_current(&self, space: &Space) -> bool {
        self.is_loaded(space) && !self.resting
    }

    /// Makes `space`, whose roots are `roots`, the CPU's address space: its kernel root now, its user root with the next
    /// exit. `previous` is the one that is loaded, if another one is.
    #[inline]
    pub fn switch(
        &mut self,
        space: &Space,
        roots: RootPair,
        previous: Option<&Space>,
        hardware: &mut impl Hardware,
    ) -> Switch {
        if !self.is_loaded(space) {
            self.load(space, roots, previous, hardware)
        } else if self.resting {
            self.wake(space, roots, hardware)
        } else {
            Switch::Stayed
        }
    }

    /// [`CpuTlb::switch`] to a space that is not loaded.
    #[inline(always)]
    pub fn load(
        &mut self,
        space: &Space,
        roots: RootPair,
        previous: Option<&Space>,
        hardware: &mut impl Hardware,
    ) -> Switch {
        if self.features.pcid {
            return self.load_tagged(space, roots, previous, hardware);
        }
        let generation = space.join(&self.seat);
        hardware.write_cr3(roots.kernel_cr3());
        hardware.set_exit_cr3(roots.user_cr3(self.features.isolated));
        self.loaded_is(space, generation, previous);
        hardware.count(Event::SwitchFlushed);
        Switch::Flushed
    }

    /// CR3 was written.
    #[inline(always)]
    fn loaded_is(&mut self, space: &Space, generation: u64, previous: Option<&Space>) {
        self.space = space.id();
        self.seen = generation;
        if self.resting {
            self.rested(previous);
        }
        // Last: as soon as nobody has it loaded, its memory may be another's.
        if let Some(previous) = previous {
            previous.leave(&self.seat);
        }
    }

    /// `previous` is left by a CPU that rested.
    #[cold]
    fn rested(&mut self, previous: Option<&Space>) {
        self.resting = false;
        if let Some(previous) = previous {
            previous.rests_no_more(&self.seat);
        }
    }

    /// Ends what [`CpuTlb::rest`] began: [`CpuTlb::switch`] to the space that is loaded.
    #[inline(never)]
    pub fn wake(&mut self, space: &Space, roots: RootPair, hardware: &mut impl Hardware) -> Switch {
        self.resting = false;
        if space.wake(&self.seat) == self.seen {
            return Switch::Stayed;
        }
        self.flush_whole(space, roots, hardware);
        Switch::Flushed
    }

    /// [`CpuTlb::load`] with PCID.
    #[inline(never)]
    fn load_tagged(
        &mut self,
        space: &Space,
        roots: RootPair,
        previous: Option<&Space>,
        hardware: &mut impl Hardware,
    ) -> Switch {
        let generation = space.join(&self.seat);
        let left = &mut self.slots[self.loaded];
        left.seen = self.seen;
        // What bit 63 of the exit's CR3 value says of it.
        left.user_due |= hardware.exit_cr3() & NO_FLUSH == 0;
        let known = self.slots.iter().position(|slot| slot.space == space.id());
        let number = known.unwrap_or_else(|| self.victim());
        self.loaded = number;
        let slot = &mut self.slots[number];
        let keep = known.is_some() && slot.seen == generation;
        let user = if keep && !slot.user_due { Tlb::Keep } else { Tlb::Flush };
        *slot = Slot { space: space.id(), seen: generation, user_due: false };
        let (pcid, kernel) = (self.pcid(), if keep { Tlb::Keep } else { Tlb::Flush });
        hardware.write_cr3(roots.kernel_cr3_with(pcid, kernel));
        hardware.set_exit_cr3(roots.user_cr3_with(self.features.isolated, pcid, user));
        self.loaded_is(space, generation, previous);
        hardware.count(if keep { Event::SwitchKept } else { Event::SwitchFlushed });
        if keep { Switch::Kept } else { Switch::Flushed }
    }

    /// The CPU will not touch the user half of `space`, which stays loaded: it need not be told of changes any more.
    /// [`CpuTlb::switch`] ends that.
    pub fn rest(&mut self, space: &Space) {
        if self.is_loaded(space) {
            self.resting = true;
            space.rest(&self.seat);
        }
    }

    /// Flushes a change of `space`, for what this CPU may still know; on the CPU that made it, and on each of
    /// [`Space::targets`].
    pub fn flush(
        &mut self,
        change: &Change,
        space: &Space,
        roots: RootPair,
        hardware: &mut impl Hardware,
    ) {
        if self.space != change.space || self.seen >= change.generation {
            // Not loaded: the switch to it will see that `seen` is old.
            hardware.count(Event::ChangeSpared);
        } else if self.seen + 1 == change.generation && change.pages.are_few() {
            self.seen = change.generation;
            hardware.count(Event::ChangeByPage);
            change.pages.addresses().for_each(|address| hardware.flush_page(address));
            self.flush_user_half(&change.pages, hardware);
        } else {
            self.flush_whole(space, roots, hardware);
        }
    }

    /// Flushes pages of the kernel half, which all address spaces share; whether user roots map them too or not.
    pub fn flush_kernel(&mut self, pages: &Pages, hardware: &mut impl Hardware) {
        if self.features.pcid || !pages.are_few() {
            // Each PCID may hold them; naming each page of each would take longer.
            hardware.flush_all();
            hardware.count(Event::Everything);
        } else {
            // What the user root may know goes with the next exit; global translations go here.
            pages.addresses().for_each(|address| hardware.flush_page(address));
            hardware.count(Event::ChangeByPage);
        }
    }

    /// Flushes all that the CPU knows of the space that is loaded.
    fn flush_whole(&mut self, space: &Space, roots: RootPair, hardware: &mut impl Hardware) {
        // Before the write: what is retired after this is another generation's.
        self.seen = space.generation();
        hardware.count(Event::ChangeWhole);
        hardware.write_cr3(self.kernel_cr3(roots, Tlb::Flush));
        self.user_half_is_due(hardware);
    }

    fn flush_user_half(&mut self, pages: &Pages, hardware: &mut impl Hardware) {
        let separate = self.features.pcid && self.features.isolated;
        if !separate || hardware.exit_cr3() & NO_FLUSH == 0 {
            return;
        }
        // INVPCID drops the upper entries of that one address only (SDM vol. 3, 4.10.4.1).
        if self.features.invpcid && !pages.tables() {
            let pcid = self.pcid().user();
            pages.addresses().for_each(|address| hardware.flush_page_of(pcid, address));
        } else {
            self.user_half_is_due(hardware);
        }
    }

    fn user_half_is_due(&mut self, hardware: &mut impl Hardware) {
        let exit = hardware.exit_cr3();
        if self.features.pcid && self.features.isolated && exit & NO_FLUSH != 0 {
            hardware.set_exit_cr3(exit & !NO_FLUSH);
            hardware.count(Event::UserHalfDue);
        }
    }

    fn victim(&mut self) -> usize {
        if self.next == self.loaded {
            self.next = (self.next + 1) % COUNT;
        }
        let number = self.next;
        self.next = (number + 1) % COUNT;
        number
    }

    fn pcid(&self) -> Pcid {
        // 0 is the boot's.
        Pcid::new(self.loaded as u16 + 1).unwrap_or(Pcid::FIRST)
    }

    fn kernel_cr3(&self, roots: RootPair, tlb: Tlb) -> u64 {
        match self.features.pcid {
            true => roots.kernel_cr3_with(self.pcid(), tlb),
            false => roots.kernel_cr3(),
        }
    }
}
