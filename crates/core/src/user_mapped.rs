//! The compile-time check of user-mapped per-CPU data.
//!
//! Data that must stay reachable under the user root shares a page with the entry stack, so there is
//! a fixed budget of bytes for it. Invariant: data beyond the budget is a compile error, never an
//! overlap with a stack.
//!
//! ```text
//!   stack page   ├─ stacks, scratch word ─┼─ user-mapped variables: budget ─┤
//! ```
//!
//! ```
//! struct Variables { ticks: u64, features: [u32; 4] }
//! const _: () = ringwall_core::user_mapped::assert_fits::<Variables>(256, 16);
//! ```
//!
//! ```compile_fail
//! const _: () = ringwall_core::user_mapped::assert_fits::<[u8; 257]>(256, 16);
//! ```

/// Whether a `T` fits into `budget` bytes that start at a multiple of `align` bytes.
#[must_use]
pub const fn fits<T>(budget: usize, align: usize) -> bool {
    size_of::<T>() <= budget && align_of::<T>() <= align
}

/// Refuses, at compile time when used in a `const`, a `T` that does not fit into `budget` bytes that
/// start at a multiple of `align` bytes.
///
/// # Panics
///
/// If it does not fit.
pub const fn assert_fits<T>(budget: usize, align: usize) {
    assert!(size_of::<T>() <= budget, "user-mapped data exceeds its bytes of the stack page");
    assert!(
        align_of::<T>() <= align,
        "user-mapped data asks for more alignment than its place has"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_alignment_both_count() {
        assert!(fits::<[u64; 4]>(32, 8));
        assert!(!fits::<[u64; 4]>(31, 8));
        assert!(!fits::<u64>(32, 4));
        assert!(fits::<()>(0, 1));
    }
}
