//! Where the kernel's three big pieces go in its half of the address space, each at random and by itself.
//!
//! ```text
//!   slots 256..383   direct map    any 2 MiB boundary (its pages are 2 MiB)    24.9 bits
//!   slots 383..510   task stacks   any 64 KiB boundary (a stack's slot)        29.9 bits
//!   slot  511        image         any page of the lower GiB less 16 MiB         17.9 bits
//!                    entry area    any page of the upper GiB: the library chooses
//! ```
//!
//! Each piece has a window of its own. So none can be in another's way, and where one is says nothing about
//! where another is: the places are independent if the random numbers are.

use core::ops::Range;

/// Bytes of a top-level slot.
const SLOT: u64 = 1 << 39;

/// Bytes of addresses that the direct map takes.
pub const DIRECT_MAP_BYTES: u64 = SLOT;
/// Bytes of addresses that the task stacks take.
pub const STACKS_BYTES: u64 = SLOT;
/// The place of the direct map is a multiple of this.
pub const DIRECT_MAP_STEP: u64 = 2 << 20;
/// The place of the task stacks is a multiple of this.
pub const STACKS_STEP: u64 = 64 << 10;
/// The place of the image is a multiple of this.
pub const IMAGE_STEP: u64 = 4096;

/// Addresses that the direct map may have.
pub const DIRECT_MAP_WINDOW: Range<u64> = slot(256)..slot(383);
/// Addresses that the task stacks may have.
pub const STACKS_WINDOW: Range<u64> = slot(383)..slot(510);
/// Where the image is linked: physical addresses are added to this.
pub const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// Addresses that the image may have. 16 MiB stay free below, because code has sums of an address and what will be
/// subtracted again in 32 bits, and these must stay negative.
pub const IMAGE_WINDOW: Range<u64> = IMAGE_BASE + (16 << 20)..IMAGE_BASE + (1 << 30);

/// The first address of a top-level slot of the kernel half.
const fn slot(number: u64) -> u64 {
    (0xffff << 48) | (number * SLOT)
}

/// Where everything is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// What is added to each address of the image as linked; it wraps if the image went down.
    pub slide: u64,
    /// Physical address 0.
    pub direct_map: u64,
    /// The first task stack's slot.
    pub stacks: u64,
    /// Whether chance decided.
    pub random: bool,
}

impl Places {
    /// Where everything is without randomness.
    pub const FIXED: Places = Places {
        slide: 0,
        direct_map: DIRECT_MAP_WINDOW.start,
        stacks: DIRECT_MAP_WINDOW.start + DIRECT_MAP_BYTES,
        random: false,
    };

    /// Places by three random numbers. `image`: the addresses of the image as linked, whole pages.
    pub fn choose(random: [u64; 3], image: &Range<u64>) -> Places {
        let [for_image, for_direct_map, for_stacks] = random;
        let bytes = image.end.saturating_sub(image.start);
        Places {
            slide: pick(for_image, &IMAGE_WINDOW, bytes, IMAGE_STEP).wrapping_sub(image.start),
            direct_map: pick(for_direct_map, &DIRECT_MAP_WINDOW, DIRECT_MAP_BYTES, DIRECT_MAP_STEP),
            stacks: pick(for_stacks, &STACKS_WINDOW, STACKS_BYTES, STACKS_STEP),
            random: true,
        }
    }
}

/// How many places there are for `bytes` in a window, every `step`.
pub const fn positions(window: &Range<u64>, bytes: u64, step: u64) -> u64 {
    (window.end - window.start).saturating_sub(bytes) / step + 1
}

/// One of the places, all equally likely if `random` is uniform.
fn pick(random: u64, window: &Range<u64>, bytes: u64, step: u64) -> u64 {
    let positions = u128::from(positions(window, bytes, step));
    window.start + ((u128::from(random) * positions) >> 64) as u64 * step
}

/// Whether a kernel's command line asks for places without randomness: `nokaslr`, as Linux spells it.
pub fn refused(command_line: &[u8]) -> bool {
    let mut words = command_line.split(u8::is_ascii_whitespace).take_while(|word| *word != b"--");
    words.any(|word| word == b"nokaslr")
}

const _: () = assert!(
    DIRECT_MAP_WINDOW.end <= STACKS_WINDOW.start && STACKS_WINDOW.end <= IMAGE_BASE,
    "windows that share addresses would need places that depend on each other"
);

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Range<u64> = 0xffff_ffff_8010_b000..0xffff_ffff_801f_4000;
    const BYTES: u64 = IMAGE.end - IMAGE.start;

    /// SplitMix64.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn image(places: &Places) -> Range<u64> {
        IMAGE.start.wrapping_add(places.slide)..IMAGE.end.wrapping_add(places.slide)
    }

    #[test]
    fn the_extremes_of_chance_stay_in_their_windows() {
        let first = Places::choose([0; 3], &IMAGE);
        assert_eq!(image(&first).start, IMAGE_WINDOW.start);
        assert_eq!(first.direct_map, DIRECT_MAP_WINDOW.start);
        assert_eq!(first.stacks, STACKS_WINDOW.start);
        let last = Places::choose([u64::MAX; 3], &IMAGE);
        assert_eq!(image(&last).end, IMAGE_WINDOW.end);
        assert_eq!(last.direct_map + DIRECT_MAP_BYTES, DIRECT_MAP_WINDOW.end);
        assert_eq!(last.stacks + STACKS_BYTES, STACKS_WINDOW.end);
    }

    #[test]
    fn places_are_aligned_and_inside() {
        let mut state = 1;
        for _ in 0..10_000 {
            let random = [(); 3].map(|()| random(&mut state));
            let places = Places::choose(random, &IMAGE);
            let at = image(&places);
            assert!(IMAGE_WINDOW.start <= at.start && at.end <= IMAGE_WINDOW.end);
            assert!(at.start.is_multiple_of(IMAGE_STEP));
            assert!(places.direct_map.is_multiple_of(DIRECT_MAP_STEP));
            assert!(places.direct_map + DIRECT_MAP_BYTES <= DIRECT_MAP_WINDOW.end);
            assert!(places.stacks.is_multiple_of(STACKS_STEP));
            assert!(places.stacks + STACKS_BYTES <= STACKS_WINDOW.end);
        }
    }

    #[test]
    fn each_number_moves_one_place_alone() {
        let base = Places::choose([1 << 63; 3], &IMAGE);
        for which in 0..3 {
            let mut random = [1 << 63; 3];
            random[which] = 1 << 62;
            let moved = Places::choose(random, &IMAGE);
            let differs = [
                moved.slide != base.slide,
                moved.direct_map != base.direct_map,
                moved.stacks != base.stacks,
            ];
            assert_eq!(differs, core::array::from_fn(|index| index == which));
        }
    }

    #[test]
    fn the_bits_are_as_documented() {
        let bits = |window, bytes, step| (positions(window, bytes, step) as f64).log2();
        assert!(bits(&IMAGE_WINDOW, BYTES, IMAGE_STEP) > 17.9);
        assert!(bits(&DIRECT_MAP_WINDOW, DIRECT_MAP_BYTES, DIRECT_MAP_STEP) > 24.9);
        assert!(bits(&STACKS_WINDOW, STACKS_BYTES, STACKS_STEP) > 29.9);
    }

    #[test]
    fn every_place_is_as_likely_as_another() {
        // Each 16th of the window, by 16,000 draws: 1,000 each, and 200 are six standard deviations.
        let mut state = 2;
        let mut counts = [[0u32; 16]; 3];
        for _ in 0..16_000 {
            let random = [(); 3].map(|()| random(&mut state));
            let places = Places::choose(random, &IMAGE);
            let parts = [
                (image(&places).start, IMAGE_WINDOW, BYTES),
                (places.direct_map, DIRECT_MAP_WINDOW, DIRECT_MAP_BYTES),
                (places.stacks, STACKS_WINDOW, STACKS_BYTES),
            ];
            for (count, (place, window, bytes)) in counts.iter_mut().zip(parts) {
                let room = u128::from(window.end - window.start - bytes) + 1;
                count[(u128::from(place - window.start) * 16 / room) as usize] += 1;
            }
        }
        for count in counts.iter().flatten() {
            assert!(count.abs_diff(1000) < 200, "{counts:?}");
        }
    }

    #[test]
    fn without_randomness_nothing_overlaps_either() {
        let Places { slide, direct_map, stacks, random } = Places::FIXED;
        assert_eq!((slide, random), (0, false));
        assert!(direct_map + DIRECT_MAP_BYTES <= stacks && stacks + STACKS_BYTES <= slot(510));
    }

    #[test]
    fn only_the_kernels_own_word_refuses() {
        assert!(refused(b"console=ttyS0 nokaslr pti=on"));
        for line in [&b"console=ttyS0"[..], b"", b"kaslr nokaslr2 x=nokaslr", b"quiet -- nokaslr"] {
            assert!(!refused(line));
        }
    }
}
