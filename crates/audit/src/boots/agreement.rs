//! Whether two series of addresses, one value a boot, move together, and how much one says about the other.
//!
//! A base that is one of `N` equally likely places has `log2 N` bits. `N` is not known; it is guessed from the
//! places that were seen: their common alignment `g` (the lowest bit in which any two differ) and their spread `s`
//! (highest less lowest). Of `n` uniform draws the spread is `(n - 1) / (n + 1)` of the whole range on average, so
//!
//! ```text
//!   bits(s) = log2( s / g * (n + 1) / (n - 1) + 1 )
//! ```
//!
//! With few boots the guess is rough: `s` may be small by chance (a bit or two with two boots), and any one bit above
//! the true alignment looks unused with probability `2^-(n - 1)`.
//!
//! What is visible keeps its distance `d` from a base, or does not:
//!
//! - `d` is the same in all boots: all the base's bits are given away;
//! - the low bits of `d` above `g` are the same: the base's bits at those places are;
//! - `d` spreads less than the base does: `bits(base) - bits(d)` are, the high ones.
//!
//! Independent values agree in `b` low bits by chance with probability `2^-b(n - 1)`, and in `b` high ones with
//! `n * 2^-b(n - 1)`. A part counts only where no comparison of all those that are made would agree so well by chance
//! more often than [`CHANCE`] says. So two boots show part of a small secret to nobody.

/// Bits of evidence that partial agreement takes: one look in a thousand finds it by chance.
const CHANCE: f64 = 10.0;

/// What a series of addresses says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Values that differ from all before them.
    pub distinct: usize,
    /// Number of low bits that are the same in all of them; 64 if they all are equal.
    pub alignment: u32,
    /// Estimated entropy; 0 if all are equal.
    pub bits: f64,
}

/// How a visible series goes with a base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Agreement {
    /// The distance never changes: this many bits of the base are given away.
    Whole(f64),
    /// Part of the distance never changes: this many bits are.
    Part(f64),
    /// Nothing of it can be seen.
    None,
}

/// Alignment, spread and entropy of a series.
pub fn spread(values: &[u64]) -> Spread {
    let mut distinct = values.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let alignment = common_low_bits(values);
    Spread { distinct: distinct.len(), alignment, bits: bits(values, alignment) }
}

/// How `seen` moves with `base`, boot by boot; both have the same length. This is one of so many `comparisons`.
pub fn agreement(base: &[u64], seen: &[u64], comparisons: usize) -> Agreement {
    let of_base = spread(base);
    if of_base.distinct < 2 || spread(seen).distinct < 2 {
        return Agreement::None;
    }
    let distances: Vec<u64> = seen.iter().zip(base).map(|(a, b)| a.wrapping_sub(*b)).collect();
    let same = common_low_bits(&distances);
    if same == u64::BITS {
        return Agreement::Whole(of_base.bits);
    }
    // What lies above the base's estimated bits says nothing about it.
    let low = f64::from(same.saturating_sub(of_base.alignment)).min(of_base.bits);
    let high = (of_base.bits - bits(&distances, of_base.alignment)).max(0.0);
    let part = low.max(high);
    let boots = base.len() as f64;
    let evidence = CHANCE + (comparisons.max(1) as f64).log2() + boots.log2();
    if part * (boots - 1.0) >= evidence { Agreement::Part(part) } else { Agreement::None }
}

/// Number of low bits that all values have in common.
fn common_low_bits(values: &[u64]) -> u32 {
    let first = values.first().copied().unwrap_or(0);
    values.iter().fold(0, |different, value| different | (value ^ first)).trailing_zeros()
}

/// The estimate of the module's head. Distances may be negative, so values are taken relative to the first.
fn bits(values: &[u64], alignment: u32) -> f64 {
    let first = values.first().copied().unwrap_or(0);
    let moves = || values.iter().map(|value| i128::from(value.wrapping_sub(first) as i64));
    let spread = moves().max().unwrap_or(0) - moves().min().unwrap_or(0);
    if spread == 0 {
        return 0.0;
    }
    let boots = values.len() as f64;
    let steps = spread as f64 / 2_f64.powi(alignment as i32);
    (steps * (boots + 1.0) / (boots - 1.0) + 1.0).log2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB2: u64 = 0x20_0000;
    const IMAGE: u64 = 0xffff_ffff_8000_0000;

    fn slid(by: [u64; 3]) -> Vec<u64> {
        by.map(|steps| IMAGE + steps * MIB2).into()
    }

    #[test]
    fn the_entropy_of_three_uniform_draws_is_about_that_of_all_places() {
        // Quarters of 512 places: just what uniform draws look like on average.
        let seen = spread(&slid([128, 256 + 1, 384]));
        assert_eq!((seen.distinct, seen.alignment), (3, 21));
        assert!((seen.bits - 9.0).abs() < 0.1, "{seen:?}");
    }

    #[test]
    fn what_keeps_its_distance_gives_all_away() {
        let base = slid([3, 200, 77]);
        let seen: Vec<u64> = base.iter().map(|base| base + 0xe0_0000).collect();
        assert_eq!(agreement(&base, &seen, 1), Agreement::Whole(spread(&base).bits));
    }

    #[test]
    fn what_is_fixed_or_moves_by_itself_gives_nothing_away() {
        let base = slid([3, 200, 77]);
        assert_eq!(agreement(&base, &[IMAGE; 3], 1), Agreement::None);
        assert_eq!(agreement(&base, &slid([411, 9, 130]), 1), Agreement::None);
        assert_eq!(agreement(&[IMAGE; 3], &slid([411, 9, 130]), 1), Agreement::None);
    }

    #[test]
    fn shared_low_bits_are_counted() {
        // Seven of nine bits: each is slid on by a multiple of 128 steps.
        let base = slid([3, 200, 77]);
        let seen = slid([3 + 256, 200 + 128, 77]);
        assert_eq!(agreement(&base, &seen, 1), Agreement::Part(7.0));
    }

    #[test]
    fn shared_high_bits_are_counted() {
        // The direct map has 15 bits of 1 GiB steps here; what is seen stays within 8 GiB of it.
        let base: Vec<u64> = [100, 29_000, 12_345].map(|steps| steps << 30).into();
        let seen: Vec<u64> = base.iter().zip([0, 5 << 30, 7 << 30]).map(|(b, d)| b + d).collect();
        let Agreement::Part(bits) = agreement(&base, &seen, 1) else { panic!("not seen") };
        assert!((11.0..13.0).contains(&bits), "{bits}");
    }

    #[test]
    fn a_few_equal_bits_are_chance() {
        // The lowest two bits agree: one in sixteen.
        assert_eq!(agreement(&slid([0, 5, 300]), &slid([4, 9 + 256, 12]), 1), Agreement::None);
    }

    #[test]
    fn many_that_move_by_themselves_are_not_taken_for_anything_else() {
        // What Linux does with the areas of 64 CPUs, a hundred times three boots.
        let mut state = 1_u64;
        let mut random = |places: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % places
        };
        for _ in 0..100 {
            let base: Vec<u64> = (0..3).map(|_| IMAGE + random(512) * MIB2).collect();
            for _ in 0..64 {
                let seen: Vec<u64> =
                    (0..3).map(|_| (0xfffffe << 40) + random(1 << 27) * 0x1000).collect();
                assert_eq!(agreement(&base, &seen, 64 * 5), Agreement::None, "{base:x?} {seen:x?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_series_is_survived(pairs in prop::collection::vec(any::<(u64, u64)>(), 0..6)) {
            let (base, seen): (Vec<u64>, Vec<u64>) = pairs.into_iter().unzip();
            let bits = match agreement(&base, &seen, 1) {
                Agreement::Whole(bits) | Agreement::Part(bits) => bits,
                Agreement::None => 0.0,
            };
            prop_assert!((0.0..=70.0).contains(&bits));
        }
    }
}
