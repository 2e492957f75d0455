//! The entry area: built once at boot, shared by every process.
//!
//! Invariant: a page is in the user view only because [`ringwall_core::exposed::EXPOSED`] says so, or
//! because the kernel asked for it by [`Isolation::map_shared`], which remembers it.

use crate::entry::{Features, Text, Variant};
use crate::flush::FlushShared;
use crate::frames::Frames;
use crate::setup::{self, Setup, SetupError};
use crate::tables::{self, MapError, Table};
use core::sync::atomic::{AtomicU64, Ordering};
use ringwall_core::area::{CpuArea, EntryArea, Page};
use ringwall_core::exposed::{Access, View, cpu_pages, row};
use ringwall_core::paging::{GLOBAL, KERNEL_TABLE, PRESENT, index};
use ringwall_core::private;
use ringwall_core::root::{ENTRY_SLOT, KERNEL_HALF};
use ringwall_core::shared::{ShareError, SharedRange, SharedRanges};
use ringwall_core::tlb;
use x86_64::structures::paging::PhysFrame;

/// Ranges that [`Isolation::map_shared`] keeps at a time.
pub const SHARED_RANGES: usize = 16;
/// Top-level entries that a kernel half may have.
pub const KERNEL_ENTRIES: usize = 32;

/// The entry area and what every root has in common.
pub struct Isolation {
    pub(crate) area: EntryArea,
    pub(crate) text: Text,
    /// The text for open processes, if there may be any.
    pub(crate) open_text: Option<Text>,
    pub(crate) isolated: bool,
    pub(crate) enhanced_ibrs: bool,
    pub(crate) private_slot: usize,
    pub(crate) kernel_level_3: &'static Table,
    pub(crate) user_level_3: Option<(PhysFrame, &'static Table)>,
    kernel_entries: [(usize, u64); KERNEL_ENTRIES],
    kernel_entry_count: usize,
    shared: SharedRanges<SHARED_RANGES>,
    /// Of each group of CPUs, the level-2 table and the level-1 table of its stack pages in the private slot.
    espfix: [Option<(PhysFrame, PhysFrame)>; private::GROUPS],
    pub(crate) private_random: u64,
    pub(crate) tlb: tlb::Features,
    spaces: AtomicU64,
}

impl Isolation {
    /// Chooses the entry area's place, copies the entry text there, and makes the shared pages.
    ///
    /// # Errors
    /// [`SetupError`]; what was mapped by then stays mapped in the kernel root and nowhere else.
    ///
    /// # Safety
    /// `setup.kernel_root` is the root that the kernel runs on, its region is the library's from now
    /// on, and its top-level kernel entries stay as they are. No page of its kernel half is ever global: with
    /// isolation and without PCID [`Cpu::activate`](crate::Cpu::activate) sets CR4.PGE, and such a page's translation
    /// would stay usable under user roots. `setup.fsgsbase` tells the truth; what
    /// `setup.hardening` has on, the CPU has.
    pub unsafe fn new(
        setup: &Setup<'_>,
        frames: &mut impl Frames,
    ) -> Result<Isolation, SetupError> {
        setup::check(setup)?;
        let area = setup::choose(setup)?;
        let root = tables::table(frames, setup.kernel_root);
        if setup.isolate
            && let Some(address) = tables::first_global(root, frames)
        {
            return Err(SetupError::GlobalPage(address));
        }
        if root[setup.private_slot].load(Ordering::Relaxed) != 0 {
            return Err(SetupError::PrivateSlot(setup.private_slot));
        }
        let kernel_level_3 = tables::level_3(root, area.base(), frames)?;
        let user_level_3 = match setup.isolate {
            true => {
                let frame = tables::zeroed(frames)?;
                Some((frame, tables::table(frames, frame)))
            }
            false => None,
        };
        let mut isolation = Isolation {
            area,
            text: Text::new(setup.variant()),
            open_text: (setup.isolate && setup.switchable).then(|| Text::new(Variant::Open)),
            isolated: setup.isolate,
            enhanced_ibrs: setup.hardening.enhanced_ibrs(),
            private_slot: setup.private_slot,
            kernel_level_3,
            user_level_3,
            kernel_entries: [(0, 0); KERNEL_ENTRIES],
            kernel_entry_count: 0,
            shared: SharedRanges::new(area),
            espfix: [None; private::GROUPS],
            private_random: setup::next_random(setup::next_random(setup.random)) >> 8,
            tlb: setup.tlb(),
            spaces: AtomicU64::new(0),
        };
        isolation.copy_kernel_entries(root)?;
        let features = Features::new(&setup.hardening, setup.fsgsbase, setup.sysret_keeps_ss);
        isolation.make_text(features, frames)?;
        let (text, idt) = (isolation.area.text(), isolation.area.idt());
        isolation.make_idt(
            (Page::Idt, idt),
            (&isolation.text, text),
            setup.user_vectors,
            frames,
        )?;
        if let Some(open) = &isolation.open_text {
            isolation.make_open_text(open, features, frames)?;
            let (text, idt) = (isolation.area.open_text(), isolation.area.open_idt());
            isolation.make_idt((Page::OpenIdt, idt), (open, text), setup.user_vectors, frames)?;
        }
        Ok(isolation)
    }

    fn copy_kernel_entries(&mut self, root: &Table) -> Result<(), SetupError> {
        let present = KERNEL_HALF
            .map(|slot| (slot, root[slot].load(Ordering::Relaxed)))
            .filter(|(_, entry)| entry & PRESENT != 0);
        for (slot, entry) in present {
            let count = self.kernel_entry_count;
            let place = self.kernel_entries.get_mut(count);
            *place.ok_or(SetupError::TooManyKernelEntries(count + 1))? = (slot, entry);
            self.kernel_entry_count += 1;
        }
        Ok(())
    }

    fn make_text(&self, features: Features, frames: &mut impl Frames) -> Result<(), SetupError> {
        let kernel = tables::zeroed(frames)?;
        let kernel_view = tables::bytes(frames, kernel);
        self.text.write_kernel_view(kernel_view, features);
        let user = match self.isolated {
            true => {
                let user = tables::zeroed(frames)?;
                self.text.write_user_view(tables::bytes(frames, user), kernel_view);
                user
            }
            false => kernel,
        };
        self.map_page(Page::Text, self.area.text(), kernel, user, frames)
    }

    fn make_open_text(
        &self,
        text: &Text,
        features: Features,
        frames: &mut impl Frames,
    ) -> Result<(), SetupError> {
        let frame = tables::zeroed(frames)?;
        text.write_kernel_view(tables::bytes(frames, frame), features);
        self.map_page(Page::OpenText, self.area.open_text(), frame, frame, frames)
    }

    /// Makes an IDT whose gates lead to `text`, which is at `base`.
    fn make_idt(
        &self,
        (page, place): (Page, u64),
        (text, base): (&Text, u64),
        user_vectors: &[u8],
        frames: &mut impl Frames,
    ) -> Result<(), SetupError> {
        let frame = tables::zeroed(frames)?;
        let gates = tables::table(frames, frame);
        for vector in 0..=255 {
            let address = base + u64::from(text.gate(vector));
            let gate = crate::descriptors::gate(vector, address, user_vectors.contains(&vector));
            for (word, value) in gate.into_iter().enumerate() {
                gates[usize::from(vector) * 2 + word].store(value, Ordering::Relaxed);
            }
        }
        self.map_page(page, place, frame, frame, frames)
    }

    /// Maps one page of the entry area in both views, as the exposed set says.
    pub(crate) fn map_page(
        &self,
        page: Page,
        address: u64,
        kernel: PhysFrame,
        user: PhysFrame,
        frames: &mut impl Frames,
    ) -> Result<(), SetupError> {
        let (row, global) = (row(page), self.global_pages());
        if let Some(flags) = row.flags(View::Kernel, global) {
            let leaf = kernel.start_address().as_u64() | flags;
            tables::map_below(self.kernel_level_3, address, leaf, frames)?;
        }
        if let (Some((_, level_3)), Some(flags)) =
            (self.user_level_3, row.flags(View::User, global))
        {
            let leaf = user.start_address().as_u64() | flags;
            tables::map_below(level_3, address, leaf, frames)?;
        }
        Ok(())
    }

    /// Makes all tables that CPU `index` will need, so that mapping its pages cannot fail any more.
    ///
    /// # Errors
    /// [`MapError`]; tables that were made by then stay, and are used by the next who asks.
    pub(crate) fn make_room(
        &mut self,
        cpu: CpuArea,
        frames: &mut impl Frames,
    ) -> Result<(), MapError> {
        for (address, row) in cpu_pages(cpu) {
            let user = self.user_level_3.filter(|_| row.user != Access::Absent);
            let kernel = Some(self.kernel_level_3).filter(|_| row.kernel != Access::Absent);
            for level_3 in kernel.into_iter().chain(user.map(|(_, level_3)| level_3)) {
                tables::empty_leaf(level_3, address, frames)?;
            }
        }
        self.make_group(cpu.index(), frames)
    }

    /// Makes the espfix tables of the group that CPU `index` is in.
    ///
    /// # Errors
    /// [`MapError::NoFrame`].
    pub(crate) fn make_group(
        &mut self,
        index: usize,
        frames: &mut impl Frames,
    ) -> Result<(), MapError> {
        let group = &mut self.espfix[index / private::GROUP_CPUS];
        if group.is_none() {
            let [level_2, level_1] = tables::all_zeroed(frames)?;
            let entry = level_1.start_address().as_u64() | KERNEL_TABLE;
            for slot in tables::table(frames, level_2) {
                slot.store(entry, Ordering::Relaxed);
            }
            *group = Some((level_2, level_1));
        }
        Ok(())
    }

    /// Adds the stack page of CPU `index` to the espfix tables; gives the level-3 entry for its group.
    ///
    /// # Panics
    /// Without [`Isolation::make_group`].
    pub(crate) fn add_espfix(&self, index: usize, stack: PhysFrame, frames: &impl Frames) -> u64 {
        let group = self.espfix[index / private::GROUP_CPUS];
        let (level_2, level_1) = group.expect("the group was made");
        let leaf = stack.start_address().as_u64() | private::LEAF;
        let slots = tables::table(frames, level_1).iter();
        let slots = slots.skip(private::espfix_index(self.private_random, index));
        for slot in slots.step_by(private::GROUP_CPUS) {
            slot.store(leaf, Ordering::Release);
        }
        level_2.start_address().as_u64() | KERNEL_TABLE
    }

    /// Where the entry area is.
    pub fn area(&self) -> EntryArea {
        self.area
    }

    /// Whether there are two roots.
    pub fn isolated(&self) -> bool {
        self.isolated
    }

    /// Whether pages that both views show alike are global: where every switch flushes, they stay cached so.
    pub(crate) fn global_pages(&self) -> bool {
        self.isolated && !self.tlb.pcid
    }

    /// What the TLB has, and how much of it is used.
    pub fn tlb(&self) -> tlb::Features {
        self.tlb
    }

    /// Whether isolation can be switched off for single processes.
    pub fn switchable(&self) -> bool {
        self.open_text.is_some()
    }

    /// The entry text in use.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The kernel ranges that every user root shows, beside the entry area.
    pub fn shared_ranges(&self) -> impl Iterator<Item = SharedRange> {
        self.shared.iter()
    }

    /// A number that no other address space has had.
    pub(crate) fn next_space(&self) -> u64 {
        self.spaces.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Top-level kernel entries of every kernel root.
    pub(crate) fn kernel_entries(&self) -> &[(usize, u64)] {
        &self.kernel_entries[..self.kernel_entry_count]
    }

    /// The one top-level kernel entry of every user root.
    pub(crate) fn user_entry(&self) -> Option<(usize, u64)> {
        let (frame, _) = self.user_level_3?;
        Some((ENTRY_SLOT, frame.start_address().as_u64() | KERNEL_TABLE))
    }

    /// Makes a kernel range visible under every user root, with the permissions that it has under the
    /// kernel root: for what the CPU itself must reach there, such as a debug store.
    ///
    /// Everything in the range can then be read by a program on a CPU that has Meltdown.
    ///
    /// # Errors
    /// [`MapSharedError`]; the user view is then as it was. Needs no flush: nothing was mapped before.
    ///
    /// # Safety
    /// The kernel's mapping of the range stays as it is until [`Isolation::unmap_shared`]: a frame that it
    /// gives to another use would stay visible.
    pub unsafe fn map_shared(
        &mut self,
        start: u64,
        bytes: u64,
        frames: &mut impl Frames,
    ) -> Result<(), MapSharedError> {
        let range = SharedRange::new(start, bytes)?;
        self.shared.insert(range)?;
        let Some((_, level_3)) = self.user_level_3 else { return Ok(()) };
        // Nothing is shown before all can be: a CPU may cache what is there for a moment.
        let ready = range.pages().try_for_each(|address| {
            self.kernel_leaf(address, frames)?;
            tables::empty_leaf(level_3, address, frames).map(drop)
        });
        let shown = ready.and_then(|()| {
            range.pages().try_for_each(|address| {
                let leaf = self.kernel_leaf(address, frames)? & !GLOBAL;
                tables::map_below(level_3, address, leaf, frames)
            })
        });
        if let Err(error) = shown {
            self.shared.remove(range)?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Takes a range out of the user view again. It must be one that [`Isolation::map_shared`] mapped. Gives the
    /// obligation to flush it on every CPU.
    ///
    /// # Errors
    /// [`MapSharedError::Range`] if it is not.
    pub fn unmap_shared(
        &mut self,
        start: u64,
        bytes: u64,
        frames: &impl Frames,
    ) -> Result<FlushShared, MapSharedError> {
        let range = SharedRange::new(start, bytes)?;
        self.shared.remove(range)?;
        if let Some((_, level_3)) = self.user_level_3 {
            for leaf in range.pages().filter_map(|page| tables::leaf(level_3, page, frames)) {
                leaf.store(0, Ordering::Release);
            }
        }
        Ok(FlushShared::new(range))
    }

    fn kernel_leaf(&self, address: u64, frames: &impl Frames) -> Result<u64, MapError> {
        tables::translate(self.kernel_level_3, address, frames)
            .filter(|_| index(4, address) == ENTRY_SLOT)
            .ok_or(MapError::NotMapped(address))
    }
}

/// Why a kernel range could not be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapSharedError {
    /// The range itself.
    Range(ShareError),
    /// One of its pages.
    Map(MapError),
}

impl From<ShareError> for MapSharedError {
    fn from(error: ShareError) -> Self {
        MapSharedError::Range(error)
    }
}

impl From<MapError> for MapSharedError {
    fn from(error: MapError) -> Self {
        MapSharedError::Map(error)
    }
}

impl core::fmt::Display for MapSharedError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            MapSharedError::Range(error) => write!(f, "cannot share: {error}"),
            MapSharedError::Map(error) => write!(f, "cannot share: {error}"),
        }
    }
}
