//! What each CPU counts: flushes taken and spared, and where NMIs found it.
//!
//! Invariant: the words are in the CPU's kernel-only page. That CPU alone changes them, each by one instruction, so
//! that an NMI between two loses nothing; any CPU may read them ([`Isolation::counters`]).
//!
//! On the ways in and out themselves nothing is counted unless [`Measure::CountEntries`] asks for it: it would cost each
//! system call an instruction.
//!
//! [`Measure::CountEntries`]: ringwall_core::hardening::Measure::CountEntries

use crate::entry::Text;
use crate::entry::layout::{KernelData, data_offset};
use crate::entry::windows::WINDOWS;
use crate::frame::Frame;
use crate::frames::Frames;
use crate::isolation::Isolation;
use crate::tables;
use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use ringwall_core::tlb::Event;

/// Where an NMI may find a CPU: in one of [`WINDOWS`], or elsewhere.
pub const PLACES: usize = WINDOWS.len() + 3;

/// Of [`PLACES`]: past or before the windows, in the part of the entry text that only the kernel root shows.
const ENTRY_TEXT: usize = WINDOWS.len();
/// Of [`PLACES`]: in the kernel proper.
const KERNEL: usize = WINDOWS.len() + 1;
/// Of [`PLACES`]: in ring 3.
const RING_3: usize = WINDOWS.len() + 2;

/// One CPU's counters as they are in memory.
#[repr(C)]
pub struct Words {
    events: [AtomicU64; Event::COUNT],
    nmis: [AtomicU64; PLACES],
    /// Ways in from ring 3: without a switch of the root, with one.
    entries: [AtomicU64; 2],
}

impl Words {
    /// All zero.
    pub const fn new() -> Words {
        Words {
            events: [const { AtomicU64::new(0) }; Event::COUNT],
            nmis: [const { AtomicU64::new(0) }; PLACES],
            entries: [const { AtomicU64::new(0) }; 2],
        }
    }

    fn read(&self) -> Counters {
        let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
        Counters {
            events: self.events.each_ref().map(read),
            nmis: self.nmis.each_ref().map(read),
            entries: self.entries.each_ref().map(read),
        }
    }
}

impl Default for Words {
    fn default() -> Words {
        Words::new()
    }
}

/// What one CPU has counted since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    events: [u64; Event::COUNT],
    nmis: [u64; PLACES],
    entries: [u64; 2],
}

impl Counters {
    /// How often `event` was decided.
    pub fn of(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Writes of CR3 by Rust: for another address space, and to flush one whole. The entry text's are not in it.
    pub fn cr3_writes(&self) -> u64 {
        [Event::SwitchKept, Event::SwitchFlushed, Event::ChangeWhole]
            .map(|event| self.of(event))
            .into_iter()
            .sum()
    }

    /// SYSCALLs, traps and interrupts from ring 3 that found a user root, and so switched to the kernel root and later
    /// back; 0 unless [`Measure::CountEntries`](ringwall_core::hardening::Measure::CountEntries) is on. NMIs are not in it.
    pub fn entries_switched(&self) -> u64 {
        self.entries[1]
    }

    /// The same, of those that found the kernel root: without isolation, or of a process that goes without.
    pub fn entries_open(&self) -> u64 {
        self.entries[0]
    }

    /// Each place with the number of NMIs that found the CPU there: the windows by their names, then the rest.
    pub fn nmis(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let windows = WINDOWS.iter().map(|window| window.name);
        windows.chain(["entry text", "kernel", "ring 3"]).zip(self.nmis)
    }
}

impl Isolation {
    /// What CPU `index` has counted; `None` if it was never made.
    pub fn counters(&self, index: usize, frames: &impl Frames) -> Option<Counters> {
        let page = self.area.cpu(index)?.data();
        let leaf = tables::leaf(self.kernel_level_3, page, frames)?.load(Ordering::Relaxed);
        if leaf == 0 {
            return None;
        }
        let data: NonNull<KernelData> = frames.pointer(tables::frame_of(leaf)).cast();
        // SAFETY: the page of `make_cpu`, which stays; the field is inside it.
        let words = unsafe { data.byte_add(offset_of!(KernelData, counters)) }.cast::<Words>();
        // SAFETY: the words are atomic, and nobody refers to them but as such.
        Some(unsafe { words.as_ref() }.read())
    }
}

/// Adds 1 to this CPU's counter of `event`: with a constant, one instruction.
#[inline(always)]
pub(crate) fn count(event: Event) {
    macro_rules! one {
        ($($event:ident)*) => {
            match event {
                $(Event::$event => add_one::<{ EVENTS + Event::$event as usize * 8 }>(),)*
            }
        };
    }
    one!(SwitchKept SwitchFlushed ChangeByPage ChangeWhole Everything ChangeSpared UserHalfDue);
}

const EVENTS: usize = data_offset!(counters) + offset_of!(Words, events);
/// Offset from GS base of the words for ways in: without a switch, with one.
pub(crate) const ENTRIES: usize = data_offset!(counters) + offset_of!(Words, entries);
const NMIS: usize = data_offset!(counters) + offset_of!(Words, nmis);

#[inline(always)]
fn add_one<const OFFSET: usize>() {
    // SAFETY: a counter in this CPU's kernel-only data, at this offset from the kernel's GS base.
    unsafe {
        core::arch::asm!("inc qword ptr gs:[{offset}]", offset = const OFFSET, options(nostack));
    }
}

/// Counts an NMI that found the CPU at `frame`. `text_base` is the address of the entry text.
pub(crate) fn count_nmi(frame: &Frame, text: &Text, text_base: u64) {
    let place = place(frame, text, text_base);
    // SAFETY: as in `add_one`; `place` is below PLACES.
    unsafe {
        core::arch::asm!(
            "inc qword ptr gs:[{place} * 8 + {nmis}]",
            place = in(reg) place,
            nmis = const NMIS,
            options(nostack),
        );
    }
}

fn place(frame: &Frame, text: &Text, text_base: u64) -> usize {
    let offset = frame.rip.wrapping_sub(text_base);
    let inside = |range: core::ops::Range<u16>| {
        (u64::from(range.start)..u64::from(range.end)).contains(&offset)
    };
    if frame.from_user() {
        RING_3
    } else if let Some(window) = text.windows().position(|(range, _)| inside(range)) {
        window
    } else if offset < text.size() as u64 {
        ENTRY_TEXT
    } else {
        KERNEL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Variant;

    const BASE: u64 = 0xffff_ffff_c000_7000;

    fn at(rip: u64) -> Frame {
        let mut frame = Frame::new_user(rip, 0);
        frame.cs = u64::from(crate::descriptors::KERNEL_CODE_SELECTOR);
        frame
    }

    #[test]
    fn every_instruction_has_its_place() {
        for variant in Variant::ALL {
            let text = Text::new(variant);
            let found = |rip| place(&at(rip), &text, BASE);
            for (number, (range, window)) in text.windows().enumerate() {
                for offset in [range.start, range.end - 1] {
                    assert_eq!(found(BASE + u64::from(offset)), number, "{}", window.name);
                }
            }
            assert_eq!(found(BASE + text.size() as u64 - 1), ENTRY_TEXT);
            assert_eq!(found(BASE + text.size() as u64), KERNEL);
            assert_eq!(found(BASE - 1), KERNEL);
            assert_eq!(place(&Frame::new_user(BASE, 0), &text, BASE), RING_3);
        }
    }

    #[test]
    fn places_have_names_that_a_line_can_begin_with() {
        let counters = Words::new().read();
        assert_eq!(counters.nmis().count(), PLACES);
        for (name, count) in counters.nmis() {
            assert!(count == 0 && !name.contains([':', '\n']), "{name}");
        }
    }

    #[test]
    fn writes_of_cr3_are_added_up() {
        let words = Words::new();
        for event in Event::ALL {
            words.events[event as usize].store(10u64.pow(event as u32), Ordering::Relaxed);
        }
        assert_eq!(words.read().of(Event::ChangeSpared), 100_000);
        assert_eq!(words.read().cr3_writes(), 1_011);
    }
}
