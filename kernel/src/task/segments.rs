//! A thread's own GDT entries: what set_thread_area sets.
//!
//! Invariant: the CPU's three entries are those of the thread that runs on it; threads that have none,
//! which is nearly all, cost nothing but the look whether the thread before had some.

use super::thread::Context;
use super::{Thread, current};
use crate::arch::{cpu, selectors::Selectors};
use crate::errno::{Errno, Result};
use core::sync::atomic::Ordering;
use ringwall::core::segment::Descriptor;
use ringwall::descriptors::{THREAD_ENTRIES, THREAD_ENTRY};

/// The three entries.
pub type Segments = [Descriptor; THREAD_ENTRIES];

/// Makes the CPU's entries those of the thread whose context this is, which it switches to.
#[inline(always)]
pub(super) fn switch_to(context: &Context) {
    if context.has_segments || cpu::local().has_segments.load(Ordering::Relaxed) {
        load(&context.segments);
    }
}

#[cold]
fn load(segments: &Segments) {
    let any = segments.iter().any(|segment| !segment.is_empty());
    cpu::local().has_segments.store(any, Ordering::Relaxed);
    // SAFETY: interrupts are off in the kernel.
    unsafe { ringwall::set_thread_segments(segments) };
}

/// The place in [`Segments`] of a GDT entry.
///
/// # Errors
/// `EINVAL` if it is not a thread's own.
pub fn place(entry: u32) -> Result<usize> {
    let place = (entry as usize).wrapping_sub(THREAD_ENTRY);
    if place < THREAD_ENTRIES { Ok(place) } else { Err(Errno::EINVAL) }
}

/// The running thread's entries.
pub fn of_current() -> Segments {
    // SAFETY: this CPU runs the thread.
    unsafe { (*current().context()).segments }
}

/// Changes one of the running thread's entries. Segment registers that name it are loaded anew.
pub fn set(place: usize, segment: Descriptor) {
    let mut segments = of_current();
    segments[place] = segment;
    keep(&current(), segments);
    load(&segments);
    let selector = ((THREAD_ENTRY + place) << 3 | 3) as u16;
    Selectors::reload_where(|loaded| loaded == selector);
}

/// Takes away all of the running thread's entries (exec).
pub(super) fn clear() {
    let none = Segments::default();
    if of_current() != none {
        keep(&current(), none);
        load(&none);
    }
}

/// Gives a new thread the running one's entries, one of them perhaps another.
pub(super) fn inherit(child: &Thread, own: Option<(usize, Descriptor)>) {
    let mut segments = of_current();
    if let Some((place, segment)) = own {
        segments[place] = segment;
    }
    if segments != Segments::default() {
        keep(child, segments);
    }
}

/// Keeps a thread's entries for when it is switched to. It is the running one, or one that nobody knows
/// yet.
pub(super) fn keep(thread: &Thread, segments: Segments) {
    // SAFETY: this CPU runs the thread, or it is not known to any scheduler.
    let context = unsafe { &mut *thread.context() };
    context.segments = segments;
    context.has_segments = segments.iter().any(|segment| !segment.is_empty());
}
