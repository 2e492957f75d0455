//! Task stacks: 16 KiB each, with nothing mapped below.
//!
//! ```text
//!   stacks() + slot * 64 KiB   48 KiB never mapped: an overflow faults and becomes #DF
//!                     + 48 KiB   16 KiB of stack, four frames mapped when the slot is used
//!                     + 64 KiB   top: the program's registers end here; next slot
//! ```
//!
//! A stack that was given up stays mapped, up to a number of them, and is the next to be used: making
//! a thread then costs no mapping, and ending one no flush. What is beyond that number goes back to
//! the frames, so that a storm of threads leaves nothing behind.

use crate::errno::{Errno, Result};
use crate::mm::{frame, kernel, layout};
use crate::sync::Mutex;
use alloc::vec::Vec;
use core::mem::ManuallyDrop;
use core::ops::Range;

const SLOT_BYTES: u64 = 64 << 10;
const STACK_BYTES: u64 = 16 << 10;
/// Unmapped addresses below each stack.
pub const GUARD_BYTES: u64 = SLOT_BYTES - STACK_BYTES;
const PAGE_BYTES: u64 = 4096;
/// As many as the region holds.
const SLOTS: u32 = (layout::STACKS_BYTES / SLOT_BYTES) as u32;
/// Most unused stacks that stay mapped: 4 MiB.
const KEPT: usize = 256;

struct Slots {
    /// Unused, mapped.
    mapped: Vec<u32>,
    /// Unused, not mapped any more.
    unmapped: Vec<u32>,
    /// Slots from here on were never used.
    fresh: u32,
}

static SLOTS_IN_USE: Mutex<Slots> =
    Mutex::new(Slots { mapped: Vec::new(), unmapped: Vec::new(), fresh: 0 });

impl Slots {
    /// A slot that is not mapped. Makes sure that giving it back cannot fail.
    fn take(&mut self) -> Result<u32> {
        if let Some(slot) = self.unmapped.pop() {
            return Ok(slot);
        }
        if self.fresh == SLOTS {
            return Err(Errno::ENOMEM);
        }
        self.mapped.try_reserve_exact(KEPT - self.mapped.len()).map_err(|_| Errno::ENOMEM)?;
        let all = self.fresh as usize + 1;
        if self.unmapped.capacity() < all {
            let more = all.next_power_of_two() - self.unmapped.len();
            self.unmapped.try_reserve_exact(more).map_err(|_| Errno::ENOMEM)?;
        }
        self.fresh += 1;
        Ok(self.fresh - 1)
    }
}

/// A mapped task stack, given back on drop.
pub struct Stack {
    slot: u32,
}

impl Stack {
    /// A stack, its contents undefined.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn allocate() -> Result<Stack> {
        let mut slots = SLOTS_IN_USE.lock();
        if let Some(slot) = slots.mapped.pop() {
            return Ok(Stack { slot });
        }
        let stack = ManuallyDrop::new(Stack { slot: slots.take()? });
        for address in stack.bounds().step_by(PAGE_BYTES as usize) {
            let mapped = frame::allocate(0).and_then(|physical| {
                kernel::map(address, physical).inspect_err(|_| {
                    // SAFETY: allocated above, and not mapped.
                    unsafe { frame::free(physical, 0) };
                })
            });
            if let Err(error) = mapped {
                stack.unmap();
                slots.unmapped.push(stack.slot);
                return Err(error);
            }
        }
        Ok(ManuallyDrop::into_inner(stack))
    }

    /// First address of the stack, and the one past its last.
    pub fn bounds(&self) -> Range<u64> {
        let end = layout::stacks() + (u64::from(self.slot) + 1) * SLOT_BYTES;
        end - STACK_BYTES..end
    }

    /// Nobody runs on it.
    fn unmap(&self) {
        kernel::unmap(self.bounds());
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut slots = SLOTS_IN_USE.lock();
        if slots.mapped.len() < KEPT {
            slots.mapped.push(self.slot);
        } else {
            self.unmap();
            slots.unmapped.push(self.slot);
        }
    }
}
