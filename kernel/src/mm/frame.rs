//! Physical frames.
//!
//! ```text
//!   allocate(0..=4)               allocate(5..)
//!        │                             │
//!   ┌────▼──────────────────────┐      │     lists through the free frames themselves,
//!   │ 1 │ 2 │ 4 │ 8 │ 16 frames │      │     last in, first out: a few instructions
//!   └────▲──────────────────────┘      │
//!        │ 64 frames at once           │
//!   ┌────┴─────────────────────────────▼──┐
//!   │ buddy system                        │  walks its lists to merge, so not for every page
//!   └─────────────────────────────────────┘
//! ```
//!
//! Frames given back stay in the lists. When a bigger block is asked for and the buddy system has
//! none, a pass over all frames finds aligned groups that are free and hands them back to it.
//!
//! Every frame of RAM has a count, in an array that lies in RAM too. A counted frame ([`Page`]) is
//! shared by page tables and page caches, and is free when the count falls to 0.
//!
//! Some blocks are a stock for the kernel's heap alone: its small allocations cannot be refused, and
//! single free frames are no use to it, however many a program leaves between its own. What makes
//! such allocations is refused while the stock is low ([`admit`]).
//!
//! Lock order: last of all. Nothing is called with the lock of this module held.
//!
//! [`Page`]: super::Page

use super::layout::{direct, direct_map, physical};
use crate::errno::{Errno, Result};
use crate::sync::Mutex;
use buddy_system_allocator::Heap;
use core::alloc::Layout;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};

/// Bytes of a frame.
pub const FRAME: u64 = 4096;
/// The count of a frame that is in the list of single free frames.
const IN_LIST: u32 = u32::MAX;
/// Orders with a list of their own: pages, root pairs, stacks, and the heap's chunks.
const LISTS: usize = 5;
/// Order of the blocks that the lists are filled with.
const REFILL: u8 = 6;
/// Order of the blocks that the heap grows by, and that it has a stock of.
const HEAP: u8 = 4;
/// How many groups one reclaiming pass hands to the buddy system at most.
const RECLAIM: usize = 256;

/// Counts of all frames up to the end of RAM, by frame number.
static COUNTS: AtomicPtr<AtomicU32> = AtomicPtr::new(core::ptr::null_mut());
static FRAMES: Mutex<Frames> = Mutex::new(Frames::new());

/// Says where RAM ends. Once, at boot, before [`add_memory`].
pub fn start(end_of_ram: u64) {
    FRAMES.lock().end = end_of_ram;
}

/// Takes usable memory `start..end` (bytes; partial frames at the edges are left out). The first
/// that is big enough gives the room for the counts of all frames.
///
/// # Safety
/// It is RAM that nobody uses, mapped in the direct map now, and below the end told to [`start`].
pub unsafe fn add_memory(start: u64, end: u64) {
    let mut frames = FRAMES.lock();
    // Frame 0 stays unused: 0 means "none" in lists and page tables.
    let start = start.max(1).next_multiple_of(FRAME);
    let mut end = end.min(frames.end) & !(FRAME - 1);
    let counts = frames.end.div_ceil(FRAME) * size_of::<AtomicU32>() as u64;
    let counts = counts.next_multiple_of(FRAME);
    if COUNTS.load(Relaxed).is_null() && end.saturating_sub(start) > counts {
        end -= counts;
        let array = direct(end);
        // SAFETY: at the end of the range, which the caller gives away; left out below.
        unsafe { array.write_bytes(0, counts as usize) };
        COUNTS.store(array.cast(), Relaxed);
    }
    if start < end {
        // SAFETY: the caller's promise.
        unsafe { frames.add(start, end) };
    }
}

/// The count of the frame at `physical`.
pub(super) fn count(physical: u64) -> &'static AtomicU32 {
    let counts = COUNTS.load(Relaxed);
    debug_assert!(!counts.is_null());
    // SAFETY: the array covers all frames up to the end of RAM, and this module hands out no
    // other; it stays for ever.
    unsafe { &*counts.wrapping_add((physical / FRAME) as usize) }
}

/// Frames in the machine and frames free now, for /proc/meminfo and sysinfo.
pub fn totals() -> (usize, usize) {
    let frames = FRAMES.lock();
    (frames.total, frames.free + (frames.stocked << HEAP))
}

/// Frames free now that programs can have.
pub fn available() -> usize {
    FRAMES.lock().free
}

/// Whether small allocations will succeed now. What a program can repeat without end, and what
/// allocates in the kernel's heap alone, asks this first. It is refused while pages still are to be
/// had, so that a program whose call fails can go on.
///
/// # Errors
/// `ENOMEM` when the heap's stock is low and cannot be filled.
#[inline]
pub fn admit() -> Result<()> {
    let mut frames = FRAMES.lock();
    if frames.stocked == frames.target { Ok(()) } else { frames.admit(0) }
}

/// As [`admit`], for small allocations of `bytes` altogether.
///
/// # Errors
/// `ENOMEM`.
pub fn admit_bytes(bytes: usize) -> Result<()> {
    FRAMES.lock().admit(bytes.div_ceil((FRAME as usize) << HEAP))
}

/// Raw frames for pages, page tables, task stacks and the library: `1 << order` frames, naturally
/// aligned, contents undefined. Not counted.
///
/// # Errors
/// `ENOMEM`.
#[inline]
pub fn allocate(order: u8) -> Result<u64> {
    FRAMES.lock().take(order).ok_or(Errno::ENOMEM)
}

/// A block for the kernel's heap: from its stock if there is nothing else.
///
/// # Errors
/// `ENOMEM`.
pub(super) fn allocate_for_heap() -> Result<u64> {
    let mut frames = FRAMES.lock();
    if let Some(block) = frames.take(HEAP) {
        return Ok(block);
    }
    let block = frames.stock.pop().ok_or(Errno::ENOMEM)?;
    frames.stocked -= 1;
    Ok(block)
}

/// Bytes of a block that [`allocate_for_heap`] gives, which [`free`] takes back with this order.
pub(super) const HEAP_BLOCK: (usize, u8) = ((FRAME as usize) << HEAP, HEAP);

/// Gives back what [`allocate`] gave.
///
/// # Safety
/// Nobody uses the frames any more, in any page table or TLB of any CPU.
#[inline]
pub unsafe fn free(physical: u64, order: u8) {
    let mut frames = FRAMES.lock();
    // SAFETY: the caller's promise.
    unsafe { frames.give(physical, order) };
}

/// Free blocks of one size, each holding the address of the next in its first word; 0 ends.
struct List {
    head: u64,
}

impl List {
    /// # Safety
    /// The block is free and the direct map reaches it.
    #[inline(always)]
    unsafe fn push(&mut self, block: u64) {
        // SAFETY: a free block is this module's to write.
        unsafe { direct(block).cast::<u64>().write(self.head) };
        self.head = block;
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<u64> {
        if self.head == 0 {
            return None;
        }
        let block = self.head;
        // SAFETY: blocks in the list are free and `push` wrote their first word.
        self.head = unsafe { direct(block).cast::<u64>().read() };
        Some(block)
    }
}

struct Frames {
    lists: [List; LISTS],
    buddies: Heap<32>,
    free: usize,
    total: usize,
    /// Blocks for the heap alone, which `free` leaves out: so many, and so many are wanted.
    stock: List,
    stocked: usize,
    target: usize,
    /// First address past RAM.
    end: u64,
    /// Frame numbers that there are counts for and that may be free.
    span: Range<u64>,
}

impl Frames {
    const fn new() -> Frames {
        Frames {
            lists: [const { List { head: 0 } }; LISTS],
            buddies: Heap::new(),
            free: 0,
            total: 0,
            stock: List { head: 0 },
            stocked: 0,
            target: 0,
            end: 0,
            span: Range { start: u64::MAX, end: 0 },
        }
    }

    /// # Safety
    /// As [`add_memory`].
    unsafe fn add(&mut self, start: u64, end: u64) {
        // SAFETY: the caller's promise; virtual addresses keep the alignment of physical ones.
        unsafe {
            self.buddies.add_to_heap(direct(start) as usize, direct(end) as usize);
        }
        let frames = ((end - start) / FRAME) as usize;
        self.total += frames;
        self.free += frames;
        self.target = (self.total / 64).clamp(64, 4096) >> HEAP;
        self.span = self.span.start.min(start / FRAME)..self.span.end.max(end / FRAME);
    }

    /// Brings the stock to its size and `more` blocks; half its size will do.
    #[cold]
    #[inline(never)]
    fn admit(&mut self, more: usize) -> Result<()> {
        while self.stocked < self.target + more
            && let Some(block) = self.take(HEAP)
        {
            // SAFETY: a free block that is in no list.
            unsafe { self.stock.push(block) };
            self.stocked += 1;
        }
        while self.stocked > self.target + more
            && let Some(block) = self.stock.pop()
        {
            self.stocked -= 1;
            // SAFETY: free, and in no list any more.
            unsafe { self.give(block, HEAP) };
        }
        if self.stocked >= self.target / 2 + more { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    #[inline(always)]
    fn take(&mut self, order: u8) -> Option<u64> {
        let listed = self.lists.get_mut(order as usize).and_then(List::pop);
        let block = match listed {
            Some(block) => block,
            None => self.take_slowly(order)?,
        };
        if order == 0 {
            count(block).store(0, Relaxed);
        }
        self.free -= 1 << order;
        Some(block)
    }

    /// # Safety
    /// As [`free`].
    #[inline(always)]
    unsafe fn give(&mut self, block: u64, order: u8) {
        self.free += 1 << order;
        if order == 0 {
            count(block).store(IN_LIST, Relaxed);
        }
        match self.lists.get_mut(order as usize) {
            // SAFETY: the caller's promise.
            Some(list) => unsafe { list.push(block) },
            // SAFETY: the caller's promise.
            None => unsafe { self.give_to_buddies(block, order) },
        }
    }

    #[cold]
    #[inline(never)]
    fn take_slowly(&mut self, order: u8) -> Option<u64> {
        if (order as usize) < LISTS {
            for bigger in (order..=REFILL).rev() {
                if let Some(block) = self.take_from_buddies(bigger) {
                    return Some(self.split(block, bigger, order));
                }
            }
            for bigger in order as usize + 1..LISTS {
                if let Some(block) = self.lists[bigger].pop() {
                    return Some(self.split(block, bigger as u8, order));
                }
            }
        } else if let Some(block) = self.take_from_buddies(order) {
            return Some(block);
        }
        if order > 0 && self.free >= 1 << order {
            self.reclaim(order);
        }
        self.take_from_buddies(order)
    }

    /// Cuts a free block into smaller ones: the first is the result, the others go into their list.
    fn split(&mut self, block: u64, from: u8, to: u8) -> u64 {
        for index in (1..1u64 << (from - to)).rev() {
            let part = block + index * (FRAME << to);
            if to == 0 {
                count(part).store(IN_LIST, Relaxed);
            }
            // SAFETY: a part of a free block that is in no list.
            unsafe { self.lists[to as usize].push(part) };
        }
        block
    }

    fn take_from_buddies(&mut self, order: u8) -> Option<u64> {
        let block = self.buddies.alloc(block_layout(order)?).ok()?;
        Some(physical(block.as_ptr()))
    }

    /// # Safety
    /// The block is free and in no list.
    unsafe fn give_to_buddies(&mut self, block: u64, order: u8) {
        if let Some(layout) = block_layout(order)
            && let Some(pointer) = NonNull::new(direct(block))
        {
            // SAFETY: the caller's promise. A block may have come out of the buddy system as part
            // of a bigger one: it keeps no record of blocks that are out.
            unsafe { self.buddies.dealloc(pointer, layout) };
        }
    }

    /// Hands aligned groups of free single frames back to the buddy system, which merges them.
    fn reclaim(&mut self, order: u8) {
        for bigger in 1..LISTS {
            while let Some(block) = self.lists[bigger].pop() {
                let first = self.split(block, bigger as u8, 0);
                count(first).store(IN_LIST, Relaxed);
                // SAFETY: the first part of a free block that is in no list any more.
                unsafe { self.lists[0].push(first) };
            }
        }
        let group = 1u64 << order;
        let mut found = 0;
        // The buddy system aligns blocks where it sees them.
        let shift = direct_map() / FRAME;
        let mut first = (shift + self.span.start).next_multiple_of(group) - shift;
        while first + group <= self.span.end && found < RECLAIM {
            let members = first..first + group;
            if members.clone().all(|number| count(number * FRAME).load(Relaxed) == IN_LIST) {
                members.for_each(|number| count(number * FRAME).store(0, Relaxed));
                found += 1;
            }
            first += group;
        }
        if found == 0 {
            return;
        }
        // The groups' frames still are in the list: take out everything, keep what is not theirs.
        let mut rest = core::mem::replace(&mut self.lists[0], List { head: 0 });
        while let Some(block) = rest.pop() {
            if count(block).load(Relaxed) == IN_LIST {
                // SAFETY: free, and just taken out of the list.
                unsafe { self.lists[0].push(block) };
            } else if (shift + block / FRAME).is_multiple_of(group) {
                // SAFETY: the whole group is free; none of it stays in the list. Its other
                // frames' words are read before they can be written: only this first frame's
                // word is, and that was read by `pop`.
                unsafe { self.give_to_buddies(block, order) };
            }
        }
    }
}

fn block_layout(order: u8) -> Option<Layout> {
    let bytes = (FRAME as usize).checked_shl(u32::from(order))?;
    Layout::from_size_align(bytes, bytes).ok()
}
