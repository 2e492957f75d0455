//! Names that follow from how pages lie: espfix, the vsyscall page, the kernel image, the direct map, task stacks.
//!
//! - **espfix**: the same read-only page under addresses that differ by multiples of 64 KiB, so that bits 16 to 31 of
//!   a stack pointer into it may be anything.
//! - **direct map**: the most memory that is mapped with one and the same distance between virtual and physical.
//! - **kernel image**: what lies together with executable supervisor memory at one such distance.
//! - **task stack**: a stretch of writable pages with holes on both sides whose last five words are the frame of an
//!   interrupt from ring 3, or that a CPU's RSP points into while it is in the kernel.

use std::collections::{HashMap, HashSet};

use crate::document::{Kind, Region};
use crate::tables::Tables;

const PAGE: u64 = 4096;
/// What IRETQ to a 16-bit stack segment leaves alone starts at this bit.
const ESPFIX_STEP: u64 = 1 << 16;
/// Shown at this many places a page is no mere alias.
const ESPFIX_PLACES: usize = 4;
/// Less than this mapped at one distance is no direct map.
const DIRECT_MAP_LEAST: u64 = 2 << 20;
/// The image's parts are no further from its text than this.
const IMAGE_REACH: u64 = 1 << 30;
/// Least and most bytes of a task stack.
const STACK_LEAST: u64 = 2 * PAGE;
const STACK_MOST: u64 = 16 * PAGE;
/// Stretches whose top is read.
const STACKS_MOST: usize = 1 << 16;

/// Linux's page for programs that call `gettimeofday` at a fixed address.
pub const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// Which physical pages are espfix stacks.
pub fn espfix(runs: &[Region]) -> HashSet<u64> {
    let small = runs.iter().filter(|run| {
        let rights = run.rights;
        run.pages <= 512 && !rights.writable && !rights.executable && !rights.user
    });
    let mut places: HashMap<(u64, u64), usize> = HashMap::new();
    let mut found = HashSet::new();
    for run in small {
        if run.repeats.is_some() {
            found.insert(run.physical);
            continue;
        }
        let count = places.entry((run.physical, run.address % ESPFIX_STEP)).or_default();
        *count += 1;
        if *count >= ESPFIX_PLACES {
            found.insert(run.physical);
        }
    }
    found
}

/// Distances between virtual and physical addresses that mean something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Distances {
    /// Of the direct map.
    pub direct_map: Option<u64>,
    /// Of the kernel image, and an address in its text.
    pub image: Option<(u64, u64)>,
}

/// Finds the distances in the runs of a kernel's root. `entry` says what is entry text: that may be a copy.
pub fn distances(runs: &[Region], entry: &dyn Fn(&Region) -> bool) -> Distances {
    #[derive(Default)]
    struct Sum {
        bytes: u64,
        /// The longest executable run: its length and address.
        text: (u64, u64),
    }
    let mut sums: HashMap<u64, Sum> = HashMap::new();
    let linear = runs.iter().filter(|run| {
        run.contiguous && !run.rights.user && run.repeats.is_none() && (run.address as i64) < 0
    });
    for run in linear {
        let sum = sums.entry(run.address.wrapping_sub(run.physical)).or_default();
        if run.rights.executable && entry(run) {
            continue;
        }
        sum.bytes = sum.bytes.saturating_add(run.bytes);
        if run.rights.executable && run.bytes > sum.text.0 {
            sum.text = (run.bytes, run.address);
        }
    }
    let image = sums.iter().filter(|(_, sum)| sum.text.0 > PAGE);
    let image = image.max_by_key(|(distance, sum)| (sum.text.0, **distance));
    let image = image.map(|(distance, sum)| (*distance, sum.text.1));
    let most = sums.iter().filter(|(distance, sum)| {
        // Devices are mapped at their own distance each; no device has the first MiBs.
        let other = image.is_none_or(|(image, _)| image != **distance);
        sum.bytes >= DIRECT_MAP_LEAST && other
    });
    let most = most.max_by_key(|(distance, sum)| (sum.bytes, **distance));
    Distances { direct_map: most.map(|(distance, _)| *distance), image }
}

impl Distances {
    /// What a run is, by its distance.
    pub fn kind(&self, run: &Region) -> Option<Kind> {
        if !run.contiguous || run.rights.user {
            return None;
        }
        let distance = run.address.wrapping_sub(run.physical);
        if let Some((image, text)) = self.image
            && distance == image
            && run.address.abs_diff(text) < IMAGE_REACH
        {
            return Some(Kind::Image);
        }
        (Some(distance) == self.direct_map).then_some(Kind::DirectMap)
    }
}

/// Stretches of the runs that are task stacks: first address and length. `skip` says what is known to be something
/// else.
pub fn task_stacks(
    runs: &[Region],
    space: &Tables,
    stack_pointers: &[u64],
    skip: &dyn Fn(&Region) -> bool,
) -> Vec<(u64, u64)> {
    let candidates = runs.iter().filter(|run| {
        let rights = run.rights;
        rights.writable && !rights.executable && !rights.user && run.page_size == PAGE && !skip(run)
    });
    let mut stretches: Vec<(u64, u64)> = Vec::new();
    for run in candidates {
        match stretches.last_mut() {
            Some((first, bytes)) if first.wrapping_add(*bytes) == run.address => {
                *bytes += run.bytes
            }
            _ => stretches.push((run.address, run.bytes)),
        }
    }
    let size = STACK_LEAST..=STACK_MOST;
    let stretches = stretches.into_iter().filter(|(_, bytes)| size.contains(bytes));
    let stretches = stretches.filter(|(first, _)| (*first as i64) < 0).take(STACKS_MOST);
    let is_stack = |(first, bytes): &(u64, u64)| {
        let holds = |pointer: &u64| pointer.wrapping_sub(*first) < *bytes;
        stack_pointers.iter().any(holds) || user_frame(space, first.wrapping_add(*bytes)).is_some()
    };
    stretches.filter(is_stack).collect()
}

/// The frame of an interrupt from ring 3 right below `top`: RIP, CS, RFLAGS, RSP, SS.
pub fn user_frame(space: &Tables, top: u64) -> Option<[u64; 5]> {
    let mut bytes = [0; 40];
    if !space.read(top.wrapping_sub(40), &mut bytes) {
        return None;
    }
    let mut frame = [0; 5];
    for (word, bytes) in frame.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
    }
    let [rip, cs, rflags, rsp, ss] = frame;
    let ring_3 = |selector: u64| selector & 3 == 3 && selector <= 0xffff;
    let user = |address: u64| (address as i64) >= 0;
    // Bit 1 of RFLAGS is always set, bits above 21 never.
    let flags = rflags & 2 != 0 && rflags >> 22 == 0;
    (ring_3(cs) && ring_3(ss) && user(rip) && user(rsp) && flags).then_some(frame)
}
