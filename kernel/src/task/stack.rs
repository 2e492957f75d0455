//! Task stacks: 16 KiB each, with nothing mapped below.
//!
//! ```text
//!   STACKS + slot * 64 KiB   48 KiB never mapped: an overflow faults and becomes #DF
//!                 + 48 KiB   16 KiB of stack, four frames mapped when the slot is first used
//!                 + 64 KiB   top: the program's registers end here; next slot
//! ```
//!
//! A stack that was given up stays mapped and is the next to be used, so that making a thread
//! costs no mapping, and no page-table entry of the region ever changes after it was made: no CPU
//! has anything to flush.

use crate::errno::{Errno, Result};
use crate::mm::{frame, kernel, layout};
use alloc::vec::Vec;
use core::ops::Range;
use spin::Mutex;

const SLOT_BYTES: u64 = 64 << 10;
const STACK_BYTES: u64 = 16 << 10;
/// Unmapped addresses below each stack.
pub const GUARD_BYTES: u64 = SLOT_BYTES - STACK_BYTES;
const PAGE_BYTES: u64 = 4096;
/// The region is one top-level slot.
const SLOTS: u64 = (1 << 39) / SLOT_BYTES;

struct Cache {
    free: Vec<u32>,
    /// Slots below this have been mapped.
    mapped: u64,
}

static CACHE: Mutex<Cache> = Mutex::new(Cache { free: Vec::new(), mapped: 0 });

/// A mapped task stack, given back to the cache on drop.
pub struct Stack {
    slot: u32,
}

impl Stack {
    /// A stack, its contents undefined.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allocate() -> Result<Stack> {
        let mut cache = CACHE.lock();
        if let Some(slot) = cache.free.pop() {
            return Ok(Stack { slot });
        }
        if cache.mapped == SLOTS {
            return Err(Errno::ENOMEM);
        }
        // There is room for every slot in the cache at any time: giving one up cannot fail.
        let wanted = cache.mapped as usize + 1;
        if cache.free.capacity() < wanted {
            let more = wanted.max(64).next_power_of_two();
            let more = more - cache.free.len();
            cache.free.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
        }
        let stack = core::mem::ManuallyDrop::new(Stack { slot: cache.mapped as u32 });
        let bounds = stack.bounds();
        let mut mapped = [0; (STACK_BYTES / PAGE_BYTES) as usize];
        for index in 0..mapped.len() {
            match frame::allocate(0) {
                Ok(physical) => mapped[index] = physical,
                Err(error) => {
                    give_back(&mapped[..index]);
                    return Err(error);
                }
            }
        }
        for (index, physical) in mapped.iter().enumerate() {
            if let Err(error) = kernel::map(bounds.start + index as u64 * PAGE_BYTES, *physical) {
                // A mapping that exists is not taken back; the slot is tried again with new frames.
                give_back(&mapped[index..]);
                return Err(error);
            }
        }
        cache.mapped += 1;
        Ok(core::mem::ManuallyDrop::into_inner(stack))
    }

    /// First address of the stack, and the one past its last.
    pub fn bounds(&self) -> Range<u64> {
        let end = layout::STACKS + (u64::from(self.slot) + 1) * SLOT_BYTES;
        end - STACK_BYTES..end
    }
}

fn give_back(frames: &[u64]) {
    for physical in frames {
        // SAFETY: allocated by the caller and not mapped anywhere.
        unsafe { frame::free(*physical, 0) };
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        CACHE.lock().free.push(self.slot);
    }
}
