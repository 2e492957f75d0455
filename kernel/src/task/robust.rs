//! Robust futexes: locks whose holder died are marked as such, so that waiters can go on.

use super::{futex, thread::Thread};
use crate::user;
use core::sync::atomic::Ordering;
use linux_raw_sys::general as raw;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Most entries walked: the list is in the program's memory and may have a loop.
const LIMIT: usize = 2048;

/// struct robust_list_head.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Head {
    next: u64,
    offset: i64,
    pending: u64,
}

/// Length that set_robust_list has to be given.
pub const HEAD_BYTES: usize = size_of::<Head>();

/// Marks every lock on the ending thread's list. Stops at anything that cannot be read.
pub(super) fn walk(thread: &Thread) {
    let head_address = thread.robust_list.swap(0, Ordering::Relaxed);
    if head_address == 0 {
        return;
    }
    let Ok(head) = user::read::<Head>(head_address) else { return };
    // Bit 0 of a pointer marks a priority-inheriting lock.
    let mut entry = head.next;
    for _ in 0..LIMIT {
        if entry & !1 == head_address {
            break;
        }
        let next = user::read::<u64>(entry & !1);
        if entry & !1 != head.pending & !1 {
            mark((entry & !1).wrapping_add_signed(head.offset), thread.tid(), false);
        }
        let Ok(next) = next else { break };
        entry = next;
    }
    if head.pending & !1 != 0 {
        mark((head.pending & !1).wrapping_add_signed(head.offset), thread.tid(), true);
    }
}

/// Marks one lock word if the thread holds it, and wakes a waiter. `pending`: the thread died
/// while taking or releasing it.
fn mark(address: u64, tid: u32, pending: bool) {
    let Ok(mut word) = user::read_u32(address) else { return };
    loop {
        if pending && word == 0 {
            // Released, but the wake-up was not sent any more.
            futex::wake_address(address, 1);
            return;
        }
        if word & raw::FUTEX_TID_MASK != tid {
            return;
        }
        let marked = word & raw::FUTEX_WAITERS | raw::FUTEX_OWNER_DIED;
        match user::compare_exchange(address, word, marked) {
            Ok(seen) if seen == word => break,
            Ok(seen) => word = seen,
            Err(_) => return,
        }
    }
    if word & raw::FUTEX_WAITERS != 0 {
        futex::wake_address(address, 1);
    }
}
