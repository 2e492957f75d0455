//! What a CPU's instructions do to its TLB, and what the TLB does by itself.

use super::settings::{Break, Settings, item};
use super::state::{A, Cpu, Letter, SLOTS, Slot};

impl Cpu {
    /// The PCID and half that the CPU runs under. Without PCID there is one for all.
    fn tag(&mut self, settings: &Settings) -> &mut u8 {
        match settings.pcid {
            true => &mut self.cached[usize::from(self.loaded)][usize::from(self.user)],
            false => &mut self.cached[0][0],
        }
    }

    /// What it has cached that it can use now.
    pub(super) fn usable(mut self, settings: &Settings) -> u8 {
        *self.tag(settings)
    }

    /// Speculation caches all that the loaded root shows; and what every root shows, the CPU has under every PCID:
    /// there may have been a time.
    pub(super) fn fill(&mut self, mapped: u8, settings: &Settings) {
        if self.space == A {
            let shown = if self.user { mapped & !item::OPEN } else { mapped };
            *self.tag(settings) |= shown;
        }
        if mapped & item::SHARED != 0 {
            let tags = self.cached.as_flattened_mut();
            let used = if settings.pcid { tags.len() } else { 1 };
            tags[..used].iter_mut().for_each(|tag| *tag |= item::SHARED);
        }
    }

    /// Writes CR3 with the root that the fields name by now.
    fn write_cr3(&mut self, flush: bool, settings: &Settings) {
        if flush || !settings.pcid {
            *self.tag(settings) = 0;
        }
    }

    /// Ring 3 to ring 0.
    pub(super) fn enter(&mut self, settings: &Settings) {
        if self.user {
            self.user = false;
            self.write_cr3(false, settings);
        }
    }

    /// Ring 0 to ring 3.
    pub(super) fn exit(&mut self, settings: &Settings) {
        if settings.isolated {
            self.user = true;
            let flush = self.exit_flush && settings.broken != Some(Break::UserHalf);
            self.exit_flush = false;
            self.write_cr3(flush, settings);
        }
    }

    /// The same under the kernel root, which is not written.
    pub(super) fn exit_open(&mut self, settings: &Settings) {
        if settings.broken == Some(Break::OpenTakesMark) {
            self.exit_flush = false;
        }
    }

    /// Loads `space`, of which `generation` is the newest; `CpuTlb::switch`. Gives whether translations were kept.
    pub(super) fn load(&mut self, space: u8, generation: u8, settings: &Settings) -> bool {
        let mut keep = false;
        let mut flush_user = false;
        if settings.pcid {
            let forgets = settings.broken == Some(Break::ForgottenDue);
            self.slots[usize::from(self.loaded)].user_due |= self.exit_flush && !forgets;
            let known = self.slots.iter().position(|slot| slot.space == space);
            let number = known.unwrap_or_else(|| self.victim());
            let slot = self.slots[number];
            let always = settings.broken == Some(Break::AlwaysKeep);
            keep = known.is_some() && (slot.seen == generation || always);
            flush_user = !keep || slot.user_due;
            if known.is_none() && settings.broken == Some(Break::UsedSlot) {
                flush_user = false;
            }
            self.loaded = number as u8;
        }
        self.slots[usize::from(self.loaded)] = Slot { space, seen: generation, user_due: false };
        self.space = space;
        self.exit_flush = flush_user && settings.isolated;
        self.write_cr3(!keep, settings);
        keep
    }

    fn victim(&mut self) -> usize {
        if self.next == self.loaded {
            self.next = (self.next + 1) % SLOTS as u8;
        }
        let number = self.next;
        self.next = (number + 1) % SLOTS as u8;
        usize::from(number)
    }

    /// INVLPG: the address's translations, and all upper entries of the PCID.
    fn flush_page(&mut self, which: u8, settings: &Settings) {
        let page = item::PAGE | item::AGAIN;
        let gone = if which & page != 0 { page } else { which };
        *self.tag(settings) &= !(gone | item::TABLE);
    }

    /// Flushes a change; `CpuTlb::flush`. Gives whether that takes a flush of everything, which takes more steps.
    /// `open` is whether ring 3 may use the kernel root.
    pub(super) fn flush(&mut self, letter: Letter, open: bool, settings: &Settings) -> bool {
        if letter.item == item::SHARED {
            match settings.pcid && settings.broken != Some(Break::OnePcid) {
                true => self.flush_all(),
                false => self.flush_page(letter.item, settings),
            }
            return false;
        }
        let slot = &mut self.slots[usize::from(self.loaded)];
        let skips = settings.broken == Some(Break::SkippedGeneration);
        if slot.space != A || slot.seen >= letter.generation {
            false
        } else if letter.item == item::OPEN {
            // Any page of the space, and there are many.
            true
        } else if slot.seen + 1 == letter.generation || skips {
            slot.seen = letter.generation;
            self.flush_page(letter.item, settings);
            let skips = open && settings.broken == Some(Break::OpenSkipsUserHalf);
            if settings.pcid && settings.isolated && !self.exit_flush && !skips {
                let table =
                    letter.item == item::TABLE && settings.broken != Some(Break::TableByPage);
                if settings.invpcid && !table {
                    // INVPCID: of upper entries, those of this address only; the table maps more.
                    let user = &mut self.cached[usize::from(self.loaded)][1];
                    *user &= !(item::PAGE | item::AGAIN);
                } else {
                    self.exit_flush = true;
                }
            }
            false
        } else {
            true
        }
    }

    /// The second half of `CpuTlb::flush_whole`.
    pub(super) fn flush_whole(&mut self, settings: &Settings) {
        self.write_cr3(true, settings);
        let forgets = settings.broken == Some(Break::WholeKernelHalf);
        self.exit_flush |= settings.pcid && settings.isolated && !forgets;
    }

    /// Its first half.
    pub(super) fn see(&mut self, generation: u8) {
        self.slots[usize::from(self.loaded)].seen = generation;
    }

    /// What `CpuTlb` knows of the space that is loaded.
    pub(super) fn seen(&self) -> u8 {
        self.slots[usize::from(self.loaded)].seen
    }

    /// Every PCID, global translations too.
    pub(super) fn flush_all(&mut self) {
        self.cached = [[0; 2]; SLOTS];
    }
}
