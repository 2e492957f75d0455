//! Kernel page-table isolation as data.
//!
//! What is mapped where, with which bits, in which of the two roots, and whether isolation is on at
//! all: everything about it that can be said with numbers is said here, once. The `ringwall` crate
//! builds its page tables and its entry code from it; checks and documentation read the same tables.
//!
//! ```text
//!            user root                        kernel root
//!   511  ┌──────────────────┐           511 ┌──────────────────┐
//!        │ entry area only  │  area,        │ the whole kernel,│
//!        │ (shared ranges)  │  exposed,     │ entry area in its│
//!   256  ├──────────────────┤  shared   256 │ kernel view      │
//!        │ user half        │               ├──────────────────┤
//!        │                  │◄── the same ─►│ user half, NX at │
//!     0  └──────────────────┘    tables   0 │ the top level    │
//!              root                         └──────────────────┘
//! ```
//!
//! Addresses are plain `u64`s in bytes; [`paging`] names the bits.
//!
//! Invariants (many of them absences): no unsafe code; no assembly and no instruction that reads the
//! machine, so that every line runs and is tested on the host; no static, so that whoever calls owns
//! what there is to own; no heap; no dependency.
//!
//! Only four-level paging is described: with five levels (CR4.LA57) the user half, the slots and
//! [`paging::canonical`] differ.
//!
//! Read on in this order: [`paging`], [`root`], [`area`], [`exposed`], [`shared`], [`private`], [`segment`],
//! [`user_mapped`], [`policy`], [`hardening`], [`tlb`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod area;
pub mod exposed;
pub mod hardening;
pub mod paging;
pub mod policy;
pub mod private;
pub mod root;
pub mod segment;
pub mod shared;
mod sync;
pub mod tlb;
pub mod user_mapped;

pub use area::{AREA_BYTES, AREA_PAGES, CPU_PAGES, MAX_CPUS, PAGE_SIZE, SHARED_PAGES};
pub use area::{AreaError, CpuArea, EntryArea, Page, Place};
pub use exposed::{Access, EXPOSED, Exposed, Scope, View};
pub use hardening::{Hardening, Measure};
pub use policy::{CpuFacts, Decision, Policy, Status};
pub use root::{Halves, Pcid, RootError, RootPair};
pub use shared::{ShareError, SharedRange, SharedRanges};
