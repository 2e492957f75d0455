//! Per-CPU variables that stay reachable under the user root.
//!
//! For what the CPU or the entry code itself must reach there. They stand in the stack page's user view,
//! so a program on a CPU with Meltdown can read them.
//!
//! Invariant: no pointer gets in. Only types of [`UserMapped`] do, and all of them together fit the
//! page, checked at compile time.

use crate::cpu::Cpu;
use crate::entry::layout::{StackPage, USER_MAPPED_BYTES};
use core::mem::offset_of;

/// Plain data: nothing in it tells where kernel memory is.
///
/// # Safety
/// No pointer, reference, address or secret in any value of the type; every bit pattern is valid.
pub unsafe trait UserMapped: Copy + 'static {}

macro_rules! plain {
    ($($name:ty)*) => { $(
        // SAFETY: a number that its user must not make an address.
        unsafe impl UserMapped for $name {}
    )* };
}
plain! { u8 u16 u32 u64 i8 i16 i32 i64 }

// SAFETY: as its elements.
unsafe impl<T: UserMapped, const N: usize> UserMapped for [T; N] {}

/// A struct made by [`crate::user_mapped!`]: a kernel has one.
///
/// # Safety
/// Made by the macro alone.
pub unsafe trait UserMappedBlock: UserMapped {}

/// Bytes that a block may have.
pub const LIMIT: usize = USER_MAPPED_BYTES;

/// Declares the kernel's user-mapped per-CPU variables, as a struct of plain fields.
///
/// ```
/// ringwall::user_mapped! {
///     /// What stays reachable.
///     pub struct Reachable {
///         /// A debug store's threshold.
///         pub threshold: u64,
///         /// Its records.
///         pub records: [u32; 16],
///     }
/// }
/// ```
///
/// A pointer does not compile:
///
/// ```compile_fail
/// ringwall::user_mapped! { pub struct Reachable { pub task: *const u8 } }
/// ```
///
/// Nor does more than the page has room for:
///
/// ```compile_fail
/// ringwall::user_mapped! { pub struct Reachable { pub much: [u64; 512] } }
/// ```
#[macro_export]
macro_rules! user_mapped {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident {
        $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident : $type:ty),* $(,)?
    }) => {
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $type,)*
        }
        const _: () = {
            const fn plain<T: $crate::user_mapped::UserMapped>() {}
            $(plain::<$type>();)*
            $crate::core::user_mapped::assert_fits::<$name>($crate::user_mapped::LIMIT, 16);
        };
        // SAFETY: every field is of a `UserMapped` type, checked above.
        unsafe impl $crate::user_mapped::UserMapped for $name {}
        // SAFETY: made by the macro; its size is checked above.
        unsafe impl $crate::user_mapped::UserMappedBlock for $name {}
    };
}

impl Cpu {
    /// This CPU's block, through the kernel-only alias. All zeros at first.
    pub fn user_mapped<T: UserMappedBlock>(&self) -> *mut T {
        (self.area().alias() + offset_of!(StackPage, user_mapped) as u64) as *mut T
    }

    /// Where the block is under the user root: what to tell the CPU.
    pub fn user_mapped_address<T: UserMappedBlock>(&self) -> u64 {
        self.area().stack() + offset_of!(StackPage, user_mapped) as u64
    }
}
